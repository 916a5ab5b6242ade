"""`epochd audit`: who did what."""

from typing import Annotated

import typer

from service.commands.calls import connect
from service.commands.console import print_json, say
from service.commands.options import ApiKey, Json, Url

__all__ = ["app"]

app = typer.Typer()


@app.command()
def audit(
    target: Annotated[
        str | None, typer.Option(help="Only what was done to this: an id, or the name of an alias.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only what was done with the API key of this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, the newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List who did what: experiments, sweeps, aliases and API keys. Needs a key with the scope admin, if any.

    Example: epochd audit --target champion --limit 10
    """
    from service.commands import display

    asked = {"target": target, "key": key, "limit": limit, "cursor": cursor}
    with connect(url, api_key) as api:
        page = api.request("GET", "/audit", params={name: value for name, value in asked.items() if value is not None})
    if as_json:
        print_json(page)
    elif page["data"]:
        say(display.acts(page["data"]))
        if page["next_cursor"]:
            say(f"There is more: --cursor {page['next_cursor']}")
    else:
        say("Nothing was done that the audit trail has.")
