"""`epochd db`: the database and the files that it names."""

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.ages import age
from service.commands.console import INTERRUPTED, err, fail, print_json, say
from service.commands.environment import operator, require_database, settings_of
from service.commands.options import DatabaseUrl, DataDir, Json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from service.domain.experiment import Status
    from service.store.archive import Manifest
    from service.store.opening import Stores
    from service.store.retention import Policy, Pruned

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look after the database.")


class Ended(StrEnum):
    """How an experiment may have ended, as Typer wants it: it takes no part of an enum."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def _age(text: str | timedelta | None) -> timedelta | None:
    if text is None or isinstance(text, timedelta):  # the default goes through here too
        return text
    found = age(text)
    if found is None:
        raise typer.BadParameter("an age is a whole number of hours, days or weeks, of at most 5 digits: 12h, 90d, 26w")
    return found


@app.command()
def upgrade(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Bring the database's schema up to this version.

    Example: epochd db upgrade --database-url postgresql://epochd@db/epochd
    """
    from service.store import schema
    from service.store.opening import open_database

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    with open_database(settings) as database:
        before = schema.current(database)
        schema.upgrade(database)
        after = schema.current(database)
    if as_json:
        print_json({"from": before, "revision": after})
        return
    if before is None:  # the way to the service's own may have been mistyped
        say(f"a new database was made, at revision {after}: {database.url.database}")
    else:
        say(f"the database is at revision {after}" + (" already" if before == after else f", from {before}"))


@app.command()
def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=_age,
            metavar="AGE",
            help="Since their end: 90d, also h for hours or w for weeks.",
            show_default="required, unless the audit trail alone goes",
        ),
    ] = None,
    status: Annotated[
        list[Ended] | None,
        typer.Option(help="Only what ended so; may be given many times.", show_default="all of them"),
    ] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep every experiment that has a model.")] = False,
    events_only: Annotated[
        bool, typer.Option("--events-only", help="Delete their events only: experiments, metrics and models stay.")
    ] = False,
    audit_older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=_age, metavar="AGE", help="Delete this old entries of the audit trail, too.", show_default="none go"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and delete nothing.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Delete ended experiments that are old, with their metrics, events and files.

    What an alias names stays, `best` too, and so does the newest experiment. A sweep goes as one, when all of it may
    go. Safe while workers run, and to interrupt and repeat.

    Example: epochd db prune --older-than 90d --status failed --status cancelled --dry-run
    """
    from service.domain.experiment import Status
    from service.store import retention, trail
    from service.store.opening import open_stores

    if older_than is None and audit_older_than is None:
        raise typer.BadParameter("give --older-than, --audit-older-than, or both")
    if audit_older_than is not None and not audit_older_than and not dry_run:
        raise typer.BadParameter("the audit trail's last hour stays: give --audit-older-than 1h or more")
    statuses = [Status(one.value) for one in dict.fromkeys(status)] if status else retention.ENDED
    settings = settings_of(data_dir=data_dir, database_url=database_url)
    require_database(settings)
    gone, acts, interrupted = retention.Pruned(), 0, False
    with open_stores(settings, initialise=True) as stores:
        if not dry_run:  # before, not after: it may be killed
            _record_prune(stores, older_than, audit_older_than, statuses, events_only=events_only)
        try:
            if older_than is not None:
                policy = retention.Policy(older_than=older_than, statuses=statuses, keep_models=keep_models)
                for part in _parts(stores, policy, events_only=events_only, dry_run=dry_run):
                    gone += part
            if audit_older_than is not None:
                acts = sum(trail.prune(stores.database, audit_older_than, dry_run=dry_run))
        except KeyboardInterrupt:
            interrupted = True
    counts = {"experiments": gone.experiments, "sweeps": gone.sweeps, "events": gone.events, "files": gone.files}
    if as_json:
        print_json({**counts, "audit_entries": acts, "dry_run": dry_run, "complete": not interrupted})
    else:
        told = [
            _told(gone, events_only=events_only, dry_run=dry_run) if older_than is not None else "",
            f"{acts:,} entries of the audit trail {'would be ' if dry_run else ''}deleted"
            if audit_older_than is not None
            else "",
        ]
        say("\n".join(filter(None, told)))
    if interrupted:
        err.print("epochd: interrupted: the same command goes on from here")
        raise typer.Exit(INTERRUPTED)


def _record_prune(
    stores: "Stores",
    older_than: timedelta | None,
    audit_older_than: timedelta | None,
    statuses: "Collection[Status]",
    *,
    events_only: bool,
) -> None:
    from service.store import trail

    asked: dict[str, Any] = {}
    if older_than is not None:
        asked |= {
            "older_than": str(older_than),
            "status": [one.value for one in statuses],
            "events_only": events_only,
        }
    if audit_older_than is not None:
        asked["audit_older_than"] = str(audit_older_than)
    with stores.database.write() as session:
        trail.record(session, operator(), "database.prune", "database", **asked)


def _parts(stores: "Stores", policy: "Policy", *, events_only: bool, dry_run: bool) -> "Iterator[Pruned]":
    from service.store import retention

    if events_only:
        return retention.prune_events(stores.database, policy, dry_run=dry_run)
    return retention.prune(stores.database, stores.blobs, policy, dry_run=dry_run)


def _told(gone: "Pruned", *, events_only: bool, dry_run: bool) -> str:
    what = (
        f"{gone.events:,} events of {gone.experiments:,} experiments"
        if events_only
        else f"{gone.experiments:,} experiments, {gone.sweeps:,} sweeps and {gone.files:,} files"
    )
    return f"{what} would be deleted" if dry_run else f"{what} deleted"


@app.command()
def check(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the files that no experiment names.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the stored files with the experiments that name them: lists missing, damaged and orphaned files.

    Reads every file. Exit code 1 when one is missing or damaged. Safe while workers run.

    Example: epochd db check --repair
    """
    from service.store.audit import audit, remove
    from service.store.opening import open_stores

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    require_database(settings)
    with open_stores(settings, initialise=True) as stores:
        report = audit(stores.database, stores.blobs)
        if repair:
            remove(stores.blobs, report.orphans)
    orphaned = [blob.key for blob in report.orphans]
    kinds = {"missing": report.missing, "damaged": report.corrupt, "orphaned": orphaned}
    if as_json:
        files = {
            kind: [{"experiment_id": one, "sha256": sha256} for one, sha256 in found] for kind, found in kinds.items()
        }
        print_json({"checked": report.checked, **files, "repaired": repair})
        raise typer.Exit(0 if report.sound else 1)
    for kind, found in kinds.items():
        for experiment_id, sha256 in found:
            removed = ", removed" if repair and kind == "orphaned" else ""
            say(f"{kind}: {sha256} of experiment {experiment_id}{removed}")
    say(
        f"{report.checked} files checked: {len(report.missing)} missing, {len(report.corrupt)} damaged, "
        f"{len(report.orphans)} orphaned{' and removed' if repair and report.orphans else ''}"
    )
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def gc(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=_age, metavar="AGE", help="Leave what was written since: 12h, also d or w.", show_default="1h"
        ),
    ] = timedelta(hours=1),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what is garbage, and leave it.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the stored files that no experiment names and none ever will.

    Lists files and reads none, so it is quick: let a timer run it. Safe while workers run, with any --older-than.

    Example: epochd db gc --dry-run
    """
    from service.store.audit import orphans, remove
    from service.store.opening import open_stores

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    require_database(settings)
    with open_stores(settings, initialise=True) as stores:
        found = orphans(stores.database, stores.blobs, older_than=older_than)
        if not dry_run:
            remove(stores.blobs, found)
    size = sum(blob.size for blob in found)
    if as_json:
        garbage = [
            {
                "experiment_id": blob.key[0],
                "sha256": blob.key[1],
                "bytes": blob.size,
                "modified": blob.modified.isoformat(),
            }
            for blob in found
        ]
        print_json({"garbage": garbage, "bytes": size, "removed": not dry_run})
        return
    for blob in found:
        say(f"garbage: {blob.key[1]} of experiment {blob.key[0]}, {blob.size:,} bytes")
    files, are = ("file", "is") if len(found) == 1 else ("files", "are")
    say(f"{len(found)} {files} {f'{are} garbage' if dry_run else 'removed'}, {size:,} bytes")


@app.command()
def backup(
    target: Annotated[str, typer.Argument(help="A new folder, or s3://BUCKET/PREFIX.", show_default=False)],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Copy the database and every file that it names, while the service runs.

    Whole or not at all: one that was cut short is none, and the same command goes on with it. Exit code 1 when files
    were missing or damaged already: all else is in the backup, and they are listed.

    Example: epochd db backup /srv/backups/2026-03-01
    """
    from service.processes import keep_private
    from service.store.archive import Archive
    from service.store.backup import back_up
    from service.store.opening import open_stores

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    require_database(settings)
    keep_private()
    archive = Archive(target, make=True)
    if archive.overlaps(settings.resolved_blob_url):
        fail(f"{target} is where the blobs are, or around them: give another place")
    with open_stores(settings, initialise=False) as (database, blobs):
        made = back_up(database, blobs, archive, tell=_progress)
    if as_json:
        print_json({**_counted(made), "damaged": made.damaged})
    else:
        for experiment_id, sha256 in made.damaged:
            say(f"not in the blob store: {sha256} of experiment {experiment_id}")
        say(f"{made.rows:,} rows and {made.files:,} files, {made.file_bytes:,} bytes, are in {target}")
    if made.damaged:
        raise typer.Exit(1)


