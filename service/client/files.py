"""Files that are written whole or not at all."""

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to. It appears, or takes the place of an older one, when the context is left without an error;
    else nothing has changed. Links are followed. A device or a pipe is written to as it is.

    Raises:
        OSError: it cannot be written; `filename` is the path.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        partial = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with partial.open("xb") as file:
                yield file
            if target.exists():
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        # Nobody knows the partial file's name.
        raise OSError(error.errno, error.strerror, str(path)) from error
