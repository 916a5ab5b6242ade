"""`epochd data`: the datasets."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.commands.console import Output, fail
from service.commands.environment import settings_of
from service.commands.options import DataDir
from service.settings import Settings

__all__ = ["app", "fetch_shown"]

app = typer.Typer(no_args_is_help=True, help="Look after the datasets.")


@app.callback()
def _group() -> None:
    """A group, although it has one command."""


@app.command()
def fetch(
    dataset: Annotated[Literal["mnist", "fashion_mnist"], typer.Argument(help="Which dataset.")],
    data_dir: DataDir = None,
    path: Annotated[
        Path | None, typer.Option(help="Take it from this .npz file or folder of IDX files, not from the network.")
    ] = None,
) -> None:
    """Fetch a dataset and verify it by SHA-256.

    Example: epochd data fetch mnist
    """
    if path is not None and not path.exists():  # also where the dataset is there already
        fail(f"{dataset} cannot be taken from {path}: there is no such file or folder")
    settings = settings_of(data_dir=data_dir, **({f"{dataset}_path": path} if path else {}))
    fetch_shown(dataset, settings, Output(highlight=False))


def fetch_shown(dataset: str, settings: Settings, console: Console) -> None:
    """Have a dataset, with a progress bar while it is fetched."""
    from service import datasets

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(source: str, done: int, total: int | None) -> None:
            if source not in tasks:
                tasks[source] = bars.add_task(f"{dataset} from {source}", total=total)
            bars.update(tasks[source], completed=done, total=total)

        path = getattr(settings, f"{dataset}_path")
        arrays = datasets.load(dataset, settings.datasets_dir, path=path, progress=show)
    console.print(
        f"{dataset}: {len(arrays.x_train):,} training and {len(arrays.x_test):,} test images, verified by SHA-256, "
        f"in {settings.datasets_dir}",
        soft_wrap=True,
    )
