"""The command in a fork of a process that has its imports already: the same code and the same words, sooner.

It is for what is told before anything is done: help, misuse, errors. Where signals, streams, encodings, terminals or
the start matter, a test runs the installed command itself.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.acceptance.conftest import ENVIRONMENT

__all__ = ["call"]

SECONDS = 240
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "service.commands.application", "service.main", "alembic.command"])


def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with these arguments, from beginning to end."""
    with tempfile.TemporaryDirectory() as folder:
        told = [Path(folder) / name for name in ("stdout", "stderr")]
        process = FORKS.Process(target=_main, args=(arguments, cwd, os.environ | ENVIRONMENT | environment, told))
        process.start()
        try:
            process.join(SECONDS)
            code = process.exitcode
        finally:
            process.kill()
            process.join()
        assert code is not None, arguments
        return subprocess.CompletedProcess(arguments, code, *(path.read_text() for path in told))


def _main(arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], told: list[Path]) -> None:
    for number, path in enumerate(told, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["epochd", *arguments]
    from service.cli import main

    main()
