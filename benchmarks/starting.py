"""The API's process: how soon it is ready, and how much memory it holds then."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.options import Options
from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line, median

__all__ = ["measure"]

ROUNDS = 5


def measure(options: Options) -> Iterator[Line]:
    """Yield seconds and megabytes."""
    rounds = options.rounds or ROUNDS
    seconds, megabytes = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            begun = time.perf_counter()
            command = ["-m", "service.cli", "serve", "--port", str(port), "--no-worker"]
            with running(command, Path(folder)) as process:
                wait_ready(f"http://127.0.0.1:{port}")
                seconds.append(time.perf_counter() - begun)
                megabytes.append(psutil.Process(process.pid).memory_info().rss / 1e6)
    detail = f"median of {rounds}, an empty database made on the way"
    yield Line(what="API start to ready", value=median(seconds), unit="s", budget=2, at_most=True, detail=detail)
    yield Line(
        what="API resident memory", value=median(megabytes), unit="MB", budget=150, at_most=True, detail="when ready"
    )
