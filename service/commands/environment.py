"""Settings of a command: the environment's, with its options over them."""

import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from service.commands.console import err, fail
from service.settings import Settings

__all__ = ["log_as", "settings_of"]

CLIENT = ("EPOCHD_URL", "EPOCHD_API_KEY")
"""Variables that are read by clients, not by the service."""


def settings_of(**given: Any) -> Settings:  # noqa: ANN401 - options
    """The environment's settings, with the options that were given on the command line over them."""
    _warn_of_unknown(os.environ)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        fail("a setting cannot be used: " + "; ".join(faults))


def log_as(settings: Settings) -> None:
    """Log to standard error, from the severity on that is set."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What it says of broken forms is for whoever sends them, who would choose how fast the log grows.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    known = {f"EPOCHD_{name.upper()}" for name in Settings.model_fields} | set(CLIENT)
    for name in sorted(environment):
        if name.upper().startswith("EPOCHD_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            err.print(f"epochd: {name} is no setting and does nothing{hint}")
