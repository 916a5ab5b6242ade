"""The blocks of the documentation's pages, and how to run them.

A block that does not simply run with its page says so in the line before it: `<!-- run by test_docs_apart.py: why -->`
names the module that runs it.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

from tests.acceptance.conftest import EPOCHD

__all__ = ["DOCS", "ROOT", "RUN", "SECONDS", "Block", "address", "apart", "bash", "blocks", "ends", "lasts"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN = {"bash", "sh", "python"}
"""Languages of blocks that run."""
MARK = re.compile(r"<!-- run by (test_\w+\.py): .+ -->")
READY = "epochd is ready: "
SECONDS = 500
"""For a block to end, or to stop at Ctrl-C."""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    runs: bool
    module: str | None = None
    """The one that runs it, if it does not run with its page."""


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    marked: re.Match[str] | None = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language = token.info.strip()
            module = marked[1] if marked else None
            found.append(Block(language, token.content, language in RUN and not marked, module))
            marked = None
        else:
            assert not marked, f"{page.name}: {token.content or token.type} stands between a mark and its block"
            marked = MARK.match(token.content) if token.type == "html_block" else None
    assert not marked, f"{page.name} ends with a mark that no block follows"
    return found


def apart(page: str, module: str) -> list[str]:
    """The blocks of a page that the module with this `__file__` runs."""
    return [block.text for block in blocks(DOCS / page) if block.module == Path(module).name]


def bash(script: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """A shell of its own that finds the commands, without a terminal."""
    path = os.pathsep.join([environment.pop("FIRST", ""), str(Path(EPOCHD).parent), os.environ["PATH"]]).strip(":")
    return subprocess.Popen(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=cwd,
        env=os.environ | {"EPOCHD_PORT": "0", "PATH": path} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ends(script: str, cwd: Path, told: str = "", **environment: str) -> str:
    """What a script says that ends by itself."""
    with bash(script, cwd, **environment) as process:
        said = _rest(process, told)
    assert process.returncode == 0, said
    return said


@contextlib.contextmanager
def lasts(script: str, cwd: Path, ready: str = READY, **environment: str) -> Iterator[str]:
    """While a script runs that ends by Ctrl-C: the line that said that it was ready."""
    with bash(script, cwd, **environment) as process:
        assert process.stdout is not None
        said = ""
        try:
            while ready not in (line := process.stdout.readline()):
                said += line
                assert line, said
            yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            said = _rest(process)
    assert process.returncode in {0, -signal.SIGINT, 128 + signal.SIGINT}, said


def _rest(process: subprocess.Popen[str], told: str = "") -> str:
    """What it says until it ends; what does not in time is killed, with all that it started."""
    try:
        return process.communicate(told, timeout=SECONDS)[0]
    except BaseException:  # pytest's own limit too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def address(line: str) -> str:
    """The address that a line tells."""
    return next(word for word in line.split() if word.startswith("http://"))
