"""`epochd workers`: who trains."""

import typer

from service.commands.calls import connect
from service.commands.console import print_json, say
from service.commands.options import ApiKey, Json, Url

__all__ = ["app"]

app = typer.Typer()


@app.command()
def workers(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the workers: what each does, and what keeps it from training.

    Example: epochd workers --url http://127.0.0.1:8000
    """
    from service.commands import display

    with connect(url, api_key) as api:
        if as_json:
            print_json(api.request("GET", "/workers"))
        elif found := api.workers():
            say(display.workers(found))
        else:
            say("There is no worker: epochd worker starts one. What is queued waits for it.")
