"""The values of the domain: what a spec accepts, how large its network is, and how an experiment may live."""

import itertools
import math
from typing import Any

import pytest
from pydantic import ValidationError

from service.domain.experiment import ACTIVATIONS, TRANSITIONS, EpochMetrics, Result, Spec, Status

SMALLEST: dict[str, Any] = {"activation": "relu", "depth": 1}


def spec(**values: Any) -> Spec:
    return Spec.model_validate(SMALLEST | values)


def test_the_defaults_are_the_articles() -> None:
    assert spec().model_dump(mode="json") == {
        "activation": "relu",
        "depth": 1,
        "units": 16,
        "epochs": 10,
        "batch_size": 1000,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "initializer": "glorot_uniform",
        "seed": 0,
        "shuffle_seed": 0,
        "dataset": "mnist",
        "priority": 0,
        "name": None,
        "tags": [],
    }


@pytest.mark.parametrize("field", ["activation", "depth"])
def test_only_activation_and_depth_are_required(field: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        Spec.model_validate({name: value for name, value in SMALLEST.items() if name != field})


BOUNDS = {
    "depth": (1, 64),
    "units": (1, 1024),
    "epochs": (1, 1000),
    "batch_size": (1, 60_000),
    "seed": (0, 2**31 - 1),
    "shuffle_seed": (0, 2**31 - 1),
    "priority": (-1000, 1000),
}


@pytest.mark.parametrize(("field", "least", "most"), [(field, *bounds) for field, bounds in BOUNDS.items()])
def test_whole_numbers_keep_to_their_bounds(field: str, least: int, most: int) -> None:
    for right in (least, most):
        assert getattr(spec(**{field: right}), field) == right
    for wrong in (least - 1, most + 1, 10**30, -(10**30)):
        with pytest.raises(ValidationError, match=field):
            spec(**{field: wrong})


@pytest.mark.parametrize("field", BOUNDS)
@pytest.mark.parametrize("wrong", [1.0, "1", True, None, [1], {}, math.nan])
def test_nothing_is_taken_for_a_whole_number(field: str, wrong: object) -> None:
    with pytest.raises(ValidationError, match=field):
        spec(**{field: wrong})


def test_the_learning_rate_is_positive_and_finite() -> None:
    for right in (5e-324, 0.1, 1, 1e9):
        assert spec(learning_rate=right).learning_rate == right
    for wrong in (0, -0.0, -1, 1.1e9, math.nan, math.inf, "0.1", True, None):
        with pytest.raises(ValidationError, match="learning_rate"):
            spec(learning_rate=wrong)


@pytest.mark.parametrize("field", ["activation", "optimizer", "initializer", "dataset"])
@pytest.mark.parametrize("wrong", ["", "RELU", "Adam", "mnist ", "nothing", 1, None, ["relu"]])
def test_names_are_exact(field: str, wrong: object) -> None:
    with pytest.raises(ValidationError, match=field):
        spec(**{field: wrong})


def test_every_activation_is_accepted() -> None:
    assert len(set(ACTIVATIONS)) == len(ACTIVATIONS) >= 12
    for activation in ACTIVATIONS:
        assert spec(activation=activation).activation == activation


@pytest.mark.parametrize(
    "text", ["a", "ä", "two words", "日本", "🙂", "a" * 64, "'; DROP TABLE experiments; --", "\u2028"]
)
def test_names_and_tags_are_any_line_of_text(text: str) -> None:
    assert spec(name=text, tags=[text]).tags == (text,)


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "a\nb", "\x1f", "\x7f", "\ud800", "tail\n", "a" * 201, 1, True, b"a"]
)
def test_names_and_tags_are_nothing_else(text: object) -> None:
    with pytest.raises(ValidationError, match="name"):
        spec(name=text)
    with pytest.raises(ValidationError, match="tags"):
        spec(tags=[text])


@pytest.mark.parametrize("tags", ["abc", None, 1, {"a": 1}, ["a"] * 33, ["a" * 65], [None], [["a"]]])
def test_tags_are_a_short_list_of_short_texts(tags: object) -> None:
    with pytest.raises(ValidationError, match="tags"):
        spec(tags=tags)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="nope"):
        spec(nope=1)


def test_a_spec_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec().units = 5  # type: ignore[misc]


def test_a_spec_survives_json() -> None:
    one = spec(learning_rate=1e-7, tags=["a", "a"], name="x", priority=-3)
    assert Spec.model_validate_json(one.model_dump_json()) == one
    assert Spec.model_validate(one.model_dump(mode="json")) == one


@pytest.mark.parametrize("depth", [1, 2, 3, 64])
@pytest.mark.parametrize("units", [1, 16, 1024])
def test_parameters_are_all_kernels_and_biases(depth: int, units: int) -> None:
    widths = [784] + [units] * depth + [10]
    layers = [(rows + 1) * columns for rows, columns in itertools.pairwise(widths)]
    assert spec(depth=depth, units=units).parameters == sum(layers)


def test_the_states_are_those_of_the_design() -> None:
    drawn = """
        queued running, queued cancelled, running succeeded, running failed, running cancelling, running queued,
        cancelling cancelled
    """
    pairs = {tuple(pair.split()) for pair in drawn.split(",")}
    assert {(source.value, target.value) for source in Status for target in TRANSITIONS[source]} == pairs


def test_terminal_states_are_left_for_nothing() -> None:
    assert {status for status in Status if status.terminal} == {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}
    for status in Status:
        assert status.terminal == (not TRANSITIONS[status])
        assert set(Status.sources(status)) == {source for source in Status if status in TRANSITIONS[source]}


def test_every_state_can_be_reached_and_can_reach_an_end() -> None:
    reached = {Status.QUEUED}
    for _ in Status:
        reached |= {target for source in reached for target in TRANSITIONS[source]}
    assert reached == set(Status)
    ends = {status for status in Status if status.terminal}
    for _ in Status:
        ends |= {source for source in Status if TRANSITIONS[source] & ends}
    assert ends == set(Status)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_json_has_no_number_for_becomes_null(value: float | None) -> None:
    metrics = EpochMetrics(
        epoch=1, loss=value, accuracy=0.5, val_loss=value, val_accuracy=0.5, seconds=1, gradient_norms=(value, 1.0)
    )
    assert metrics.loss is None
    assert metrics.gradient_norms == (None, 1.0)
    assert "NaN" not in metrics.model_dump_json()


def test_a_result_is_made_of_finite_numbers() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Result(test_loss=math.nan, test_accuracy=0.5, computation_seconds=1)


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({}, 10 * 60),
        ({"epochs": 1}, 60),
        ({"epochs": 1, "batch_size": 1}, 60_000),
        ({"epochs": 1, "batch_size": 7}, 8572),
        ({"epochs": 1, "batch_size": 1001}, 60),
        ({"epochs": 3, "batch_size": 60_000}, 180),
    ],
)
def test_training_costs_parameters_times_steps_and_large_batches_are_not_free(values: Any, steps: int) -> None:
    found = spec(units=4, **values)
    assert found.training_cost == found.parameters * steps
