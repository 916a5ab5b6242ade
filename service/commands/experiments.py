"""`epochd train`, `list`, `show`, `cancel`, `retry` and `delete`: experiments, through the API."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.commands.calls import connect, either, local_service, named, submitting
from service.commands.console import FAILED, err, misused, print_json, say
from service.commands.options import ApiKey, DataDir, Json, Url, of_spec
from service.commands.waiting import leaving
from service.domain.experiment import Status

if TYPE_CHECKING:
    from service.client import Client, ExperimentHandle, Sync

__all__ = ["app"]

app = typer.Typer()

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Queue it, print its id, and do not wait.")]
ExperimentId = Annotated[
    str, typer.Argument(metavar="ID", help="Of an experiment: whole, or its first eight or more characters.")
]
EitherId = Annotated[
    str, typer.Argument(metavar="ID", help="Of an experiment or a sweep: whole, or its first eight or more characters.")
]


@app.command()
def train(
    activation: Annotated[str, of_spec("activation", "Of every hidden layer: relu, sigmoid, ...", required=True)],
    depth: Annotated[int, of_spec("depth", "Hidden layers.", required=True)],
    units: Annotated[int | None, of_spec("units", "Units in each hidden layer.")] = None,
    epochs: Annotated[int | None, of_spec("epochs", "Passes over the images.")] = None,
    learning_rate: Annotated[float | None, of_spec("learning_rate", "Step size.")] = None,
    optimizer: Annotated[str | None, of_spec("optimizer", "How weights are moved.")] = None,
    batch_size: Annotated[int | None, of_spec("batch_size", "Images a step.")] = None,
    initializer: Annotated[str | None, of_spec("initializer", "Of every kernel.")] = None,
    seed: Annotated[int | None, of_spec("seed", "Draws the first weights.")] = None,
    shuffle_seed: Annotated[int | None, of_spec("shuffle_seed", "Draws the order of images.")] = None,
    dataset: Annotated[str | None, of_spec("dataset", "The images to learn.")] = None,
    priority: Annotated[int | None, of_spec("priority", "Larger goes first.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.", show_default=False)] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by; repeat it for more.")] = None,
    detach: Detach = False,
    local: Annotated[bool, typer.Option("--local", help="With a service of its own, that stops with it.")] = False,
    data_dir: DataDir = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
    *,
    context: typer.Context,
) -> None:
    """Train a network: queue it, show how it learns, and print what it gave.

    Ctrl-C leaves it running, and says how to go on. Exit code 3 when it failed or was cancelled.

    Example: epochd train --activation relu --depth 3 --epochs 20 --tag mine

    Example: epochd train --activation sigmoid --depth 3 --local
    """
    options: dict[str, Any] = {
        "units": units,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "initializer": initializer,
        "seed": seed,
        "shuffle_seed": shuffle_seed,
        "dataset": dataset,
        "priority": priority,
        "name": name,
        "tags": tag,
    }
    if local and detach:
        misused("--local stops its service at the end of the command: it does not go with --detach")
    if data_dir is not None and not local:
        misused("--data-dir is for --local; the service has a data folder of its own")
    if local and any(_given(context, name) for name in ("url", "api_key")):
        misused("--local starts a service of its own: it does not go with --url and --api-key")
    service = local_service(dataset or "mnist", data_dir) if local else connect(url, api_key)
    find = "the next epochd serve on the same data folder shows it" if local else ""
    with service as api:
        with submitting(url, find=find):
            experiment = api.train(
                activation, depth, **{key: value for key, value in options.items() if value is not None}
            )
        if local:
            hints = _local_hints(experiment, data_dir)
            _finish(experiment, hints=hints, besides=_earlier(api, experiment), detach=detach, as_json=as_json)
        else:
            _finish(experiment, hints=_hints(experiment, url), detach=detach, as_json=as_json)


def _earlier(api: "Client", experiment: "ExperimentHandle[Sync]") -> Iterator[str]:
    """What to say of those that a service of the command's own takes up before what was just queued."""
    count = sum(one.id != experiment.id for one in api.experiments(status=[Status.QUEUED, Status.RUNNING]))
    if count:
        told = (
            "1 earlier experiment of this folder goes"
            if count == 1
            else f"{count:,} earlier experiments of this folder go"
        )
        yield f"{told} first"
        yield f"  see them: epochd list --status queued --status running{named(api.url)}"
        yield f"  cancel one: epochd cancel ID{named(api.url)}"


