"""The demonstration: the article's question, answered on this machine through the REST API."""

import io
import time

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from service import datasets
from service.background import running_service
from service.client import Client, ExperimentHandle, Sync
from service.domain.article import ARTICLE
from service.domain.experiment import Spec, Status
from service.errors import EpochdError
from service.settings import Settings

__all__ = ["DemoError", "run"]

POLL_SECONDS = 0.3


class DemoError(EpochdError):
    """The demonstration could not go on."""


def run(settings: Settings, console: Console) -> None:
    """Start the service, train, compare, predict, and stop the service.

    Raises:
        ServiceError: the service does not start.
        DemoError: an experiment does not succeed.
    """
    console.print("Starting the service: [bold]epochd serve[/bold]")
    with running_service(settings, log_name="demo.log") as (api, url):
        begun = time.monotonic()
        console.print(f"Queueing {len(ARTICLE)} experiments: POST {url}/experiments")
        finished = _train(api, console)
        console.print(_table(finished))
        console.print(f"{len(finished)} networks trained and tested in {time.monotonic() - begun:.0f} s.")
        _predict(api, settings, console)
    console.print(
        f"The service has stopped. What it learnt is in {settings.data_dir}.\n"
        "[bold]make serve[/bold] or [bold]epochd serve[/bold] starts it again, with its API at "
        "http://127.0.0.1:8000/docs",
        soft_wrap=True,
    )


def _train(api: Client, console: Console) -> list[ExperimentHandle[Sync]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  {task.fields[state]}"),
    )
    with Progress(*columns, console=console) as bars:
        running: list[tuple[ExperimentHandle[Sync], TaskID]] = []
        for activation, depth in ARTICLE:
            spec = Spec(activation=activation, depth=depth, name=f"demo: {activation}, depth {depth}", tags=("demo",))
            title = f"{activation:>7}, depth {depth}"
            running.append((api.create(spec), bars.add_task(title, total=spec.epochs, state="queued")))
        finished: list[ExperimentHandle[Sync]] = []
        while len(finished) < len(running):
            time.sleep(POLL_SECONDS)
            finished = [experiment for experiment, task in running if _show(experiment, bars, task).terminal]
    for experiment in finished:
        experiment.refresh()
        if experiment.status is not Status.SUCCEEDED:
            why = experiment.error.message if experiment.error else str(experiment.status)
            raise DemoError(f"{experiment.spec.name} did not succeed: {why}")
    return finished


def _show(experiment: ExperimentHandle[Sync], bars: Progress, task: TaskID) -> Status:
    metrics = experiment.metrics()
    if metrics.epochs:
        last = metrics.epochs[-1]
        state = f"loss {last.loss:.4f}, accuracy {last.accuracy:.4f}, {metrics.status}"
        bars.update(task, completed=last.epoch, state=state)
    else:
        bars.update(task, state=str(metrics.status))
    return metrics.status


def _table(finished: list[ExperimentHandle[Sync]]) -> Table:
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
            _gradient_ratio(experiment),
        )
    table.caption = "Gradient: norm at the first layer's kernel over that at the last's, after the first epoch."
    return table


def _gradient_ratio(experiment: ExperimentHandle[Sync]) -> str:
    first, *_, last = experiment.metrics().epochs[0].gradient_norms
    return f"{first / last:.3f}" if first is not None and last else "-"


def _predict(api: Client, settings: Settings, console: Console) -> None:
    arrays = datasets.load("mnist", settings.datasets_dir)
    digit, label = arrays.x_test[0], int(arrays.y_test[0])
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    console.print(f"\nA test image of a {label}, sent as a PNG of {len(file.getvalue())} bytes to POST /predict:")
    for upper, lower in zip(digit[4:24:2], digit[5:25:2], strict=True):
        console.print("  " + "".join(_block(int(a), int(b)) for a, b in zip(upper, lower, strict=True)))
    best = api.predict(file.getvalue())
    console.print(f"The best model answers [bold]{best.label}[/bold] with confidence {best.confidence:.4f}.\n")


def _block(upper: int, lower: int) -> str:
    return {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}[upper > 90, lower > 90]
