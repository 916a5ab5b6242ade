"""The command `epochd`, put together."""

from typing import Annotated

import typer

from service.commands import audit, data, database, experiments, keys, predictions, results, serving, sweeps, workers
from service.commands.console import say
from service.commands.ending import Commands

__all__ = ["app"]

app = typer.Typer(
    name="epochd",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains Keras models behind a REST API, and shows why depth hurts sigmoid and not ReLU.\n\n"
    "Every setting can also be given as an EPOCHD_* environment variable.",
    epilog="Exit codes: 0 it is done; 1 it could not be done, and a line says why; 2 the command is not written so; "
    "3 the experiment that was waited for failed or was cancelled; 129 SIGHUP; 130 Ctrl-C; "
    "141 nobody reads its output any more; 143 SIGTERM.",
)
for module in (serving, experiments, sweeps, predictions, results, workers, audit):
    app.add_typer(module.app)
app.add_typer(database.app, name="db")
app.add_typer(data.app, name="data")
app.add_typer(keys.app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"epochd {version('epochd')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass
