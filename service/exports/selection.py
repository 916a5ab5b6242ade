"""The experiments that an export is about."""

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from service.domain.experiment import Experiment

__all__ = ["Selection"]

IN_MEMORY_BYTES = 2**20


class Selection:
    """Experiments in a temporary file, in the order in which they were added, to be read as often as needed.

    An export has to know how many there are, and how deep the deepest, before it writes its first line. The service's
    list may have changed when it is asked a second time.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `__exit__`
        self._count = 0
        self.deepest = 0
        """Hidden layers of the deepest network."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Experiment]:
        self._file.seek(0)
        for line in self._file:
            yield Experiment.model_validate_json(line)

    def add(self, experiment: Experiment) -> None:
        """Put one at the end."""
        self._file.write(experiment.model_dump_json().encode() + b"\n")
        self._count += 1
        self.deepest = max(self.deepest, experiment.spec.depth)
