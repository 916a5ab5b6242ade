"""What a trainer process may take of its machine. A job that would take more fails by itself, and harms no other."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from service.domain.events import Alive, EpochEnd, Event, Job, Stops
from service.engines.far_end import Train
from service.errors import CpuTimeExceeded, OutOfMemory

__all__ = ["Limits"]

MOST_FILES = 1024
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """0 is no limit."""

    memory_bytes: int = 0
    """Memory that the process may have, of its own and writable: TensorFlow's 0.7 GB among it."""
    cpu_seconds: float = 0
    """Processor time of a job, for each of its members."""

    def to_argument(self) -> str:
        """For the command line of a trainer."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def of_argument(cls, text: str) -> "Limits":
        """What `to_argument` gave."""
        return cls(**orjson.loads(text))

    def keep(self) -> None:
        """Have the kernel keep this process to them, and leave no core of it: that would hold all that it knew.

        `RLIMIT_DATA` and not `RLIMIT_AS`: TensorFlow reserves gigabytes of addresses that it never uses.
        """
        if sys.platform == "win32":
            return
        import resource

        wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, MOST_FILES)]
        if self.memory_bytes:
            wanted.append((resource.RLIMIT_DATA, self.memory_bytes))
        for kind, most in wanted:
            _, hard = resource.getrlimit(kind)
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            with contextlib.suppress(ValueError, OSError):  # a system may know one by name only
                resource.setrlimit(kind, (least, least))

    def within(self, train: Train) -> Train:
        """The same training, which fails when a job exceeds them. What the process has by now is not for jobs."""
        taken = _data_bytes()

        def limited(job: Job, stops: Stops) -> Iterator[Event]:
            self._require_memory(job, taken)
            seconds = self.cpu_seconds * len(job.members)
            until = time.process_time() + seconds
            for event in train(job, stops):
                yield event
                # Only between epochs and their parts: what has been trained to its end is not thrown away.
                if seconds and isinstance(event, EpochEnd | Alive) and time.process_time() > until:
                    raise CpuTimeExceeded(
                        f"training took more than {seconds:g} seconds of processor time, and no more is allowed: take "
                        "fewer epochs, fewer units, a smaller depth or larger batches"
                    )

        return limited

    def _require_memory(self, job: Job, taken: int) -> None:
        """Refuse before it begins what cannot fit. TensorFlow tells of most memory that it is not given, but in some
        places it ends the process instead.
        """
        wanted = sum(member.spec.training_bytes for member in job.members)
        if self.memory_bytes and taken + wanted > self.memory_bytes:
            spec = job.members[0].spec
            raise OutOfMemory(
                f"a network of {spec.parameters:,} parameters on batches of {spec.batch_size:,} takes about "
                f"{wanted / 2**30:.1f} GiB to train, and a trainer has {self.memory_bytes / 2**30:.1f} GiB in all: "
                "take fewer units, a smaller depth or smaller batches"
            )


def _data_bytes() -> int:
    """What of `RLIMIT_DATA` this process has by now; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