@app.command()
def restore(
    source: Annotated[str, typer.Argument(help="What `epochd db backup` was given.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read all of the backup, and restore nothing.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Bring a backup into an empty database and an empty blob store.

    Of either kind, whatever the backup was made of. What was running is queued again, and goes on from its checkpoint.
    The same command goes on after an interruption.

    Example: epochd db restore /srv/backups/2026-03-01 --data-dir new-data
    """
    from service.processes import keep_private
    from service.store import restore as restoring
    from service.store.archive import Archive
    from service.store.opening import open_stores

    keep_private()
    archive = Archive(source)
    if dry_run:
        found = restoring.verify(archive)
        told = {**_counted(found), "requeued": 0}
    else:
        settings = settings_of(data_dir=data_dir, database_url=database_url)
        with open_stores(settings, initialise=False) as (database, blobs):
            done = restoring.restore(archive, database, blobs, tell=_progress)
        found, told = done.manifest, {**_counted(done.manifest), "files": done.files, "requeued": done.requeued}
    if as_json:
        print_json({**told, "restored": not dry_run})
        return
    say(
        f"{told['rows']:,} rows and {told['files']:,} files of {found.taken_at:%Y-%m-%d %H:%M:%S} UTC are "
        + ("whole" if dry_run else f"restored; {told['requeued']:,} experiments are queued again")
    )


def _progress(text: str) -> None:
    err.print(f"epochd: {text}")


def _counted(manifest: "Manifest") -> dict[str, Any]:
    return {
        "taken_at": manifest.taken_at.isoformat(),
        "version": manifest.version,
        "revision": manifest.revision,
        "rows": manifest.rows,
        "files": manifest.files,
        "bytes": manifest.file_bytes,
    }
