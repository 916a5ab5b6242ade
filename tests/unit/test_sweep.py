"""Grids of specs: what is accepted, what it means, and where a fault is."""

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from service.domain.experiment import Spec, Status
from service.domain.sweep import REPEATS, SWEEPABLE, Spacing, SweepProgress, SweepSpec, SweepStatus
from service.errors import SpecTooLarge, SweepTooLarge

BASE: dict[str, Any] = {"activation": "relu", "depth": 1}


def sweep(**values: Any) -> SweepSpec:
    return SweepSpec.model_validate(values)


def over(field: str, values: Any) -> SweepSpec:
    return sweep(base={name: value for name, value in BASE.items() if name != field}, grid={field: values})


def faults(**values: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        sweep(**values)
    found = {"".join(f"/{part}" for part in fault["loc"]): fault["msg"] for fault in caught.value.errors()}
    assert len(found) == caught.value.error_count()
    return found


def test_the_articles_question_is_sixty_experiments_in_six_arms() -> None:
    article = sweep(grid={"depth": [1, 2, 3], "activation": ["sigmoid", "relu"]}, seeds=10)
    assert (article.size, article.repeats) == (60, 10)
    assert [arm.label for arm in article.arms()] == [
        "sigmoid, depth 1", "sigmoid, depth 2", "sigmoid, depth 3", "relu, depth 1", "relu, depth 2", "relu, depth 3",
    ]  # fmt: skip
    assert article.arms()[1].values == {"activation": "sigmoid", "depth": 2}
    specs = list(article.specs())
    assert specs[:2] == [Spec(activation="sigmoid", depth=1), Spec(activation="sigmoid", depth=1, seed=1)]
    assert specs[59] == Spec(activation="relu", depth=3, seed=9)


def test_experiments_of_one_arm_are_neighbours_and_those_that_see_the_same_batches_too() -> None:
    specs = list(sweep(base=BASE, grid={"shuffle_seed": [7, 8], "units": [1, 2], "seed": [3, 4]}).specs())
    assert [(one.units, one.shuffle_seed, one.seed) for one in specs] == [
        (1, 7, 3), (1, 7, 4), (1, 8, 3), (1, 8, 4), (2, 7, 3), (2, 7, 4), (2, 8, 3), (2, 8, 4),
    ]  # fmt: skip


def test_everything_of_a_spec_can_be_swept_but_what_says_nothing_of_the_network() -> None:
    assert set(Spec.model_fields) - set(SWEEPABLE) == {"priority", "name", "tags"}
    assert set(REPEATS) < set(SWEEPABLE)
    for field in ("priority", "name", "tags", "nope"):
        assert faults(base=BASE, grid={field: [1]}).keys() == {f"/grid/{field}"}


VALUES: dict[str, tuple[list[Any], Any]] = {
    "activation": (["relu", "tanh"], "rleu"),
    "depth": ([1, 64], 65),
    "units": ([1, 1024], 0),
    "epochs": ([1, 1000], 1001),
    "batch_size": ([1, 60_000], 1.0),
    "optimizer": (["adam", "sgd"], "Adam"),
    "learning_rate": ([0.1, 1], 0),
    "initializer": (["zeros", "he_normal"], None),
    "seed": ([0, 2**31 - 1], -1),
    "shuffle_seed": ([0, 2**31 - 1], True),
    "dataset": (["mnist", "fashion_mnist"], "cifar10"),
}


@pytest.mark.parametrize("field", SWEEPABLE)
def test_every_value_is_held_to_the_rules_of_a_spec(field: str) -> None:
    right, wrong = VALUES[field]
    assert [getattr(one, field) for one in over(field, right).specs()] == right
    others = {name: value for name, value in BASE.items() if name != field}
    for grid, pointer in ((([*right, wrong]), "/2"), ([], ""), (None, ""), (right[0], ""), ("adam", "")):
        assert faults(base=others, grid={field: grid}).keys() == {f"/grid/{field}{pointer}"}
    assert faults(base=others | {field: wrong}).keys() >= {f"/base/{field}"}


@pytest.mark.parametrize("field", ["depth", "units", "epochs", "batch_size", "seed", "shuffle_seed"])
def test_ranges_of_whole_numbers_include_their_ends(field: str) -> None:
    for given, expected in (
        ({"start": 1, "stop": 4}, [1, 2, 3, 4]),
        ({"start": 2, "stop": 7, "step": 2}, [2, 4, 6]),
        ({"start": 5, "stop": 5}, [5]),
    ):
        found = over(field, given)
        assert found.size == len(expected)
        assert [getattr(one, field) for one in found.specs()] == expected


RANGES: list[tuple[str, Any, set[str]]] = [
    ("depth", {"start": 1, "stop": 65}, {"/stop"}),
    ("depth", {"start": 0, "stop": 65}, {"/start", "/stop"}),
    ("depth", {"start": 3, "stop": 2}, {"/stop"}),
    ("depth", {"start": 1, "stop": 3, "step": 0}, {"/step"}),
    ("depth", {"start": 1.0, "stop": 3}, {"/start"}),
    ("depth", {"start": 1}, {"/stop"}),
    ("depth", {"start": 1, "stop": 2, "count": 2}, {"/count"}),
    ("seed", {"start": 0, "stop": 2**31}, {"/stop"}),
    ("seed", {"start": 0, "stop": 10**30}, {"/stop"}),
    ("activation", {"start": 1, "stop": 2}, {""}),
    ("learning_rate", {"start": 0, "stop": 1, "count": 2}, {"/start"}),
    ("learning_rate", {"start": 0.1, "stop": 0.1, "count": 2}, {"/stop"}),
    ("learning_rate", {"start": 0.1, "stop": 0.2, "count": 1}, {"/count"}),
    ("learning_rate", {"start": 0.1, "stop": 0.2, "count": 1001}, {"/count"}),
    ("learning_rate", {"start": 0.1, "stop": 0.2, "step": 0.1}, {"/count", "/step"}),
    ("learning_rate", {"start": 0.1, "stop": 0.2, "count": 2, "scale": "cubic"}, {"/scale"}),
    ("learning_rate", {"start": 0.1, "stop": float("inf"), "count": 2}, {"/stop"}),
]


@pytest.mark.parametrize(("field", "given", "places"), RANGES)
def test_a_wrong_range_is_refused_where_it_is_wrong(field: str, given: Any, places: set[str]) -> None:
    others = {name: value for name, value in BASE.items() if name != field}
    found = faults(base=others, grid={field: given}).keys()
    assert found == {f"/grid/{field}{place}" for place in places}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"start": 0.1, "stop": 0.5, "count": 5}, (0.1, 0.2, 0.3, 0.4, 0.5)),
        ({"start": 1e-4, "stop": 0.1, "count": 4, "scale": "log"}, (0.0001, 0.001, 0.01, 0.1)),
        ({"start": 1, "stop": 3, "count": 2}, (1.0, 3.0)),
    ],
)
def test_learning_rates_are_spaced_evenly_or_by_equal_ratios(given: Any, expected: tuple[float, ...]) -> None:
    assert over("learning_rate", given).axes["learning_rate"] == expected


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_any_spacing_ascends_between_its_ends(scale: Any) -> None:
    for start, stop in ((5e-324, 1e9), (1e-300, 1e-299), (0.1, 0.1 + 1e-6), (1, 1e9)):
        values = Spacing(start=start, stop=stop, count=1000, scale=scale).values()
        assert (values[0], values[-1], len(values)) == (start, stop, 1000)
        assert all(before < after for before, after in pairwise(values))


