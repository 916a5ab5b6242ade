"""What a stranger reads is true: settings, endpoints, links, the state diagram, and every command of the tour."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.domain.experiment import TRANSITIONS, Status
from service.main import create
from service.settings import Settings
from tests.acceptance.conftest import serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

TOUR_SECONDS = 240

# In the tests' own words: a default that is no single value, and one that is none at all.
COMPUTED = {"slots": "cores, at most 4"}
NOTHING = {"None": "none", "": "empty"}


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title}"
    return found[1]


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def tour() -> list[str]:
    return code_blocks(section(README, "A tour with curl"), "bash")


def expected_problem(block: str) -> str | None:
    """The status of the problem that a block wants, as its first line says: `# 409: why`."""
    found = re.match(r"# (\d{3}): ", block)
    return found and found[1]


# Settings.


def settings_table() -> dict[str, str]:
    rows = re.findall(r"^\| `(EPOCHD_\w+)` \| (.*?) \| (.+) \|$", section(README, "Settings"), re.MULTILINE)
    assert len({name for name, _, _ in rows}) == len(rows), "a setting stands twice in the table"
    return {name: default for name, default, _ in rows}


def test_the_readme_lists_exactly_the_settings_that_exist() -> None:
    assert list(settings_table()) == [f"EPOCHD_{name.upper()}" for name in Settings.model_fields]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_gives_a_settings_default(name: str) -> None:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        expected = COMPUTED[name]
    else:
        expected = NOTHING.get(str(field.default)) or f"`{field.default}`"
    assert settings_table()[f"EPOCHD_{name.upper()}"] == expected


# Endpoints.


def requests_of(block: str) -> list[tuple[str, str]]:
    """Method and path of each curl command. Shell variables stay in the path as they are."""
    requests = []
    for command in block.replace("\\\n", " ").split("curl ")[1:]:
        command = command.splitlines()[0]
        path = re.search(r"\$EPOCHD(/[^\"?\s]*)", command)
        assert path is not None, f"no path in: curl {command}"
        method = re.search(r"-X (\w+)", command)
        sends = re.search(r"\s(-d|-F|--data-binary)\s", command)
        requests.append((method[1] if method else "POST" if sends else "GET", path[1]))
    return requests


def test_the_tour_visits_every_endpoint_and_no_other() -> None:
    requests = {request for block in tour() for request in requests_of(block)}
    schema = create(Settings()).openapi()
    operations = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    patterns = {
        (method, path): re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))) for method, path in operations
    }
    pages = {("GET", "/openapi.json"), ("GET", "/$PAGE")}
    visited = {
        operation
        for operation, pattern in patterns.items()
        for method, path in requests
        if method == operation[0] and pattern.fullmatch(path)
    }
    assert operations - visited == set()
    unknown = {
        (method, path)
        for method, path in requests - pages
        if not any(method == of and pattern.fullmatch(path) for (of, _), pattern in patterns.items())
    }
    assert unknown == set()


# Links and figures.


def anchors(text: str) -> set[str]:
    """The names that a page's headings get on GitHub."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_the_architecture_names_exactly_the_rooms_there_are() -> None:
    text = section((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "Rooms")
    package = ROOT / "service"
    rooms = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    rooms |= {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^\| `(\S+)` \|", text, re.MULTILINE)) == rooms


def test_every_decision_has_the_same_three_parts_and_the_next_number() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [record.name[:5] for record in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Consequences"], record.name


def test_the_state_diagram_shows_exactly_the_transitions() -> None:
    diagrams = [
        block
        for block in code_blocks((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "mermaid")
        if block.startswith("stateDiagram")
    ]
    assert len(diagrams) == 1
    drawn = re.findall(r"^\s*(\S+) --> (\S+)", diagrams[0], re.MULTILINE)
    assert len(set(drawn)) == len(drawn), "an arrow is drawn twice"
    expected = {(source.value, target.value) for source, targets in TRANSITIONS.items() for target in targets}
    expected |= {("[*]", Status.QUEUED.value)} | {(status.value, "[*]") for status in Status if status.terminal}
    assert set(drawn) == expected


# The tour, really.


def script(url: str, data_dir: Path) -> str:
    """The tour as one program that stops at the first command that fails, with this service and these paths."""
    blocks = tour()
    for name, value in {"EPOCHD": url, "DATA": str(data_dir), "PYTHON": sys.executable}.items():
        found = re.findall(rf"^{name}=\S+", blocks[0], re.MULTILINE)
        assert len(found) == 1, f"the tour's first block does not set {name} once"
        blocks[0] = blocks[0].replace(found[0], f"{name}={shlex.quote(value)}")
    strict = 'curl() { command curl --fail "$@"; }\n'
    parts = ["set -euo pipefail\n"]
    for number, block in enumerate(blocks):
        parts += [f"echo '@@ {number}'\n", "unset -f curl\n" if expected_problem(block) else strict, block]
    return "".join(parts)


def answer_to(blocks: list[str], outputs: list[str], command: str) -> str:
    """What the first block with this in it printed."""
    return next(output for block, output in zip(blocks, outputs, strict=True) if command in block)


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="the tour needs bash and curl")
def test_the_tour_works_when_it_is_pasted_in_order(data_dir: Path, tmp_path: Path) -> None:
    work = tmp_path / "tour"
    work.mkdir()
    with serving(data_dir) as service:
        done = subprocess.run(
            ["bash", "-c", script(service.url, data_dir)],
            cwd=work,
            env=os.environ | {"HOME": str(work), "TMPDIR": str(work), "NO_PROXY": "*", "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=TOUR_SECONDS,
            check=False,
        )
    told = f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, told
    outputs = re.split(r"^@@ \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    blocks = tour()
    assert len(outputs) == len(blocks), told
    for block, output in zip(blocks, outputs, strict=True):
        status = expected_problem(block)
        assert ("urn:epochd:problem:" in output) is (status is not None), f"{block}\n{output}"
        assert status is None or f'"status": {status}' in output, f"{block}\n{output}"

    assert answer_to(blocks, outputs, "/health/ready").count("\nevent: epoch\n") == 10
    first, again = answer_to(blocks, outputs, "Idempotency-Key").split()
    assert first == again
    assert answer_to(blocks, outputs, 'pick \'["predictions"][1]').split()[-3:] == ["7", "7", "7"]
    assert answer_to(blocks, outputs, "--etag-compare").startswith("304\n")
    assert '"status": "cancelled"' in answer_to(blocks, outputs, "/cancel")
    weights, repeated = answer_to(blocks, outputs, "/retry").split()
    assert weights == repeated
