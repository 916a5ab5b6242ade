"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands.grid import names_of, reader
from service.domain.experiment import Spec

__all__ = ["ApiKey", "DataDir", "DatabaseUrl", "Json", "Slots", "Url", "not_empty", "of_spec", "of_sweep"]

FEW = 5
"""So many names are shown in a table of options."""


def not_empty(text: str | None) -> str | None:
    """What was given. A shell makes an empty word of a variable that is not set: who means nothing leaves it out.

    Raises:
        typer.BadParameter: it is empty.
    """
    if text == "":
        raise typer.BadParameter("it is empty: give a value, or leave it out")
    return text


DataDir = Annotated[
    Path | None, typer.Option(help="Folder of database, blobs and datasets.", show_default="./epochd-data")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.",
        show_default="SQLite in the data folder",
        callback=not_empty,
    ),
]
Slots = Annotated[int | None, typer.Option(help="Experiments to train at once.", show_default="cores, at most 4")]

Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the service.", envvar="EPOCHD_URL", show_default="http://127.0.0.1:8000", callback=not_empty
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="Key of the service, if it wants one.", envvar="EPOCHD_API_KEY", show_default=False, callback=not_empty
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The service's own JSON on standard output.")]


def of_spec(field: str, told: str, *, required: bool = False) -> Any:  # noqa: ANN401 - Typer's
    """The option for a field of a spec. Its help says what the service takes when it is not given."""
    names = names_of(field)
    return typer.Option(
        help=told,
        metavar=("|".join(names) if len(names) <= FEW else "NAME") if names else None,
        parser=reader(field),
        autocompletion=lambda: list(names),
        show_default=_default(field, required=required),
    )


def of_sweep(field: str, told: str, *, required: bool = False) -> Any:  # noqa: ANN401 - Typer's
    """The same for values of a field in a sweep, with commas between them."""
    names = names_of(field)

    def complete(incomplete: str) -> list[str]:
        before = "".join(incomplete.rpartition(",")[:2])
        return [f"{before}{name}" for name in names]

    return typer.Option(
        help=told,
        metavar="NAMES" if names else "NUMBERS",
        autocompletion=complete,
        show_default=_default(field, required=required),
    )


def _default(field: str, *, required: bool) -> str | bool:
    return False if required else str(Spec.model_fields[field].default)
