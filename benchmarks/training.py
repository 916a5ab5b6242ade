"""One experiment, claimed to succeeded on a warm worker, against bare Keras on the same spec, in turns."""

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.options import Options
from benchmarks.processes import free_port, run_python, running, wait_ready
from benchmarks.report import Line, median
from service.client import Client
from service.domain.experiment import Experiment, Spec

__all__ = ["measure"]

ROUNDS = 5
SPECS = (("relu", 1), ("sigmoid", 3))


def measure(options: Options) -> Iterator[Line]:
    """Yield the ratio for each spec, and how long an idle worker lets an experiment wait for its first epoch."""
    rounds = options.rounds or ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(options.datasets)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with running(["-m", "service.cli", "serve", "--port", str(port), "--slots", "1"], data_dir), Client(url) as api:
            wait_ready(url)
            _run(api, Spec(activation="relu", depth=1, epochs=1))
            waits: list[float] = []
            for activation, depth in SPECS:
                ours, bare = [], []
                for _ in range(rounds):
                    found = _run(api, Spec.model_validate({"activation": activation, "depth": depth}))
                    assert found.started_at is not None
                    assert found.finished_at is not None
                    ours.append((found.finished_at - found.started_at).total_seconds())
                    waits.append(_wait(api, found, data_dir))
                    program = ["-m", "benchmarks.bare_keras", activation, str(depth), str(options.datasets)]
                    bare.append(float(run_python(program).split()[-1]))
                yield Line(
                    what=f"experiment / bare Keras, {activation}, depth {depth}",
                    value=median([a / b for a, b in zip(ours, bare, strict=True)]),
                    unit="",
                    budget=0.7,
                    at_most=True,
                    detail=f"{median(ours):.2f} s against {median(bare):.2f} s, median of {rounds}",
                )
            yield Line(
                what="queued to first epoch's start, idle warm worker, p50",
                value=median(waits),
                unit="s",
                budget=0.25,
                at_most=True,
                detail=f"{len(waits)} experiments, longest {max(waits):.3f} s",
            )


def _run(api: Client, spec: Spec) -> Experiment:
    experiment = api.create(spec)
    while not (found := experiment.refresh()).status.terminal:
        time.sleep(0.05)
    if found.result is None:
        raise RuntimeError(f"the experiment did not succeed: {found.error}")
    return found


def _wait(api: Client, experiment: Experiment, data_dir: Path) -> float:
    """Seconds from the creation of an experiment to the start of its first epoch: when its end was stored, less its
    length.
    """
    with contextlib.closing(sqlite3.connect(data_dir / "epochd.sqlite3")) as database:
        (stored,) = database.execute(
            "SELECT min(created_at) FROM events WHERE experiment_id = ? AND type = 'epoch'", (experiment.id,)
        ).fetchone()
    ended = datetime.fromisoformat(stored)
    ended = ended if ended.tzinfo else ended.replace(tzinfo=UTC)
    length = api.metrics(experiment.id).epochs[0].seconds
    return (ended - experiment.created_at).total_seconds() - length
