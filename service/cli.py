"""The command `epochd`: argument parsing and calls, nothing else."""

import difflib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from service.domain.experiment import Status
from service.errors import EpochdError
from service.settings import Settings

__all__ = ["app", "main"]

app = typer.Typer(
    name="epochd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains Keras models behind a REST API, and shows why depth hurts sigmoid and not ReLU.\n\n"
    "Every setting can also be given as an EPOCHD_* environment variable.",
)
db = typer.Typer(no_args_is_help=True, help="Look after the database.")
data = typer.Typer(no_args_is_help=True, help="Look after the datasets.")
app.add_typer(db, name="db")
app.add_typer(data, name="data")

err = Console(stderr=True, highlight=False)

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of database, blobs and datasets.", show_default="./epochd-data")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.", show_default="SQLite in the data folder"
    ),
]
Url = Annotated[str, typer.Option(help="Address of the service.")]
SERVICE = "http://127.0.0.1:8000"
Slots = Annotated[int | None, typer.Option(help="Experiments to train at once.", show_default="cores, at most 4")]


def main() -> None:
    """Run the command. A known error is one line on standard error and exit code 1."""
    try:
        app()
    except EpochdError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        err.print("epochd: stopped")
        raise SystemExit(130) from None  # as a shell reports a process that ended by Ctrl-C


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"epochd {version('epochd')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8000")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="The API alone; run workers elsewhere.")] = False,
    slots: Slots = None,
    processes: Annotated[int | None, typer.Option(help="API processes that share the port.", show_default="1")] = None,
    listener_fd: Annotated[int | None, typer.Option("--listener-fd", hidden=True)] = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,  # noqa: ARG001 - with the above
) -> None:
    """Serve the API, with a worker in its own process, until Ctrl-C.

    Example: epochd serve --port 9000 --slots 2
    """
    from service import main as composition

    settings = _settings(
        host=host, port=port, processes=processes, data_dir=data_dir, database_url=database_url, slots=slots
    )
    _log(settings)

    def announce(url: str) -> None:
        if listener_fd is not None:
            return
        training = "no worker here" if no_worker else f"a worker trains {settings.slots} at once"
        err.print(f"epochd is ready: {url}  docs: {url}/docs  ({training}; Ctrl-C stops)", soft_wrap=True)

    composition.serve(settings, with_worker=not no_worker, announce=announce, listener_fd=listener_fd)


