"""Values of a sweep as they are written on a command line."""

from typing import Any

import pytest
import typer

from service.commands.grid import base_and_grid


@pytest.mark.parametrize(
    ("field", "text", "values"),
    [
        ("activation", "Sigmoid, relu", ["sigmoid", "relu"]),
        ("depth", "1,2,5", [1, 2, 5]),
        ("units", "1-8", {"start": 1, "stop": 8, "step": 1}),
        ("epochs", "1-9:2", {"start": 1, "stop": 9, "step": 2}),
        ("learning_rate", "0.001,1e-2", [0.001, 0.01]),
    ],
)
def test_several_values_are_varied(field: str, text: str, values: Any) -> None:
    assert base_and_grid({field: text}) == ({}, {field: values})


@pytest.mark.parametrize(
    ("field", "text"),
    [("depth", "3-"), ("depth", "1-3,5"), ("depth", ""), ("depth", "1_0"), ("depth", "\uff11"),
     ("learning_rate", "1_0"),
     ("learning_rate", "1-3"), ("learning_rate", "x"), ("activation", "rleu"), ("optimizer", "")],
)  # fmt: skip
def test_what_is_no_value_of_a_field_is_refused_by_its_option(field: str, text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        base_and_grid({field: text})
    assert refused.value.param_hint == f"'--{field.replace('_', '-')}'"


def test_one_value_is_shared_and_what_is_not_said_is_left_to_the_service() -> None:
    given = {"activation": "relu", "depth": "3", "units": None}
    assert base_and_grid(given) == ({"activation": "relu", "depth": 3}, {})
