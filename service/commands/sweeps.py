"""`epochd sweep` and `epochd compare`: grids of experiments, through the API."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.calls import connect, named, submitting
from service.commands.console import err, misused, print_json, say
from service.commands.grid import base_and_grid
from service.commands.options import ApiKey, Json, Url, of_sweep
from service.commands.waiting import leaving

if TYPE_CHECKING:
    from service.client import Client, SweepHandle, Sync

__all__ = ["app"]

app = typer.Typer()

Watch = Annotated[bool, typer.Option("--watch", help="Wait until all of it has ended, then compare.")]


@app.command()
def sweep(
    activation: Annotated[str, of_sweep("activation", "Activations, with commas between them.", required=True)],
    depth: Annotated[str, of_sweep("depth", "Hidden layers: 3, or 1,2,5, or 1-8, or 1-9:2.", required=True)],
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeats of each, with the seeds from 0 on.")] = None,
    units: Annotated[str | None, of_sweep("units", "As depth.")] = None,
    epochs: Annotated[str | None, of_sweep("epochs", "As depth.")] = None,
    learning_rate: Annotated[str | None, of_sweep("learning_rate", "With commas between them.")] = None,
    optimizer: Annotated[str | None, of_sweep("optimizer", "With commas between them.")] = None,
    batch_size: Annotated[str | None, of_sweep("batch_size", "As depth.")] = None,
    initializer: Annotated[str | None, of_sweep("initializer", "With commas between them.")] = None,
    dataset: Annotated[str | None, of_sweep("dataset", "With commas between them.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A word to find its experiments by; repeat it for more.")
    ] = None,
    watch: Watch = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count only; nothing is queued.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Train every combination of the values, repeated over seeds, to be compared.

    Example: epochd sweep --activation sigmoid,relu --depth 1-3 --seeds 10 --watch

    Example: epochd sweep --activation relu --depth 2 --learning-rate 0.0001,0.001,0.01 --seeds 5 --dry-run
    """
    base, grid = base_and_grid(
        {
            "activation": activation,
            "depth": depth,
            "units": units,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "optimizer": optimizer,
            "batch_size": batch_size,
            "initializer": initializer,
            "dataset": dataset,
        }
    )
    if dry_run and watch:
        misused("--dry-run queues nothing that --watch could wait for: give one of them")
    wanted: dict[str, Any] = {"base": base, "grid": grid, "seeds": seeds, "name": name, "tags": tag}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    with connect(url, api_key) as api:
        if dry_run and as_json:
            print_json(api.request("POST", "/sweeps", params={"dry_run": True}, json=wanted, repeatable=True))
        elif dry_run:
            plan = api.plan_sweep(**wanted)
            noun = "experiment" if plan.experiments == 1 else "experiments"
            say(f"{plan.experiments:,} {noun}: {len(plan.arms)} to compare, {plan.seeds} of each")
        else:
            with submitting(url):
                queued = api.sweep(**wanted)
            if watch:
                _compare(api, queued, url=url, watch=True, as_json=as_json, first=f"sweep {queued.id} is queued")
            else:
                lest = f"the sweep is {queued.id}"
                print_json(queued.raw, lest=lest) if as_json else say(queued.id, lest=lest)


@app.command()
def compare(
    identity: Annotated[
        str, typer.Argument(metavar="SWEEP", help="Its id: whole, or the first eight or more characters.")
    ],
    reference: Annotated[
        str | None, typer.Option(help="Compare all with this one, by its name in the table.", show_default=False)
    ] = None,
    watch: Watch = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Say which arm of a sweep is better, and how sure that is, as far as it has come.

    Example: epochd compare 01a20f00-0000-7000-8000-000000000000 --reference 'relu, depth 1'
    """
    with connect(url, api_key) as api:
        _compare(api, api.get_sweep(identity), url=url, reference=reference, watch=watch, as_json=as_json)


def _compare(
    api: "Client",
    found: "SweepHandle[Sync]",
    *,
    url: str | None,
    reference: str | None = None,
    watch: bool,
    as_json: bool,
    first: str = "",
) -> None:
    from service.commands import display

    if watch:
        hints = {
            "follow it": f"epochd compare {found.id} --watch{named(url)}",
            "cancel it": f"epochd cancel {found.id}{named(url)}",
        }
        with leaving(f"sweep {found.id}", hints):
            if first:
                err.print(first)
            found.wait(progress=True)
    if as_json:
        params = {} if reference is None else {"reference": reference}
        print_json(api.request("GET", f"/sweeps/{found.id}/comparison", params=params))
    else:
        say(display.comparison(found.comparison(reference=reference)))
