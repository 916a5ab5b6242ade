"""A sweep of 30 seeds on a warm worker with all its slots, against 30 runs of bare Keras, a few of which are timed."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.options import Options
from benchmarks.processes import free_port, run_python, running, wait_ready
from benchmarks.report import Line, median

__all__ = ["measure"]

SEEDS = 30
ROUNDS = 3
SPECS = (("relu", 1), ("sigmoid", 3))


def measure(options: Options) -> Iterator[Line]:
    """Yield the ratio for each spec: seconds an experiment of the sweep, from its creation to its last end."""
    rounds = options.rounds or ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(options.datasets)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with (
            running(["-m", "service.cli", "serve", "--port", str(port)], data_dir),
            httpx.Client(base_url=url, timeout=60) as api,
        ):
            wait_ready(url)
            _sweep(api, "relu", 1, seeds=4, epochs=1)
            for activation, depth in SPECS:
                ours, bare = [], []
                for _ in range(rounds):
                    ours.append(_sweep(api, activation, depth) / SEEDS)
                    program = ["-m", "benchmarks.bare_keras", activation, str(depth), str(options.datasets)]
                    bare.append(float(run_python(program).split()[-1]))
                yield Line(
                    what=f"sweep of {SEEDS} seeds, each / bare Keras, {activation}, depth {depth}",
                    value=median([a / b for a, b in zip(ours, bare, strict=True)]),
                    unit="",
                    budget=0.15,
                    at_most=True,
                    detail=f"{median(ours):.3f} s against {median(bare):.2f} s, median of {rounds}",
                )


def _sweep(api: httpx.Client, activation: str, depth: int, *, seeds: int = SEEDS, epochs: int = 10) -> float:
    begun = time.perf_counter()
    body = {"base": {"activation": activation, "depth": depth, "epochs": epochs}, "seeds": seeds}
    path = api.post("/sweeps", json=body).raise_for_status().headers["location"]
    while (found := api.get(path).raise_for_status().json())["finished_at"] is None:
        time.sleep(0.05)
    seconds = time.perf_counter() - begun
    if found["progress"]["succeeded"] != seeds:
        raise RuntimeError(f"the sweep did not succeed: {found}")
    return seconds