def test_numbers_too_near_to_tell_apart_are_refused() -> None:
    near = {"start": 0.1, "stop": 0.1 + 1e-15, "count": 1000}
    assert faults(base=BASE, grid={"learning_rate": near}).keys() == {"/grid/learning_rate/count"}


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, {"/base/activation", "/base/depth"}),
        ({"base": {"depth": 1}}, {"/base/activation"}),
        ({"base": BASE, "grid": {"depth": [2]}}, {"/grid/depth"}),
        ({"base": BASE, "grid": {"seed": [2]}, "seeds": 2}, {"/seeds"}),
        ({"base": BASE | {"seed": 1}, "seeds": 2}, {"/seeds"}),
        ({"base": BASE, "seeds": 0}, {"/seeds"}),
        ({"base": BASE, "seeds": True}, {"/seeds"}),
        ({"base": BASE, "seeds": 2**31 + 1}, {"/seeds"}),
        ({"base": BASE, "grid": {"units": [4, 5, 4, 5]}}, {"/grid/units/2", "/grid/units/3"}),
        ({"base": BASE, "grid": {"learning_rate": [1, 1.0]}}, {"/grid/learning_rate/1"}),
        ({"base": [], "grid": 1}, {"/base", "/grid"}),
        ({"base": None, "grid": None}, {"/base", "/grid"}),
        ({"base": {"units": 0, "nope": 1}, "grid": {"depth": [0]}, "nope": 1},
         {"/base/units", "/base/nope", "/grid/depth/0", "/nope"}),
        ({"base": {"depth": None, "activation": "relu"}}, {"/base/depth"}),
        ({"base": BASE | {"tags": ["a", ""]}, "tags": ["", "b"]}, {"/base/tags/1", "/tags/0"}),
        ({"base": BASE | {"tags": [str(n) for n in range(30)]}, "tags": ["a", "b", "c"]}, {"/tags"}),
        ({"base": BASE, "name": ""}, {"/name"}),
        ({"base": BASE, "name": "a\nb"}, {"/name"}),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_every_fault_in_its_place(body: Any, places: set[str]) -> None:
    assert faults(**body).keys() == places


def test_what_a_base_says_holds_for_all_and_tags_add_up() -> None:
    base = {"depth": 2, "epochs": 3, "priority": 5, "name": "one", "tags": ["a", "b"]}
    specs = list(sweep(base=base, grid={"activation": ["relu", "tanh"]}, tags=["b", "c"], name="all").specs())
    assert {(one.depth, one.epochs, one.priority, one.name) for one in specs} == {(2, 3, 5, "one")}
    assert {one.tags for one in specs} == {("a", "b", "c")}


