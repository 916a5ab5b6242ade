"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.domain.experiment import Spec

__all__ = ["ApiKey", "DataDir", "DatabaseUrl", "Json", "Slots", "Url", "of_spec"]

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of database, blobs and datasets.", show_default="./epochd-data")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.", show_default="SQLite in the data folder"
    ),
]
Slots = Annotated[int | None, typer.Option(help="Experiments to train at once.", show_default="cores, at most 4")]

Url = Annotated[
    str | None,
    typer.Option(help="Address of the service.", envvar="EPOCHD_URL", show_default="http://127.0.0.1:8000"),
]
ApiKey = Annotated[
    str | None, typer.Option(help="Key of the service, if it wants one.", envvar="EPOCHD_API_KEY", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="The service's own JSON on standard output.")]


def of_spec(field: str, told: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - Typer's
    """The option for a field of a spec. Its help says what the service takes when it is not given."""
    return typer.Option(help=told, metavar=metavar, show_default=str(Spec.model_fields[field].default))
