"""The first request of a model that is not in memory, among more models than are kept there."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.options import Options
from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line, median
from benchmarks.turns import a_digit

__all__ = ["measure"]

MODELS = 200
KEPT = 64
"""As many as the API keeps by default."""
ROUNDS = 3


def measure(options: Options) -> Iterator[Line]:
    """Yield the median over models that are each asked once in turn: none of them is still in memory then."""
    digit = {"image": a_digit(options.datasets).tolist()}
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(options.datasets)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with running(["-m", "service.cli", "serve", "--port", str(port)], data_dir), httpx.Client(base_url=url) as api:
            wait_ready(url)
            ids = _train(api)
            seconds = []
            for _ in range(options.rounds or ROUNDS):
                for experiment_id in ids:
                    begun = time.perf_counter()
                    api.post("/predict", params={"experiment_id": experiment_id}, json=digit).raise_for_status()
                    seconds.append(time.perf_counter() - begun)
    longest = sorted(seconds)[int(0.99 * len(seconds))]
    yield Line(
        what="first request of a cold model, p50",
        value=1000 * median(seconds),
        unit="ms",
        budget=50,
        at_most=True,
        detail=f"{len(ids)} models, {KEPT} kept, {len(seconds)} requests; p99 {1000 * longest:.1f} ms",
    )


def _train(api: httpx.Client) -> list[str]:
    sweep = {"base": {"activation": "relu", "depth": 2, "epochs": 1}, "seeds": MODELS}
    path = api.post("/sweeps", json=sweep).raise_for_status().headers["location"]
    while (found := api.get(path).raise_for_status().json())["finished_at"] is None:
        time.sleep(0.2)
    if found["progress"]["succeeded"] != MODELS:
        raise RuntimeError(f"the sweep did not succeed: {found}")
    page = api.get("/experiments", params={"sweep_id": found["id"], "limit": MODELS}).raise_for_status().json()
    return [one["id"] for one in page["data"]]
