"""Where results can go: what every target has in common."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from service.client import Client
from service.domain.experiment import Experiment, Metrics
from service.errors import EpochdError

__all__ = ["ExportError", "Folder", "Target", "read"]


class ExportError(EpochdError):
    """The export cannot be done as it was asked for."""


class Target(Protocol):
    """Takes experiments, one after the other."""

    def add(self, experiment: Experiment) -> None:
        """Write one, with its epochs."""

    def summary(self, count: int) -> str:
        """What was written where, when all is written."""


def read(api: Client, experiment: Experiment) -> tuple[Experiment, Metrics]:
    """An experiment as it is now, and its epochs.

    Raises:
        ApiError: the service does not answer, or the experiment was deleted.
    """
    if not experiment.status.terminal:
        # In this order: what has ended has all its epochs by then.
        experiment = api.get_experiment(experiment.id).value
    return experiment, api.metrics(experiment.id)


class Folder:
    """Files that appear in a folder when all of them are whole; none does when something fails before that.

    Use it as a context manager. Other files in the folder are left alone.
    """

    def __init__(self, path: Path, names: Iterable[str], *, force: bool) -> None:
        """Makes the folder if it is not there. `names` are those that will be asked for.

        Raises:
            ExportError: a file of such a name is there already, and `force` is not given.
            OSError: it cannot be written to.
        """
        self.path = path
        if path.exists() and not path.is_dir():
            raise ExportError(f"{path} is a file, and --output takes a folder")
        for name in () if force else names:
            if (path / name).exists():
                raise ExportError(f"{path / name} is there already: --force replaces it")
        self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        # In the folder itself: a rename moves nothing then, and its parent need not be writable.
        self._staging = Path(tempfile.mkdtemp(prefix=".epochd-export-", dir=path))
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                for number, name in enumerate(self._names):
                    staged, target = self._staging / str(number), self.path / name
                    if staged.exists():  # else its experiment was deleted meanwhile
                        target.parent.mkdir(exist_ok=True)
                        staged.replace(target)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            if kind is not None:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    for folder in self._made:
                        folder.rmdir()

    def file(self, name: str) -> Path:
        """Where to write what will be called `name`, which may have one folder in it."""
        # By number: TensorBoard would show a half-written file whose name is right, in whatever folder.
        self._names.append(name)
        return self._staging / str(len(self._names) - 1)
