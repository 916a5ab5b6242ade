"""What is said to a service, as JSON: also by those whose numbers are NumPy's."""

import json
import math
from collections.abc import Mapping
from typing import Any

from service.client.errors import FieldError, InvalidRequest

__all__ = ["as_json", "plain"]


def as_json(value: object) -> bytes:
    """A request's body. NumPy's numbers and arrays, ranges and sets are written as what they hold.

    Raises:
        InvalidRequest: something in it cannot be written as JSON; `errors` says where.
    """
    try:
        text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        try:
            pointer, why = _fault(value, "") or ("", str(error))
        except RecursionError:
            pointer, why = "", "it is nested too deeply"
        fault = FieldError(pointer, why, "body")
        raise InvalidRequest(f"{pointer}: {why}" if pointer else why, errors=[fault]) from error


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever somebody gives
    """The same value as lists and numbers, when it is a range, a set or NumPy's; else as it is."""
    if isinstance(value, set | frozenset):
        # The order of a set changes from run to run.
        try:
            return sorted(value)
        except TypeError:
            return sorted(value, key=repr)
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Mapping) and not isinstance(value, dict):
        return dict(value)
    if not callable(getattr(value, "tolist", None)):
        return value
    numbers = value.tolist()
    return float(numbers) if type(numbers) is type(value) else numbers  # a longdouble stays one


def _plain(value: object) -> object:
    """What `json` shall write instead of a value that it does not know."""
    written = plain(value)
    if written is value or isinstance(written, complex):
        raise TypeError(_unknown(value))
    return written


def _unknown(value: object) -> str:
    return f"{type(value).__name__} is nothing that JSON can carry"


def _fault(value: object, pointer: str) -> tuple[str, str] | None:
    """Where a value cannot be written, and why."""
    value = plain(value)
    match value:
        case dict():
            inner = [(f"{pointer}/{name}", one) for name, one in value.items()]
        case list() | tuple():
            inner = [(f"{pointer}/{number}", one) for number, one in enumerate(value)]
        case float():
            return None if math.isfinite(value) else (pointer, f"{value} is no number that JSON can carry")
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return pointer, f"{value!a} is no text: it has half a character"
            return None
        case None | bool() | int():
            return None
        case _:
            return pointer, _unknown(value)
    return next((fault for where, one in inner if (fault := _fault(one, where))), None)
