"""A virtual environment for each of the other servers, made when it is first asked for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["NotInstallable", "installed", "python_of"]

SHARED = ("httptools", "numpy", "onnxruntime", "uvloop")
"""What every one of them gets besides itself, so that none is slower for want of it."""
DEADLINE_SECONDS = 600


class NotInstallable(Exception):
    """A package could not be had here."""


def python_of(package: str) -> Path:
    """The interpreter of the package's environment beside epochd's own.

    Raises:
        NotInstallable: there is no index to install it from, or it does not fit this Python.
    """
    folder = Path(sys.prefix) / f"bench-{package}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"making {folder} ...", flush=True)
        try:
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(python), package, *SHARED)
        except (NotInstallable, subprocess.TimeoutExpired) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise NotInstallable(str(error)) from None
        complete.touch()
    return python


def installed(python: Path, package: str) -> tuple[str, str]:
    """The package's version, and those of what it works with."""
    found = {
        one["name"]: one["version"] for one in json.loads(_uv("pip", "list", "--format=json", "--python", str(python)))
    }
    others = ", ".join(f"{name} {found[name]}" for name in ("starlette", "uvicorn", *SHARED) if name in found)
    return found[package], others


def _uv(*arguments: str) -> str:
    """Run uv.

    Raises:
        NotInstallable: it failed.
    """
    program = shutil.which("uv", path=str(Path(sys.prefix) / "bin")) or shutil.which("uv")
    if program is None:
        raise NotInstallable("uv is not installed: make setup-dev")
    done = subprocess.run(
        [program, "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_SECONDS,
    )
    if done.returncode:
        raise NotInstallable(" ".join(done.stderr.split())[-300:])
    return done.stdout