def _given(context: typer.Context, option: str) -> bool:
    """Whether it stands on the command line, and not in the environment alone."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _hints(experiment: "ExperimentHandle[Sync]", url: str | None) -> dict[str, str]:
    """What can be done about one that goes on."""
    return {
        "follow it": f"epochd show {experiment.id} --watch{named(url)}",
        "cancel it": f"epochd cancel {experiment.id}{named(url)}",
    }


def _local_hints(experiment: "ExperimentHandle[Sync]", data_dir: Path | None) -> dict[str, str]:
    """The same when its service has ended with the command."""
    serve = "epochd serve" + (f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else "")
    return {"when a service runs on the same data folder": serve, "cancel it then": f"epochd cancel {experiment.id}"}


def _finish(
    experiment: "ExperimentHandle[Sync]",
    *,
    hints: Mapping[str, str],
    besides: Iterable[str] = (),
    detach: bool,
    as_json: bool,
) -> None:
    """Wait for it, unless that is not wanted, and print what came of it. `besides` is what else to say first."""
    from service.commands import display

    if not detach:
        with leaving(f"experiment {experiment.id}", hints):
            err.print(f"experiment {experiment.id} is queued")
            for line in besides:
                err.print(line)
            experiment.wait(progress=True, check=False)
    told = experiment.id if detach else display.outcome(experiment.value)
    lest = f"the experiment is {experiment.id}"
    print_json(experiment.raw, lest=lest) if as_json else say(told, lest=lest)
    if not detach and experiment.status is not Status.SUCCEEDED:
        raise typer.Exit(FAILED)


@app.command(name="list")
def list_(
    status: Annotated[list[Status] | None, typer.Option(help="Only in this status; repeat it for more.")] = None,
    activation: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only with this activation; repeat it for more.")
    ] = None,
    depth: Annotated[list[int] | None, typer.Option(help="Only of this depth; repeat it for more.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only on these images; repeat it for more.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat it for all of several.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Only this sweep's.", show_default=False)] = None,
    sort: Annotated[
        Literal["-created_at", "created_at", "-test_accuracy", "test_accuracy"],
        typer.Option(help="What comes first; - for the newest or highest."),
    ] = "-created_at",
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the page before.", show_default=False)] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List experiments, the newest first.

    Example: epochd list --status succeeded --activation relu --sort -test_accuracy --limit 5
    """
    from service.commands import display

    with connect(url, api_key) as api:
        page = api.page(
            status=status or (),
            activation=activation or (),
            depth=depth or (),
            dataset=dataset or (),
            tag=tag or (),
            sweep_id=None if sweep is None else api.get_sweep(sweep).id,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )
    print_json(page.raw) if as_json else say(display.experiments(one.value for one in page.data))


@app.command()
def show(
    identity: ExperimentId,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it first, until it has ended.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show an experiment: what it is, what it gave, and its learning curves.

    Example: epochd show 01a20f00-0000 --watch
    """
    from service.commands import display

    with connect(url, api_key) as api:
        experiment = api.get_experiment(identity)
        if watch:
            with leaving(f"experiment {experiment.id}", _hints(experiment, url)):
                experiment.wait(progress=True, check=False)
        print_json(experiment.raw) if as_json else say(display.experiment(experiment.value, experiment.metrics()))
    if watch and experiment.status is not Status.SUCCEEDED:
        raise typer.Exit(FAILED)


@app.command()
def cancel(identity: EitherId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Cancel an experiment, or all of a sweep that has not ended. What was measured so far stays.

    Example: epochd cancel 01a20f00-0000-7000-8000-000000000000
    """
    with connect(url, api_key) as api:
        found = either(api, identity)
        found.cancel()
    print_json(found.raw) if as_json else say(f"{found.id} {found.status}")


@app.command()
def retry(
    identity: ExperimentId,
    detach: Detach = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Train an experiment that has ended once more, as a new one, and wait for it as `train` does.

    Example: epochd retry 01a20f00-0000-7000-8000-000000000000
    """
    with connect(url, api_key) as api:
        before = api.get_experiment(identity)
        with submitting(url):
            experiment = before.retry()
        _finish(experiment, hints=_hints(experiment, url), detach=detach, as_json=as_json)


@app.command()
def delete(identity: EitherId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Delete an experiment or a sweep that has ended, with its metrics and its models. Nothing is asked.

    Example: epochd delete 01a20f00-0000-7000-8000-000000000000
    """
    with connect(url, api_key) as api:
        found = either(api, identity)
        found.delete()
    print_json({"id": found.id, "deleted": True}) if as_json else say(f"{found.id} deleted")
