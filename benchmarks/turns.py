"""Servers that take turns under the same load."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.load import Load, LoadError, Request, load, middle
from benchmarks.processes import cpu_seconds, free_port, memory, running, wait_ready
from benchmarks.report import Served, median
from service import datasets as sources
from service.client import Client
from service.domain.experiment import Spec

__all__ = ["CEILING", "Contender", "Ours", "a_digit", "ours", "ratio", "served", "take_turns"]

CEILING = "empty endpoint"
WARM_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One server and what it is asked."""

    server: str
    request: Request
    process: subprocess.Popen[bytes]
    cpu: list[float] = field(default_factory=list)
    """Seconds of computing for one request, of each round."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """epochd, with one model, and the empty endpoint beside it."""

    port: int
    process: subprocess.Popen[bytes]
    onnx: Path
    """The model's file, for others to serve."""

    def contenders(self, path: str, kind: str, body: bytes) -> list[Contender]:
        """Epochd's answer to a body, and the empty endpoint's to the same."""
        request = Request(port=self.port, path=path, kind=kind, body=body)
        return [
            Contender(server="epochd", request=request, process=self.process),
            Contender(server=CEILING, request=replace(request, path="/empty"), process=self.process),
        ]


def a_digit(datasets: Path) -> npt.NDArray[np.uint8]:
    """The first test image: uint8 (28, 28)."""
    digit: npt.NDArray[np.uint8] = sources.load("mnist", datasets).x_test[0]
    return digit


@contextlib.contextmanager
def ours(datasets: Path) -> Iterator[Ours]:
    """Train a model, then serve it in one process without a worker."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(datasets)
        onnx = data_dir / "for-others.onnx"
        _train(data_dir, onnx)
        port = free_port()
        with running(["-m", "benchmarks.server", str(port)], data_dir) as process:
            wait_ready(f"http://127.0.0.1:{port}")
            yield Ours(port=port, process=process, onnx=onnx)


def take_turns(contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[Load]]:
    """Load each for some seconds, again and again, after a short warm-up of all.

    Raises:
        LoadError: one of them did not bear it; the text begins with its name.
    """
    for one in contenders:
        _load(one, min(WARM_SECONDS, seconds))
    found: dict[str, list[Load]] = {one.server: [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            computed = cpu_seconds(one.process)
            bore = _load(one, seconds)
            one.cpu.append((cpu_seconds(one.process) - computed) / bore.answered)
            found[one.server].append(bore)
    return found


def ratio(loads: Mapping[str, Sequence[Load]], of: str, to: str) -> float:
    """The median over the rounds of one's requests a second over another's."""
    return median([one.rate / other.rate for one, other in zip(loads[of], loads[to], strict=True)])


def served(job: str, contender: Contender, name: str, loads: Mapping[str, Sequence[Load]]) -> Served:
    """The table's row."""
    bore = middle(loads[contender.server])
    megabytes, processes = memory(contender.process)
    return Served(
        server=name,
        job=job,
        rate=bore.rate,
        p50=bore.p50,
        p99=bore.p99,
        cpu=median(contender.cpu),
        of_ceiling=ratio(loads, contender.server, CEILING),
        megabytes=megabytes,
        processes=processes,
    )


def _load(contender: Contender, seconds: float) -> Load:
    try:
        return load(contender.request, seconds)
    except LoadError as error:
        raise LoadError(f"{contender.server}: {error}") from error


def _train(data_dir: Path, onnx: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(["-m", "service.cli", "serve", "--port", str(port), "--slots", "1"], data_dir), Client(url) as api:
        wait_ready(url)
        created = api.create(Spec(activation="relu", depth=2, epochs=1))
        while not (found := created.refresh()).status.terminal:
            time.sleep(0.1)
        if found.result is None:
            raise RuntimeError(f"the experiment did not succeed: {found.error}")
        created.download(onnx, "onnx")
