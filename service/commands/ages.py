"""Ages as they are written on a command line: `12h`, `90d`, `26w`."""

import re
from datetime import timedelta

__all__ = ["age"]

AGE = re.compile(r"(\d{1,5})([hdw])")
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta | None:
    """The age that a text is; None where it is none."""
    found = AGE.fullmatch(text)
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None
