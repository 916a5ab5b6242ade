"""`epochd data`: the datasets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.commands.console import err, fail, print_json, say
from service.commands.environment import settings_of
from service.commands.options import DataDir, Json

if TYPE_CHECKING:
    from service.datasets import Arrays
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
    as_json: Json = False,
) -> None:
    """Fetch a dataset and verify it by SHA-256.

    Example: epochd data fetch mnist
    """
    if path is not None and not path.exists():  # also where the dataset is there already
        fail(f"{dataset} cannot be taken from {path}: there is no such file or folder")
    settings = settings_of(data_dir=data_dir, **({f"{dataset}_path": path} if path else {}))
    arrays = fetched(dataset, settings, err)
    counts = {"training_images": len(arrays.x_train), "test_images": len(arrays.x_test)}
    if as_json:
        print_json({"dataset": dataset, **counts, "folder": str(settings.datasets_dir)})
    else:
        say(_told(dataset, settings, arrays))


def fetch_shown(dataset: str, settings: "Settings", console: Console) -> None:
    """Have a dataset, and say so."""
    console.print(_told(dataset, settings, fetched(dataset, settings, console)), soft_wrap=True, markup=False)


def fetched(dataset: str, settings: "Settings", console: Console) -> "Arrays":
    """A dataset, with a progress bar in a terminal while it is fetched."""
    from service import datasets

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(source: str, done: int, total: int | None) -> None:
            if source not in tasks:
                tasks[source] = bars.add_task(f"{dataset} from {source}", total=total)
            bars.update(tasks[source], completed=done, total=total)

        path = getattr(settings, f"{dataset}_path")
        return datasets.load(dataset, settings.datasets_dir, path=path, progress=show)


def _told(dataset: str, settings: "Settings", arrays: "Arrays") -> str:
    counts = f"{len(arrays.x_train):,} training and {len(arrays.x_test):,} test images"
    return f"{dataset}: {counts}, verified by SHA-256, in {settings.datasets_dir}"
