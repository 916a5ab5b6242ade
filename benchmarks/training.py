"""One experiment, claimed to succeeded on a warm worker, against bare Keras on the same spec, in turns."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import free_port, run_python, running, wait_ready
from benchmarks.report import Line, median
from service.client import Client
from service.domain.experiment import Experiment, Spec

__all__ = ["measure"]

ROUNDS = 5
SPECS = (("relu", 1), ("sigmoid", 3))


def measure(datasets: Path) -> Iterator[Line]:
    """Yield the ratio for each spec, and the wait in the queue of an idle worker."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(datasets)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with running(["-m", "service.cli", "serve", "--port", str(port), "--slots", "1"], data_dir), Client(url) as api:
            wait_ready(url)
            _run(api, Spec(activation="relu", depth=1, epochs=1))
            waits: list[float] = []
            for activation, depth in SPECS:
                ours, bare = [], []
                for _ in range(ROUNDS):
                    found = _run(api, Spec.model_validate({"activation": activation, "depth": depth}))
                    assert found.started_at is not None
                    assert found.finished_at is not None
                    ours.append((found.finished_at - found.started_at).total_seconds())
                    waits.append((found.started_at - found.created_at).total_seconds())
                    program = ["-m", "benchmarks.bare_keras", activation, str(depth), str(datasets)]
                    bare.append(float(run_python(program).split()[-1]))
                yield Line(
                    what=f"experiment / bare Keras, {activation}, depth {depth}",
                    value=median([a / b for a, b in zip(ours, bare, strict=True)]),
                    unit="",
                    budget=0.7,
                    at_most=True,
                    detail=f"{median(ours):.2f} s against {median(bare):.2f} s, median of {ROUNDS}",
                )
            yield Line(
                what="queued to claimed, idle warm worker, p50",
                value=median(waits),
                unit="s",
                budget=0.25,
                at_most=True,
                detail=f"{len(waits)} experiments, longest {max(waits):.3f} s",
            )


def _run(api: Client, spec: Spec) -> Experiment:
    experiment_id = api.create(spec).id
    while not (found := api.get(experiment_id)).status.terminal:
        time.sleep(0.05)
    if found.result is None:
        raise RuntimeError(f"the experiment did not succeed: {found.error}")
    return found
