"""`epochd db`: the database and the files that it names."""

from typing import Annotated

import typer

from service.commands.console import print_json
from service.commands.environment import settings_of
from service.commands.options import DatabaseUrl, DataDir, Json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look after the database.")


@app.command()
def upgrade(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Bring the database's schema up to this version.

    Example: epochd db upgrade --database-url postgresql://epochd@db/epochd
    """
    from service import main as composition
    from service.store import schema

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    with composition.open_database(settings) as database:
        before = schema.current(database)
        schema.upgrade(database)
        after = schema.current(database)
    if as_json:
        print_json({"from": before, "revision": after})
        return
    typer.echo(
        f"the database is at revision {after}" + (" already" if before == after else f", from {before or 'none'}")
    )


@app.command()
def check(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the files that no experiment names.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the stored files with the experiments that name them: lists missing, damaged and orphaned files.

    Exit code 1 when a file is missing or damaged. Safe while workers run.

    Example: epochd db check --repair
    """
    from service import main as composition
    from service.store.audit import audit, remove_orphans

    settings = settings_of(data_dir=data_dir, database_url=database_url)
    with composition.open_ports(settings) as ports:
        report = audit(ports.database, ports.blobs)
        if repair:
            remove_orphans(ports.blobs, report)
    kinds = {"missing": report.missing, "damaged": report.corrupt, "orphaned": report.orphans}
    if as_json:
        files = {
            kind: [{"experiment_id": one, "sha256": sha256} for one, sha256 in found] for kind, found in kinds.items()
        }
        print_json({"checked": report.checked, **files, "repaired": repair})
        raise typer.Exit(0 if report.sound else 1)
    for kind, found in kinds.items():
        for experiment_id, sha256 in found:
            removed = ", removed" if repair and kind == "orphaned" else ""
            typer.echo(f"{kind}: {sha256} of experiment {experiment_id}{removed}")
    typer.echo(
        f"{report.checked} files checked: {len(report.missing)} missing, {len(report.corrupt)} damaged, "
        f"{len(report.orphans)} orphaned{' and removed' if repair and report.orphans else ''}"
    )
    if not report.sound:
        raise typer.Exit(1)
