"""Values of a sweep as they are written on a command line: `sigmoid,relu`, `1-8`, `1-9:2`, `0.001,0.01`."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["base_and_grid"]

RANGE = re.compile(r"(\d+)-(\d+)(?::(\d+))?")


def base_and_grid(options: Mapping[str, str | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What all experiments of a sweep share, and what it varies. Which values can be used is for the service to say."""
    base: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    for field, text in options.items():
        if text is None:
            continue
        values = _values(text)
        if isinstance(values, list) and len(values) == 1:
            base[field] = values[0]
        else:
            grid[field] = values
    return base, grid


def _values(text: str) -> list[Any] | dict[str, int]:
    found = RANGE.fullmatch(text.strip())
    if found is not None:
        start, stop, step = found.groups()
        return {"start": int(start), "stop": int(stop), "step": int(step or 1)}
    return [_value(part.strip()) for part in text.split(",")]


def _value(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
