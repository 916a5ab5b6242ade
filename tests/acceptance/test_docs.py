"""The pages of the documentation: every block of commands or Python runs, in order, against a real service.

Those that say that another module runs them are run there.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Service, serving
from tests.acceptance.documentation import DOCS, RUN, Block, blocks
from tests.acceptance.test_pages_for_people import SECONDS, run_all

ELSEWHERE = {"client.md", "command-line.md"}
"""Pages that test_pages_for_people.py runs, and looks at what comes out."""
SHOWN = {"text", "mermaid"}
SERVICE = "127.0.0.1:8000"


def script(page: Path) -> str:
    """All blocks of a page that run, for bash. Python's that stand together are one program."""
    parts, program = ["set -euo pipefail"], ""
    for block in [*(one for one in blocks(page) if one.runs), Block("end", "", runs=False)]:
        if block.language == "python":
            program += block.text
            continue
        if program:
            parts.append(f"python -W error - <<'THE_END'\n{program}THE_END")
            program = ""
        parts.append(block.text)
    return "\n".join(parts)


PAGES = [page for page in sorted(DOCS.glob("*.md")) if any(block.runs for block in blocks(page))]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    known = RUN | SHOWN
    kinds = {block.language for block in blocks(page) if not block.language.startswith("{")}
    assert kinds <= known, f"{page.name}: a block is one of {', '.join(sorted(known))}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_module_that_is_said_to_run_a_block_takes_the_blocks_of_that_page(page: Path) -> None:
    for module in {block.module for block in blocks(page) if block.module}:
        assert f'apart("{page.name}", __file__)' in (Path(__file__).parent / module).read_text(), module


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Iterator[Service]:
    """One for all pages, as a reader has."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(mnist_dir, folder / "datasets", copy_function=os.link)
    with serving(folder) as service:
        yield service


@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.skipif(not shutil.which("bash"), reason="the pages are for bash")
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.name)
def test_a_page_works_when_it_is_pasted_in_order(page: Path, service: Service, mnist_dir: Path, tmp_path: Path) -> None:
    for folder in ("epochd-data", "resume-data"):  # where a reader's services have put the datasets
        shutil.copytree(mnist_dir, tmp_path / "work" / folder / "datasets", copy_function=os.link)
    run_all(
        ["bash", "-c", script(page).replace(SERVICE, service.url.removeprefix("http://"))],
        tmp_path / "work",
        service.url,
    )