def test_a_sweep_without_a_grid_is_one_arm_with_the_label_of_its_network() -> None:
    for one in (sweep(base=BASE), sweep(base=BASE, seeds=3)):
        assert [(arm.label, arm.values) for arm in one.arms()] == [("relu, depth 1", {})]
    assert sweep(base=BASE).size == 1


def test_labels_name_what_is_not_plain_by_itself() -> None:
    found = sweep(
        base=BASE,
        grid={"learning_rate": [0.001], "units": [32], "optimizer": ["sgd"], "batch_size": [10], "dataset": ["mnist"]},
    )
    assert [arm.label for arm in found.arms()] == ["units 32, batch size 10, sgd, learning rate 0.001, mnist"]


def test_a_sweep_is_kept_as_it_was_asked_for_and_read_back_the_same() -> None:
    body = {"base": {"depth": 1}, "grid": {"activation": ["elu"], "seed": {"start": 0, "stop": 3}}, "tags": ["a"]}
    stored = sweep(**body).model_dump(mode="json")
    assert stored == body | {"name": None, "seeds": None}
    assert SweepSpec.model_validate(stored) == sweep(**body)


def test_a_sweep_of_any_size_is_counted_without_being_made() -> None:
    every = {"start": 0, "stop": 2**31 - 1}
    found = sweep(base=BASE, grid={"seed": every, "shuffle_seed": every})
    assert found.size == 2**62
    with pytest.raises(SweepTooLarge, match=r"4,611,686,018,427,387,904 experiments, and at most 10,000") as caught:
        found.require_within(experiments=10_000, parameters=10**9)
    assert caught.value.pointer == "/grid/seed"
    with pytest.raises(SweepTooLarge) as caught:
        sweep(base=BASE, seeds=11).require_within(experiments=10, parameters=10**9)
    assert caught.value.pointer == "/seeds"
    sweep(base=BASE, seeds=10).require_within(experiments=10, parameters=10**9)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"base": BASE, "grid": {"units": [16, 1024, 8]}}, "/grid/units/1"),
        ({"base": BASE, "grid": {"units": {"start": 16, "stop": 1024}}}, "/grid/units/stop"),
        ({"base": {"units": 1024}, "grid": {"activation": ["relu"], "depth": [1, 64]}}, "/base/units"),
        ({"base": {"activation": "relu"}, "grid": {"depth": [1, 64]}}, "/grid/depth/1"),
        ({"base": {"activation": "relu", "depth": 64}, "seeds": 2}, "/base/depth"),
    ],
)
def test_a_network_too_large_is_refused_where_it_comes_from(body: Any, place: str) -> None:
    found = sweep(**body)
    largest = max(one.parameters for one in found.specs())
    assert found.largest().parameters == largest
    found.require_within(experiments=10_000, parameters=largest)
    with pytest.raises(SpecTooLarge, match=f"{largest:,}") as caught:
        found.require_within(experiments=10_000, parameters=largest - 1)
    assert caught.value.pointer == place


def test_the_same_experiments_asked_for_otherwise_are_the_same() -> None:
    ways: list[dict[str, Any]] = [
        {"base": BASE, "seeds": 3},
        {"base": BASE | {"units": 16}, "grid": {"seed": [0, 1, 2]}},
        {"base": {"depth": 1}, "grid": {"activation": ["relu"], "seed": {"start": 0, "stop": 2}}},
    ]
    first, second, third = [sweep(**way).canonical() for way in ways]
    assert first == second
    assert third != first  # its arms have a label
    assert (
        sweep(base=BASE, seeds=3, tags=["a", "b"]).canonical()
        == sweep(base=BASE | {"tags": ["b"]}, seeds=3, tags=["a"]).canonical()
    )
    for other in ({"seeds": 4}, {"name": "x", "seeds": 3}, {"tags": ["a"], "seeds": 3}):
        assert sweep(base=BASE, **other).canonical() != first


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, "finished"),
        ({"queued": 3}, "queued"),
        ({"queued": 3, "cancelled": 1}, "queued"),
        ({"queued": 3, "running": 1}, "running"),
        ({"queued": 3, "succeeded": 1}, "running"),
        ({"queued": 3, "failed": 1}, "running"),
        ({"queued": 3, "cancelling": 1}, "running"),
        ({"running": 1, "cancelling": 1}, "running"),
        ({"cancelling": 1, "cancelled": 5}, "cancelling"),
        ({"succeeded": 1, "failed": 1, "cancelled": 1}, "finished"),
    ],
)
def test_the_status_of_a_sweep_is_read_from_its_experiments(counts: dict[str, int], status: str) -> None:
    progress = SweepProgress.of({Status(name): count for name, count in counts.items()})
    assert progress.status is SweepStatus(status)
    assert progress.total == sum(counts.values())
    assert progress.done == sum(count for name, count in counts.items() if Status(name).terminal)
