"""`epochd predict`: reading digits, through the API."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.calls import connect
from service.commands.console import fail, print_json, say
from service.commands.options import ApiKey, Json, Url

__all__ = ["app"]

app = typer.Typer()

INPUT = "-"
"""As it is written: to `Path` a file `./-` is the same."""


@app.command()
def predict(
    picture: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A picture file: PNG, JPEG, WebP, BMP, GIF or TIFF; - for standard input."),
    ],
    model: Annotated[
        str,
        typer.Option(help="Aliases or experiments' ids, with commas between them; each answers."),
    ] = "best",
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Read the digit in a picture, with the best model or those that you name.

    Example: epochd predict digit.png --model best,mine
    """
    from service.client import pictures
    from service.commands import display

    content = _content(picture)
    names = [name.strip() for name in model.split(",")]
    with connect(url, api_key) as api:
        if as_json:
            whole = ",".join([api.model_name(name) for name in names])
            body = pictures.body(content)
            print_json(api.request("POST", "/predict", params={"model": whole}, repeatable=True, **body))
        else:
            say(display.predictions(api.predict_each(content, names)))


def _content(picture: str) -> bytes:
    from service.client import TooLarge, pictures

    try:
        if picture != INPUT:
            return pictures.read_file(Path(picture))
        with open(0, "rb", closefd=False) as file:
            return pictures.read_file(file)
    except TooLarge as error:
        fail(str(error))
    except OSError as error:
        fail(f"{'standard input' if picture == INPUT else Path(picture)} cannot be read: {error.strerror}")
