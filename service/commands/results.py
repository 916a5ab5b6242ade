"""`epochd demo`, `epochd export`, `epochd figure` and `epochd reproduce`: what was learnt, to look at elsewhere."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.commands.calls import connect, either
from service.commands.console import Output, err, fail, misused, print_json, say
from service.commands.data import fetch_shown
from service.commands.environment import settings_of
from service.commands.options import ApiKey, DataDir, Json, Url, not_empty
from service.domain.experiment import Status

__all__ = ["app"]

app = typer.Typer()

FIGURES = (
    "learning-curves",
    "gradient-norms",
    "confusion-matrix",
    "gallery",
    "accuracy-by-depth",
    "seed-scatter",
)


@app.command()
def demo(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(help="Port of the service; 0 takes a free one.")] = 0,
) -> None:
    """Train sigmoid and ReLU at depths 1, 2 and 3 through the REST API, compare them, and read a digit.

    Example: epochd demo
    """
    from service import demo as demonstration

    settings = settings_of(data_dir=data_dir, port=port)
    console = Output(highlight=False)
    fetch_shown("mnist", settings, console)
    demonstration.run(settings, console)


@app.command()
def export(
    to: Annotated[Literal["csv", "parquet", "tensorboard", "mlflow"], typer.Option(help="The tool to write for.")],
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Experiments, when not by filters.", show_default="all"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for csv, parquet, tensorboard.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep's experiments, by its id.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat it for all of several.")] = None,
    status: Annotated[list[Status] | None, typer.Option(help="Only in this status; repeat it for more.")] = None,
    models: Annotated[
        bool, typer.Option("--models", help="The .keras and .onnx files too; not for tensorboard.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier export wrote to the folder.")] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow's server or database.", show_default="MLflow's own default", callback=not_empty),
    ] = None,
    mlflow_experiment: Annotated[
        str | None,
        typer.Option(help="MLflow's experiment to put the runs into.", show_default="epochd", callback=not_empty),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move experiments into other tools: CSV, Parquet, TensorBoard or MLflow. Reads a running service.

    Example: epochd export --to csv --output results --status succeeded
    """
    from service import exports

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
    with connect(url, api_key) as api:
        told = exports.run(api, order, err)
    if as_json:
        print_json({"to": to, "output": None if output is None else str(output), "summary": told})
    else:
        say(told)


@app.command()
def figure(
    of: Annotated[str, typer.Argument(metavar="ID", help="An experiment's or a sweep's id.")],
    name: Annotated[
        str,
        typer.Argument(
            help="learning-curves or gradient-norms; of an experiment also confusion-matrix or gallery; of a sweep "
            "also accuracy-by-depth or seed-scatter.",
            autocompletion=lambda: list(FIGURES),
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .svg, .png, .html or .json.")],
    width: Annotated[int, typer.Option(help="Of an SVG or PNG, in px.")] = 900,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Draw an experiment or a sweep into a file. No browser is needed.

    Example: epochd figure 01a20f00-0000-7000-8000-000000000000 learning-curves -o curves.svg
    """
    kind: Any = output.suffix.removeprefix(".").lower()
    if kind not in {"svg", "png", "html", "json"}:
        misused(f"{output} ends in none of .svg, .png, .html and .json")
    with connect(url, api_key) as api:
        drawn = either(api, of).draw(name, kind=kind, width=width)
    from service.client.files import whole_file

    try:
        with whole_file(output) as file:
            file.write(drawn)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")
    if as_json:
        print_json({"path": str(output), "bytes": len(drawn)})
    else:
        say(f"{output}: {len(drawn):,} bytes")


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
        fail("figures need Matplotlib: pip install 'epochd[figures]'")
    from service import reproduction

    settings = settings_of(data_dir=data_dir, port=0)
    console = Output(highlight=False)
    fetch_shown("mnist", settings, console)
    reproduction.run(
        settings,
        console,
        render=lambda figure: images.render(figure, "svg"),
        output=output,
        seeds=seeds,
        epochs=epochs,
    )
