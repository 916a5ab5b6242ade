"""Values of fields as they are written on a command line: `relu`, `3`; in a sweep also `sigmoid,relu`, `1-8`."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import typer

from service.domain.experiment import Spec

__all__ = ["base_and_grid", "names_of", "reader"]

RANGE = re.compile(r"(\d+)-(\d+)(?::(\d+))?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)


def names_of(field: str) -> tuple[str, ...]:
    """The names that a field of a spec takes; none for one that takes others' words or numbers."""
    return tuple(name for name in get_args(Spec.model_fields[field].annotation) if isinstance(name, str))


def reader(field: str) -> Callable[[str], str | int | float]:
    """What reads one value of a field of a spec. It raises `typer.BadParameter` for what is none; which of the others
    can be used is for the service to say.
    """
    if _is_whole(field):
        return _whole
    if Spec.model_fields[field].annotation is float:
        return _number
    names = names_of(field)
    return lambda text: _name(text, names)


def _is_whole(field: str) -> bool:
    return Spec.model_fields[field].annotation is int


def _whole(text: str | int) -> int:
    if not WHOLE.fullmatch(str(text)):
        raise typer.BadParameter(f"{text!r} is no whole number")
    return int(text)


def _number(text: str | float) -> float:
    try:
        return float(str(text).replace("_", "none"))  # Python would read 1_0 as 10
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number") from None


def _name(text: str, names: tuple[str, ...]) -> str:
    found = text.lower().replace("-", "_")
    if found not in names:
        near = difflib.get_close_matches(found, names, n=1)
        raise typer.BadParameter(
            f"{text!r} is not known; did you mean {near[0]}?" if near else f"{text!r} is none of {', '.join(names)}"
        )
    return found


def base_and_grid(options: Mapping[str, str | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all experiments of a sweep share, and what it varies.

    Raises:
        typer.BadParameter: a value is none of its field.
    """
    base: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    for field, text in options.items():
        if text is None:
            continue
        try:
            values = _values(field, text)
        except typer.BadParameter as error:
            error.param_hint = f"'--{field.replace('_', '-')}'"
            if _is_whole(field):
                error.message += ": give 3, or 1,2,5, or 1-8, or 1-9:2"
            raise
        if isinstance(values, list) and len(values) == 1:
            base[field] = values[0]
        else:
            grid[field] = values
    return base, grid


def _values(field: str, text: str) -> list[Any] | dict[str, int]:
    found = RANGE.fullmatch(text.strip())
    if found is not None and _is_whole(field):
        start, stop, step = found.groups()
        return {"start": int(start), "stop": int(stop), "step": int(step or 1)}
    read = reader(field)
    return [read(part.strip()) for part in text.split(",")]