@app.command()
def worker(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    slots: Slots = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Train queued experiments until Ctrl-C; running work is then given back with its checkpoint.

    Example: epochd worker --database-url postgresql://epochd@db/epochd --slots 4
    """
    from service import main as composition

    settings = _settings(data_dir=data_dir, database_url=database_url, slots=slots)
    _log(settings)
    composition.work(settings, until_stdin_closes=until_stdin_closes)


@app.command()
def demo(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(help="Port of the service; 0 takes a free one.")] = 0,
) -> None:
    """Train sigmoid and ReLU at depths 1, 2 and 3 through the REST API, compare them, and read a digit.

    Example: epochd demo
    """
    from service import demo as demonstration

    settings = _settings(data_dir=data_dir, port=port)
    console = Console(highlight=False)
    _fetch("mnist", settings, console)
    demonstration.run(settings, console)


@app.command()
def export(
    to: Annotated[Literal["csv", "parquet", "tensorboard", "mlflow"], typer.Option(help="The tool to write for.")],
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Experiments, when not by filters.", show_default="all"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for csv, parquet, tensorboard.")] = None,
    url: Url = SERVICE,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep's experiments, by its id.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat it for all of several.")] = None,
    status: Annotated[list[Status] | None, typer.Option(help="Only in this status; repeat it for more.")] = None,
    models: Annotated[
        bool, typer.Option("--models", help="The .keras and .onnx files too; not for tensorboard.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export wrote to the folder.")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's server or database.", show_default="MLflow's own default")
    ] = None,
    mlflow_experiment: Annotated[
        str | None, typer.Option(help="MLflow's experiment to put the runs into.", show_default="epochd")
    ] = None,
) -> None:
    """Move experiments into other tools: CSV, Parquet, TensorBoard or MLflow. Reads a running service.

    Example: epochd export --to csv --output results --status succeeded
    """
    from service import exports
    from service.client import Client

    order = exports.Order(
        to=to,
        ids=tuple(ids or ()),
        sweep_id=sweep,
        tags=tuple(tag or ()),
        statuses=tuple(status or ()),
        output=output,
        force=force,
        models=models,
        tracking_uri=tracking_uri,
        mlflow_experiment=mlflow_experiment,
    )
    with Client(url) as api:
        typer.echo(exports.run(api, order, err))


@app.command()
def figure(
    of: Annotated[str, typer.Argument(metavar="ID", help="An experiment's or a sweep's id.")],
    name: Annotated[
        str,
        typer.Argument(
            help="learning-curves or gradient-norms; of an experiment also confusion-matrix or gallery; of a sweep "
            "also accuracy-by-depth or seed-scatter."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .svg, .png, .html or .json.")],
    width: Annotated[int, typer.Option(help="Of an SVG or PNG, in px.")] = 900,
    url: Url = SERVICE,
) -> None:
    """Draw an experiment or a sweep into a file. No browser is needed.

    Example: epochd figure 01a20f00-0000-7000-8000-000000000000 learning-curves -o curves.svg
    """
    from service.client import Client, NotFound

    kind: Any = output.suffix.removeprefix(".").lower()
    if kind not in {"svg", "png", "html", "json"}:
        _fail(f"{output} ends in none of .svg, .png, .html and .json")
    with Client(url) as api:
        try:
            drawn = api.get_experiment(of).draw(name, kind=kind, width=width)
        except NotFound:
            drawn = api.get_sweep(of).draw(name, kind=kind, width=width)
    try:
        output.write_bytes(drawn)
    except OSError as error:
        _fail(f"{output} cannot be written: {error.strerror}")
    typer.echo(f"{output}: {len(drawn):,} bytes")


@app.command()
def reproduce(
    data_dir: DataDir = None,
    output: Annotated[Path, typer.Option(help="Folder for the page and its figures.")] = Path("docs"),
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Networks of each activation and depth.")] = 30,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Epochs of each.")] = 10,
) -> None:
    """Answer the article's question over many seeds, and write it down as a page with figures.

    Example: epochd reproduce --seeds 30 --output docs
    """
    try:
        from service.analysis import images
    except ImportError:
        _fail("figures need Matplotlib: pip install 'epochd[figures]'")
    from service import reproduction

    settings = _settings(data_dir=data_dir, port=0)
    console = Console(highlight=False)
    _fetch("mnist", settings, console)
    reproduction.run(
        settings,
        console,
        render=lambda figure: images.render(figure, "svg"),
        output=output,
        seeds=seeds,
        epochs=epochs,
    )


@db.command()
def upgrade(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database's schema up to this version.

    Example: epochd db upgrade --database-url postgresql://epochd@db/epochd
    """
    from service import main as composition
    from service.store import schema

    settings = _settings(data_dir=data_dir, database_url=database_url)
    with composition.open_database(settings) as database:
        before = schema.current(database)
        schema.upgrade(database)
        after = schema.current(database)
    typer.echo(
        f"the database is at revision {after}" + (" already" if before == after else f", from {before or 'none'}")
    )


@db.command()
def check(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the files that no experiment names.")] = False,
) -> None:
    """Compare the stored files with the experiments that name them: lists missing, damaged and orphaned files.

    Exit code 1 when a file is missing or damaged. Safe while workers run.

    Example: epochd db check --repair
    """
    from service import main as composition
    from service.store.audit import audit, remove_orphans

    settings = _settings(data_dir=data_dir, database_url=database_url)
    with composition.open_ports(settings) as ports:
        report = audit(ports.database, ports.blobs)
        if repair:
            remove_orphans(ports.blobs, report)
    for kind, found in (("missing", report.missing), ("damaged", report.corrupt), ("orphaned", report.orphans)):
        for experiment_id, sha256 in found:
            removed = ", removed" if repair and kind == "orphaned" else ""
            typer.echo(f"{kind}: {sha256} of experiment {experiment_id}{removed}")
    typer.echo(
        f"{report.checked} files checked: {len(report.missing)} missing, {len(report.corrupt)} damaged, "
        f"{len(report.orphans)} orphaned{' and removed' if repair and report.orphans else ''}"
    )
    if not report.sound:
        raise typer.Exit(1)


@data.command()
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
    settings = _settings(data_dir=data_dir, **({f"{dataset}_path": path} if path else {}))
    _fetch(dataset, settings, Console(highlight=False))


def _fetch(dataset: str, settings: Settings, console: Console) -> None:
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


def _settings(**given: Any) -> Settings:  # noqa: ANN401 - options
    """The environment's settings, with the options that were given on the command line over them."""
    _warn_of_unknown(os.environ)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        _fail("a setting cannot be used: " + "; ".join(faults))


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    known = {f"EPOCHD_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(environment):
        if name.upper().startswith("EPOCHD_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            err.print(f"epochd: {name} is no setting and does nothing{hint}", soft_wrap=True, markup=False)


def _fail(message: str) -> NoReturn:
    err.print(f"epochd: {message}", soft_wrap=True, markup=False)
    raise SystemExit(1)


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
