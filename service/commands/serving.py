"""`epochd serve` and `epochd worker`."""

import contextlib
import os
import signal
from typing import Annotated

import typer

from service.commands.console import err
from service.commands.environment import log_as, settings_of
from service.commands.options import DatabaseUrl, DataDir, Slots
from service.processes import at_end_of_input
from service.telemetry.folder import VARIABLE, shared_folder

__all__ = ["app"]

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="8000")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="The API alone; run workers elsewhere.")] = False,
    slots: Slots = None,
    processes: Annotated[int | None, typer.Option(help="API processes that share the port.", show_default="1")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen for other machines before an API key was made.")
    ] = False,
    listener_fd: Annotated[int | None, typer.Option("--listener-fd", hidden=True)] = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Serve the API, with a worker in its own process, until Ctrl-C.

    Example: epochd serve --port 9000 --slots 2
    """
    settings = settings_of(
        host=host,
        port=port,
        processes=processes,
        data_dir=data_dir,
        database_url=database_url,
        slots=slots,
        insecure=insecure or None,
    )
    log_as(settings)

    if until_stdin_closes and listener_fd is None:
        at_end_of_input(lambda: os.kill(os.getpid(), signal.SIGTERM))

    def announce(url: str) -> None:
        if listener_fd is not None:
            return
        training = "no worker here" if no_worker else f"a worker trains {settings.slots} at once"
        err.print(f"epochd is ready: {url}  docs: {url}/docs  ({training}; Ctrl-C stops)")

    # A further API process of a service shares the metrics of its first.
    with shared_folder() if listener_fd is None else contextlib.nullcontext():
        from service import main as composition  # imports metrics, which must know of the folder

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
    settings = settings_of(data_dir=data_dir, database_url=database_url, slots=slots)
    log_as(settings)
    if not until_stdin_closes:
        os.environ.pop(VARIABLE, None)  # nobody's processes but ours are to be counted
    from service.worker.process import work

    work(settings, until_stdin_closes=until_stdin_closes)
