"""The command `epochd`, put together from `service.commands`."""

from typing import Annotated

import typer

from service.commands import data, database, experiments, predictions, results, serving, sweeps
from service.commands.console import INTERRUPTED, err, fail
from service.errors import EpochdError

__all__ = ["app", "main"]

app = typer.Typer(
    name="epochd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains Keras models behind a REST API, and shows why depth hurts sigmoid and not ReLU.\n\n"
    "Every setting can also be given as an EPOCHD_* environment variable.",
    epilog="Exit codes: 0 it is done; 1 it could not be done, and a line says why; 2 the command is not written so; "
    "3 the experiment that was waited for failed or was cancelled; 130 Ctrl-C.",
)
for module in (serving, experiments, sweeps, predictions, results):
    app.add_typer(module.app)
app.add_typer(database.app, name="db")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command. A known error is one line on standard error and exit code 1."""
    try:
        app()
    except EpochdError as error:
        fail(str(error))
    except KeyboardInterrupt:
        err.print("epochd: stopped")
        raise SystemExit(INTERRUPTED) from None


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


if __name__ == "__main__":
    main()
