"""Values of a sweep as they are written on a command line."""

from typing import Any

import pytest

from service.commands.grid import base_and_grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sigmoid, relu", ["sigmoid", "relu"]),
        ("1,2,5", [1, 2, 5]),
        ("1-8", {"start": 1, "stop": 8, "step": 1}),
        ("1-9:2", {"start": 1, "stop": 9, "step": 2}),
        ("0.001,1e-2", [0.001, 0.01]),
        ("3-", ["3-"]),
    ],
)
def test_several_values_are_varied(text: str, values: Any) -> None:
    base, grid = base_and_grid({"field": text})
    assert (grid or {"field": [base["field"]]}) == {"field": values}


def test_one_value_is_shared_and_what_is_not_said_is_left_to_the_service() -> None:
    given = {"activation": "relu", "depth": "3", "units": None}
    assert base_and_grid(given) == ({"activation": "relu", "depth": 3}, {})
