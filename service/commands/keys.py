"""`epochd keys`: who may use the service. They work on the database itself, for the first key is made before anybody
could ask the service for one.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.ages import age
from service.commands.console import err, print_json, say
from service.commands.environment import operator, require_database, settings_of
from service.commands.options import DatabaseUrl, DataDir, Json
from service.domain.access import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from service.domain.access import ApiKey
    from service.store.session import Database

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

Expiry = timedelta | datetime | None


def _expiry(text: str) -> Expiry:
    if text == "never":
        return None
    if (found := age(text)) is not None:
        return found
    with contextlib.suppress(ValueError, OverflowError):  # the latter beyond the years 1 to 9999 in UTC
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    raise typer.BadParameter(
        "an expiry is an age of at most 5 digits such as 12h, 90d or 26w, a date such as 2030-01-31, or never"
    )


@contextlib.contextmanager
def _database(data_dir: "Path | None", database_url: str | None, *, make: bool = False) -> "Iterator[Database]":
    """The service's database. One that is not there, or is empty, is made only where `make` says so: the first key may
    come before the first start. It is told then, for the way to the service's own may have been mistyped.
    """
    from service.store import schema
    from service.store.opening import open_database

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    if not make:
        require_database(settings)
    with open_database(settings) as database:
        new = database.is_missing or schema.current(database) is None
        schema.initialise(database)
        if new:
            where = database.url.database
            err.print(f"epochd: a new database was made: {where}. A service that runs on another knows nothing of it")
        yield database


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is, or what for: the audit trail tells it.")],
    scope: Annotated[
        list[Scope],
        typer.Option(help="What it allows; may be given many times. write has read with it, admin has all."),
    ],
    expires: Annotated[
        str, typer.Option(metavar="AGE|DATE|never", help="90d, also h or w; 2030-01-31, in UTC; or never.")
    ] = "90d",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown this once, and kept nowhere: standard output has the key alone.

    From the first key on the service asks for one. Run it where the database is, with the service's own --data-dir or
    --database-url.

    Example: epochd keys create --name laptop --scope write --scope predict --expires 26w
    """
    until = _expiry(expires)  # before anything is opened
    from service.store import keys, trail

    scopes = list(dict.fromkeys(scope))
    with _database(data_dir, database_url, make=True) as database, database.write() as session:
        expires_at = datetime.now(UTC) + until if isinstance(until, timedelta) else until
        key, text = keys.create(session, name=name, scopes=scopes, expires_at=expires_at)
        trail.record(session, operator(), "key.create", key.id, name=name, scopes=sorted(scopes))
    if as_json:
        print_json({**_told(key), "key": text}, lest=f"the key {text} was made")
        return
    err.print(f"key {key.id} for {key.name}: {_scopes(key)}; expires {_moment(key.expires_at)}")
    err.print("This is the only time it is shown. Services that run ask for it within 5 s.")
    say(text, lest=f"the key {text} was made")


@app.command("list")
def list_(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """List the API keys: what each allows, until when, and when it was last used, to the minute.

    Example: epochd keys list --json
    """
    from service.store import keys

    with _database(data_dir, database_url) as database, database.read() as session:
        found = keys.every(session)
    if as_json:
        print_json([_told(one) for one in found])
    elif found:
        from service.commands import display

        say(display.keys(found, datetime.now(UTC)))
    else:
        say("There is no key: whoever reaches the service may do everything. epochd keys create makes one.")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID|NAME", help="The key's id, or its name.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Revoke an API key for good. Services that run refuse it within 5 s. Asking again is no error.

    Example: epochd keys revoke laptop
    """
    from service.store import keys, trail

    with _database(data_dir, database_url) as database, database.write() as session:
        found, revoked = keys.revoke(session, key)
        if revoked:
            trail.record(session, operator(), "key.revoke", found.id, name=found.name)
    if as_json:
        print_json(_told(found))
        return
    said = "is revoked; services that run refuse it within 5 s" if revoked else "is revoked already"
    say(f"key {found.id} of {found.name} {said}")


def _told(key: "ApiKey") -> dict[str, Any]:
    moments = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "last_used_at")}
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        **{name: moment.isoformat() if moment else None for name, moment in moments.items()},
    }


def _scopes(key: "ApiKey") -> str:
    return ", ".join(sorted(key.scopes))


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "never"
