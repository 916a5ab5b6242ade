"""The documentation as a site: without warnings, and without a request to anybody else."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the documentation needs the extra docs")
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# What a browser asks for by itself. A link that a reader may follow (`a`) is none of these.
LOADED = {"audio", "embed", "iframe", "image", "img", "input", "link", "object", "script", "source", "track", "video"}
ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)


class Loads(HTMLParser):
    """The addresses of what a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADED:
            self.addresses += [value or "" for name, value in attrs if name in {"data", "href", "src", "xlink:href"}]
            self.addresses += [part for name, value in attrs if name == "srcset" for part in (value or "").split(",")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options: list[str | Path] = [
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "--builder",
        "html",
        "-d",
        folder / "trees",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, folder / "html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not (site / page).exists()} == set()
    assert (site / "notebook.html").exists()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    asked = {
        (page.name, address)
        for page in site.rglob("*.html")
        for address in Loads(page.read_text(encoding="utf-8")).addresses
        if ELSEWHERE.match(address)
    }
    assert asked == set()


def test_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    texts = [*site.rglob("*.css"), *site.rglob("*.html"), *site.rglob("*.svg")]
    asked = {
        (path.name, found)
        for path in texts
        for found in re.findall(
            r"(?:url\(|@import\s+)[\"']?\s*((?:https?:)?//[^\"')\s]+)", path.read_text(encoding="utf-8")
        )
    }
    assert asked == set()


def test_the_reference_has_the_clients_methods_as_users_see_them(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text(encoding="utf-8"))
    assert "train(" in text
    assert "Iterator[ExperimentHandle]" in text
    for inner in ("Flow[", "Stream[", "Generator[", "Carrier"):
        assert inner not in text


def test_diagrams_are_drawn_when_the_site_is_built(site: Path) -> None:
    text = (site / "architecture.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r'<div class="diagram"><svg id="(.+?)"', text))) == 2
