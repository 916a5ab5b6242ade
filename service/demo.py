"""The demonstration: the article's question, answered on this machine through the REST API."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from service import datasets
from service.client import Client
from service.domain.experiment import Activation, Experiment, Spec, Status
from service.errors import EpochdError
from service.settings import Settings

__all__ = ["ARTICLE", "DemoError", "run"]

ARTICLE: dict[tuple[Activation, int], tuple[float, float]] = {
    ("sigmoid", 1): (0.8976, 0.4908),
    ("sigmoid", 2): (0.8572, 0.7661),
    ("sigmoid", 3): (0.7539, 0.9398),
    ("relu", 1): (0.9282, 0.2474),
    ("relu", 2): (0.9356, 0.2232),
    ("relu", 3): (0.9383, 0.2145),
}
"""Test accuracy and loss in the article's table: one run each."""

START_SECONDS = 60
POLL_SECONDS = 0.3
STOP_SECONDS = 20


class DemoError(EpochdError):
    """The demonstration could not go on."""


def run(settings: Settings, console: Console) -> None:
    """Start the service, train, compare, predict, and stop the service.

    Raises:
        DemoError: the service does not start, or an experiment does not succeed.
    """
    console.print("Starting the service: [bold]epochd serve[/bold]")
    with _service(settings) as client:
        begun = time.monotonic()
        console.print(f"Queueing {len(ARTICLE)} experiments: POST {client.url}/experiments")
        finished = _train(client.api, console)
        console.print(_table(client.api, finished))
        console.print(f"{len(finished)} networks trained and tested in {time.monotonic() - begun:.0f} s.")
        _predict(client.api, settings, console)
    console.print(
        f"The service has stopped. What it learnt is in {settings.data_dir}.\n"
        "[bold]make serve[/bold] or [bold]epochd serve[/bold] starts it again, with its API at "
        "http://127.0.0.1:8000/docs",
        soft_wrap=True,
    )


class _Service:
    def __init__(self, api: Client, url: str) -> None:
        self.api = api
        self.url = url


@contextlib.contextmanager
def _service(settings: Settings) -> Iterator[_Service]:
    port = settings.port or _free_port()
    url = f"http://127.0.0.1:{port}"
    log = settings.data_dir / "demo.log"
    command = [sys.executable, "-m", "service.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            env=os.environ | {"EPOCHD_DATA_DIR": str(settings.data_dir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        with Client(url) as api:
            deadline = time.monotonic() + START_SECONDS
            while not api.ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = log.read_text(errors="replace").strip().splitlines()
                    last = lines[-1].removeprefix("epochd: ") if lines else f"see {log}"
                    raise DemoError(f"the service did not start: {last}")
                time.sleep(POLL_SECONDS)
            yield _Service(api, url)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _train(api: Client, console: Console) -> list[Experiment]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[state]}"),
    )
    with Progress(*columns, console=console) as bars:
        running: dict[str, TaskID] = {}
        for activation, depth in ARTICLE:
            spec = Spec(activation=activation, depth=depth, name=f"demo: {activation}, depth {depth}", tags=("demo",))
            title = f"{activation:>7}, depth {depth}"
            running[api.create(spec).id] = bars.add_task(title, total=spec.epochs, state="queued")
        finished: list[Experiment] = []
        while len(finished) < len(running):
            time.sleep(POLL_SECONDS)
            finished = [
                experiment
                for experiment_id, task in running.items()
                if _show(api, experiment_id, bars, task).terminal
                for experiment in [api.get(experiment_id)]
            ]
    for experiment in finished:
        if experiment.status is not Status.SUCCEEDED:
            why = experiment.error.message if experiment.error else str(experiment.status)
            raise DemoError(f"{experiment.spec.name} did not succeed: {why}")
    return finished


def _show(api: Client, experiment_id: str, bars: Progress, task: TaskID) -> Status:
    metrics = api.metrics(experiment_id)
    if metrics.epochs:
        last = metrics.epochs[-1]
        state = f"loss {last.loss:.4f}, accuracy {last.accuracy:.4f}, {metrics.status}"
        bars.update(task, completed=last.epoch, state=state)
    else:
        bars.update(task, state=str(metrics.status))
    return metrics.status


def _table(api: Client, finished: list[Experiment]) -> Table:
    table = Table(title="Test accuracy (loss) on 10,000 images, beside the article's", title_justify="left")
    for column in ("activation", "depth", "here", "the article", "gradient, first / last layer"):
        table.add_column(column, justify="left" if column == "activation" else "right")
    for experiment in finished:
        spec, result = experiment.spec, experiment.result
        assert result is not None  # noqa: S101 - it has succeeded
        accuracy, loss = ARTICLE[spec.activation, spec.depth]
        table.add_row(
            spec.activation,
            str(spec.depth),
            f"{result.test_accuracy:.4f} ({result.test_loss:.4f})",
            f"{accuracy:.4f} ({loss:.4f})",
            _gradient_ratio(api, experiment),
        )
    table.caption = "Gradient: norm at the first layer's kernel over that at the last's, after the first epoch."
    return table


def _gradient_ratio(api: Client, experiment: Experiment) -> str:
    first, *_, last = api.metrics(experiment.id).epochs[0].gradient_norms
    return f"{first / last:.3f}" if first is not None and last else "-"


def _predict(api: Client, settings: Settings, console: Console) -> None:
    arrays = datasets.load("mnist", settings.datasets_dir)
    digit, label = arrays.x_test[0], int(arrays.y_test[0])
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    console.print(f"\nA test image of a {label}, sent as a PNG of {len(file.getvalue())} bytes to POST /predict:")
    for upper, lower in zip(digit[4:24:2], digit[5:25:2], strict=True):
        console.print("  " + "".join(_block(int(a), int(b)) for a, b in zip(upper, lower, strict=True)))
    answer = api.predict(file.getvalue(), "image/png")
    best = answer["predictions"][0]
    console.print(f"The best model answers [bold]{best['label']}[/bold] with confidence {best['confidence']:.4f}.\n")


def _block(upper: int, lower: int) -> str:
    return {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}[upper > 90, lower > 90]
