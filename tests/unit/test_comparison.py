"""Which arm is better: held against SciPy and statsmodels, by simulation, and where there is little to say."""

import csv
import io
import json
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from service.analysis.comparison import Comparison, PairedDifference, Run, columns, compare, to_rows
from service.analysis.intervals import hedges_d_z, holm, paired_p, prediction_p, spread
from service.domain.experiment import Status
from service.domain.sweep import Arm
from service.errors import InvalidInput

RELU = (0.9271, 0.9338, 0.9342, 0.9299, 0.9312, 0.9360, 0.9285, 0.9322)
SIGMOID = (0.7837, 0.8175, 0.7900, 0.7370, 0.8074, 0.7833, 0.7974, 0.6824)
TANH = (0.9301, 0.9312, 0.9333, 0.9290, 0.9308, 0.9349, 0.9296, 0.9318)
CLOSE = 1e-12


def run(label: str, seed: int, accuracy: float | None, **values: Any) -> Run:
    found = {"status": Status.SUCCEEDED, "test_loss": 0.5, "computation_seconds": 2.0, "shuffle_seed": 0} | values
    arm = Arm(label=label, values={"activation": label, "depth": 3})
    return Run(arm=arm, seed=seed, test_accuracy=accuracy, **found)


def runs(**arms: Iterable[float]) -> list[Run]:
    return [run(label, seed, float(x)) for label, values in arms.items() for seed, x in enumerate(values)]


def the_pair(comparison: Comparison) -> PairedDifference:
    (pair,) = comparison.pairs
    return pair


# Against SciPy and statsmodels


@pytest.mark.parametrize("values", [RELU, SIGMOID, SIGMOID[:2], (1e-3, 5.0, -2.0, 4e3)])
def test_the_interval_of_a_mean_is_that_of_scipy_and_statsmodels(values: Sequence[float]) -> None:
    found = spread(values)
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=CLOSE)
    described = DescrStatsW(values)
    assert (found.low, found.high) == pytest.approx(described.tconfint_mean(alpha=0.05), rel=1e-11)
    assert found.mean == pytest.approx(described.mean, rel=CLOSE)
    assert found.standard_deviation == pytest.approx(np.std(values, ddof=1), rel=CLOSE)
    assert (found.n, found.min, found.max) == (len(values), min(values), max(values))


@pytest.mark.parametrize(("first", "second"), [(RELU, SIGMOID), (RELU, TANH), (TANH[:3], SIGMOID[:3])])
def test_a_paired_difference_is_that_of_scipy(first: Sequence[float], second: Sequence[float]) -> None:
    pair = the_pair(compare(runs(first=first, second=second)))
    if pair.first == "second":
        first, second = second, first
    expected = stats.ttest_rel(first, second)
    assert pair.p_value == pytest.approx(expected.pvalue, rel=CLOSE)
    assert (pair.low, pair.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=CLOSE)
    assert pair.mean == pytest.approx(np.mean(first) - np.mean(second), rel=1e-11)
    assert pair.p_holm == pair.p_value  # of one test
    assert pair.wins == sum(a > b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("value", [0.7837, 0.95, 0.5])
def test_one_more_number_is_judged_as_by_a_t_test_of_one_against_many(value: float) -> None:
    assert prediction_p(value, SIGMOID) == pytest.approx(stats.ttest_ind([value], SIGMOID).pvalue, rel=1e-10)


def test_one_more_number_than_too_few_or_equal_ones() -> None:
    assert prediction_p(0.5, [0.5]) is None
    assert (prediction_p(0.5, [0.5] * 3), prediction_p(0.6, [0.5] * 3)) == (1.0, 0.0)


def test_one_more_number_of_the_same_kind_seems_another_in_5_of_100_draws() -> None:
    draws = np.random.default_rng(1991).normal(0.93, 0.003, (4000, 11))
    found = [prediction_p(float(draw[0]), list(draw[1:])) or 0.0 for draw in draws]
    assert 0.04 <= np.mean(np.array(found) < 0.05) <= 0.06


@pytest.mark.parametrize(
    "p_values", [[0.01, 0.04, 0.03, 0.005], [0.02], [], [0.9, 0.8], [1e-300, 0.0, 1.0, 0.02, 0.02]]
)
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected), rel=CLOSE)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 30))
def test_holm_of_a_part_is_never_below_holm_of_the_whole(p_values: list[float], kept: int) -> None:
    kept = max(1, min(kept, len(p_values)))
    part, whole = holm(p_values[:kept], tests=len(p_values)), holm(p_values)
    assert all(mine >= theirs - CLOSE for mine, theirs in zip(part, whole[:kept], strict=True))


def test_pairs_are_adjusted_together() -> None:
    found = compare(runs(relu=RELU, sigmoid=SIGMOID, tanh=TANH))
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("relu", "tanh"),
        ("relu", "sigmoid"),
        ("tanh", "sigmoid"),
    ]
    expected = multipletests([pair.p_value for pair in found.pairs], method="holm")
    assert [pair.p_holm for pair in found.pairs] == pytest.approx(list(expected[1]), rel=CLOSE)
    assert [pair.significant for pair in found.pairs] == list(expected[0]) == [False, True, True]
    assert (found.tests, found.pairs_of) == (3, "all")


@pytest.mark.parametrize("n", [3, 5, 30])
def test_the_effect_size_is_right_on_average(n: int) -> None:
    draws = np.random.default_rng(1981).normal(0.8, 1.0, size=(20_000, n))
    raw = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    correction = (hedges_d_z(list(draws[0])) or 0.0) / raw[0]
    assert (raw * correction).mean() == pytest.approx(0.8, abs=0.03)
    assert raw.mean() > 0.8 * 1.02  # what it would be without the correction


# By simulation: figures of many more are in docs/statistics.md


def _skewed(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    return 0.52 + 0.35 * rng.beta(4, 2, size)


POPULATIONS: dict[str, Any] = {
    "normal": (0.93, lambda rng, size: rng.normal(0.93, 0.003, size)),
    "uniform": (0.735, lambda rng, size: rng.uniform(0.64, 0.83, size)),
    "skewed": (0.52 + 0.35 * 4 / 6, _skewed),
}


@pytest.mark.parametrize(
    ("population", "n"), [("normal", 3), ("normal", 30), ("uniform", 10), ("skewed", 10), ("skewed", 30)]
)
def test_the_interval_covers_the_true_mean_in_95_of_100_draws(population: str, n: int) -> None:
    truth, draw = POPULATIONS[population]
    found = [spread(values) for values in draw(np.random.default_rng(1908), (2000, n))]
    covered = sum(one.low <= truth <= one.high for one in found)
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 30])
def test_the_paired_interval_covers_the_true_difference_in_95_of_100_draws(n: int) -> None:
    rng = np.random.default_rng(1908)
    truth = 0.93 - (0.52 + 0.35 * 4 / 6)
    covered = 0
    for _ in range(2000):
        seeds = rng.normal(0, 0.001, n)  # what the two arms have in common
        pair = the_pair(compare(runs(relu=rng.normal(0.93, 0.003, n) + seeds, deep=_skewed(rng, (1, n))[0] + seeds)))
        assert pair.first == "relu"
        assert pair.low is not None
        assert pair.high is not None
        covered += pair.low <= truth <= pair.high
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "n", "draws"), [(4, 2, 1000), (4, 5, 1000), (6, 30, 500), (45, 10, 200)])
def test_equal_arms_seem_different_in_at_most_5_of_100_sweeps(arms: int, n: int, draws: int) -> None:
    """Of accuracies in steps of one image of 10,000: with two seeds, differences are often equal by chance."""
    rng = np.random.default_rng(1979)
    wrong = 0
    for _ in range(draws):
        accuracies = rng.normal(0.93, 0.001, (arms, n)).round(4)
        wrong += any(p.significant for p in compare(runs(**{f"arm {i}": a for i, a in enumerate(accuracies)})).pairs)
    assert wrong / draws <= 0.06


# Properties

IMAGES = st.integers(0, 10_000)
LISTS = st.lists(IMAGES, min_size=1, max_size=8)
ANY_RUN = st.builds(
    run,
    label=st.sampled_from(["relu", "sigmoid", "tanh", "elu"]),
    seed=st.integers(0, 3),
    accuracy=st.none() | st.floats(0, 1) | st.just(math.nan),
    shuffle_seed=st.integers(0, 1),
    status=st.sampled_from(Status),
    error=st.sampled_from([None, "training_diverged", "internal"]),
    test_loss=st.none() | st.floats(),
    computation_seconds=st.none() | st.floats(),
)


@given(st.lists(ANY_RUN, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_order_of_runs_does_not_matter_and_no_number_is_nan(some: list[Run], rng: random.Random) -> None:
    found = compare(some)
    rng.shuffle(some)
    assert compare(some) == found

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = json.dumps(found.model_dump(mode="json"))
    json.loads(text, parse_constant=refuse)
    assert Comparison.model_validate_json(text) == found
    assert found.reading.endswith(".")
    assert not {"nan", "inf", "none"} & set(found.reading.lower().replace(",", " ").split()) - {"none"}
    rows = to_rows(found)
    assert all(list(row) == columns(found) for row in rows)
    assert all(not isinstance(x, float) or math.isfinite(x) for row in rows for x in row.values())
    for arm in found.arms:
        assert arm.planned >= arm.n + arm.pending + arm.failed + arm.cancelled
        assert arm.diverged <= arm.failed


@given(LISTS, LISTS, st.integers(0, 10_000))
@settings(deadline=None)
def test_a_constant_added_to_one_arm_shifts_its_mean_and_the_difference(
    first: list[int], second: list[int], more: int
) -> None:
    # first is within the lower half and `more` within the upper, so that every accuracy stays one
    before = [x / 20_000 for x in first]
    after = [x + more / 20_000 for x in before]
    others = [x / 10_000 for x in second]
    was, now = compare(runs(a=before, b=others)), compare(runs(a=after, b=others))
    arms = [next(arm for arm in found.arms if arm.label == "a").accuracy for found in (was, now)]
    for name in ("mean", "low", "high", "min", "max"):
        x, y = (getattr(arm, name) for arm in arms)
        assert (x is None) == (y is None)
        assert x is None or y == pytest.approx(x + more / 20_000, abs=1e-9)
    x, y = (_of_a(found, "mean") for found in (was, now))
    assert y == pytest.approx(x + more / 20_000, abs=1e-9)


def _of_a(found: Comparison, name: str) -> float:
    """A number of the pair, as of arm a minus the other."""
    pair = the_pair(found)
    value = getattr(pair, name)
    return float(value if pair.first == "a" else -value)


def same(x: float | None, y: float | None) -> bool:
    """But for the rounding of sums taken in another order."""
    return x is y if x is None or y is None else math.isclose(x, y, rel_tol=1e-9, abs_tol=CLOSE)


@given(LISTS, LISTS)
@settings(deadline=None)
def test_swapping_two_arms_flips_the_sign(first: list[int], second: list[int]) -> None:
    ours, theirs = [x / 10_000 for x in first], [x / 10_000 for x in second]
    one, other = compare(runs(a=ours, b=theirs)), compare(runs(a=theirs, b=ours))
    assert _of_a(one, "mean") == pytest.approx(-_of_a(other, "mean"), abs=CLOSE)
    assert same(the_pair(one).p_value, the_pair(other).p_value)
    differences = [a - b for a, b in zip(ours, theirs, strict=False)]
    flipped = [-x for x in differences]
    assert same(paired_p(differences), paired_p(flipped))
    size, turned = hedges_d_z(differences), hedges_d_z(flipped)
    assert same(size, None if turned is None else -turned)


# Where there is little to say


def test_nothing_at_all_is_no_error() -> None:
    found = compare([])
    assert (found.complete, found.total, found.arms, found.pairs) == (True, 0, (), ())
    assert found.reading == "There are no runs to compare."
    assert to_rows(found) == []
    assert columns(found)[:3] == ["rank", "label", "complete"]
    with pytest.raises(InvalidInput, match="no arm is called 'gelu': there are no experiments"):
        compare([], reference="gelu")


def test_no_finished_run_leaves_every_number_null() -> None:
    found = compare([run("relu", 0, None, status="queued"), run("sigmoid", 0, None, status="running")])
    assert not found.complete
    assert (found.finished, found.pending, found.pairs) == (0, 2, ())
    assert found.arms[0].accuracy == spread([])
    assert {arm.rank for arm in found.arms} == {None}
    assert found.arms[0].note == "no run has succeeded"
    assert found.reading == "None of 2 runs has succeeded, so there is nothing to compare yet."


def test_only_failures_say_so() -> None:
    found = compare([run("relu", s, None, status="failed", error="training_diverged") for s in range(3)])
    assert found.reading == (
        "None of 3 runs has succeeded, so there is nothing to compare; 3 of 3 runs of relu diverged."
    )
    assert found.complete
    one = compare([run("relu", 0, None, status="failed", error="internal")])
    assert one.reading == "The only run has not succeeded, so there is nothing to compare; 1 run failed."


def test_one_run_that_is_missing_is_it_and_not_them() -> None:
    found = compare([*runs(relu=RELU), run("relu", 8, None, status="cancelled")])
    assert found.reading.endswith("; 1 of 9 runs was cancelled, and no mean includes it.")


def test_one_arm_has_a_mean_and_no_pair() -> None:
    found = compare(runs(relu=RELU))
    assert found.pairs == ()
    assert (
        found.reading == "Over 8 seeds relu reads 0.9316 ± 0.0025 of the test images right, and there is no other arm."
    )


def test_one_run_has_no_interval() -> None:
    found = compare(runs(relu=RELU[:1], sigmoid=SIGMOID[:1]))
    assert (found.arms[0].accuracy.mean, found.arms[0].accuracy.low, found.arms[0].accuracy.high) == (
        0.9271,
        None,
        None,
    )
    assert found.arms[0].note == "one run has no spread: there is no interval of its accuracy"
    pair = the_pair(found)
    assert (pair.n, pair.p_value, pair.p_holm, pair.low, pair.significant) == (1, None, None, None, False)
    assert found.tests == 0
    assert found.reading == (
        "One seed cannot tell relu (0.9271) from sigmoid (0.7837): it gives a difference of 0.1434."
    )


def test_a_clear_difference_reads_as_one() -> None:
    assert compare(runs(relu=RELU, sigmoid=SIGMOID)).reading == (
        "Over 8 seeds relu (0.9316 ± 0.0025) reads more test images right than sigmoid (0.7748 ± 0.0370): by 0.1568 "
        "(95% interval 0.1198 to 0.1938), in 8 of 8 seeds, and by more than chance explains (Holm-adjusted p < 0.001)."
    )


def test_an_unclear_difference_does_not() -> None:
    assert compare(runs(relu=RELU, tanh=TANH)).reading == (
        "8 seeds cannot tell relu (0.9316 ± 0.0025) from tanh (0.9313 ± 0.0016): the former is ahead by 0.0003 (95% "
        "interval -0.0011 to 0.0017), in 6 of 8 seeds, which chance may explain (Holm-adjusted p = 0.655)."
    )


def test_of_several_arms_the_best_is_set_against_the_next() -> None:
    reading = compare(runs(relu=RELU, sigmoid=SIGMOID, tanh=TANH)).reading
    assert "cannot tell relu (0.9316 ± 0.0025) from the next, tanh (0.9313 ± 0.0016)" in reading
    assert reading.endswith("; of all 3 differences between two arms, 2 are more than chance explains.")


def test_partial_results_are_marked() -> None:
    found = compare(
        [*runs(relu=RELU, sigmoid=SIGMOID[:5]), *(run("sigmoid", s, None, status="queued") for s in (5, 6))]
    )
    assert not found.complete
    assert (found.total, found.finished, found.pending) == (15, 13, 2)
    assert the_pair(found).n == 5
    assert found.reading.startswith("So far, as 13 of 15 runs have succeeded, over 5 seeds relu")
    assert {row["complete"] for row in to_rows(found)} == {"false"}


def test_failed_and_cancelled_runs_are_counted_and_named() -> None:
    lost = [
        run("sigmoid", 8, None, status="failed", error="training_diverged"),
        run("relu", 8, None, status="failed", error="out_of_memory"),
        run("relu", 9, None, status="cancelled"),
    ]
    found = compare([*runs(relu=RELU, sigmoid=SIGMOID), *lost])
    assert (found.finished, found.failed, found.diverged, found.cancelled, found.complete) == (16, 2, 1, 1, False)
    relu, sigmoid = found.arms
    assert (relu.planned, relu.n, relu.failed, relu.diverged, relu.cancelled) == (10, 8, 1, 0, 1)
    assert (sigmoid.planned, sigmoid.n, sigmoid.failed, sigmoid.diverged) == (9, 8, 1, 1)
    assert found.reading.endswith(
        "; 1 of 9 runs of sigmoid diverged; 1 run failed for another reason; 1 of 19 runs was cancelled, and no mean "
        "includes them."
    )
    assert any("diverged" in note for note in found.notes)


def test_equal_arms_have_no_difference() -> None:
    found = compare(runs(relu=RELU, copy=RELU))
    pair = the_pair(found)
    assert (pair.mean, pair.p_value, pair.p_holm, pair.effect_size, pair.ties) == (0, 1, 1, None, 8)
    assert [arm.rank for arm in found.arms] == [1, 1]
    assert found.reading == (
        "In each of 8 seeds copy (0.9316 ± 0.0025) and relu (0.9316 ± 0.0025) read equally many test images right."
    )


def test_means_that_differ_by_rounding_alone_rank_equal() -> None:
    first, second = (0.9, 0.91, 0.95), (0.91, 0.95, 0.9 + 5e-8)
    found = compare(runs(b=second, a=first))
    assert [(arm.label, arm.rank) for arm in found.arms] == [("a", 1), ("b", 1)]
    assert found.reading == (
        "Over 3 seeds a (0.9200 ± 0.0657) and b (0.9200 ± 0.0657) read equally many test images right on average: the "
        "former is ahead in 1 of 3 seeds, behind in 2."
    )


def test_arms_that_are_equal_but_not_over_the_seeds_of_both_say_so() -> None:
    found = compare([*runs(b=(0.92, 0.92), a=(0.91, 0.91)), run("a", 7, 0.94)])
    assert [arm.rank for arm in found.arms] == [1, 1]
    assert found.reading.startswith("Over all their seeds a (0.9200 ± 0.0430) and b (0.9200 ± 0.0000) read equally")
    assert "over the 2 seeds of both the former is behind by 0.0100" in found.reading


def test_where_nothing_could_be_tested_no_difference_is_counted() -> None:
    reading = compare(runs(relu=RELU[:1], sigmoid=SIGMOID[:1], tanh=TANH[:1])).reading
    assert "no difference could be tested" in reading
    assert "chance" not in reading
    some = compare([*runs(relu=RELU, tanh=TANH), run("sigmoid", 0, 0.8)]).reading
    assert some.endswith(
        "; of all 3 differences between two arms, of which 1 could be tested, 0 are more than chance explains."
    )


def test_equals_stand_in_the_order_of_their_values() -> None:
    arms = [Arm(label=f"units {units}", values={"units": units}) for units in (128, 16, 64)]
    found = compare([Run(arm=arm, seed=0, shuffle_seed=0, status=Status.QUEUED) for arm in arms])
    assert [arm.label for arm in found.arms] == ["units 16", "units 64", "units 128"]


def test_arms_of_different_datasets_are_noted() -> None:
    arms = [Arm(label=name, values={"dataset": name}) for name in ("mnist", "fashion_mnist")]
    found = compare(
        [
            Run(arm=arm, seed=s, shuffle_seed=0, status=Status.SUCCEEDED, test_accuracy=0.9)
            for arm in arms
            for s in (0, 1)
        ]
    )
    assert any("different datasets" in note for note in found.notes)


def test_of_very_many_arms_no_more_pairs_are_made_than_are_told() -> None:
    some = [run(f"arm {i}", seed, 0.5 + (i * 7 % 5000) / 20_000 + seed / 1e4) for i in range(5_000) for seed in (0, 1)]
    found = compare(some)
    assert (len(found.pairs), found.tests) == (4_999, 5_000 * 4_999 // 2)
    assert len(to_rows(found)) == 5_000
    with pytest.raises(InvalidInput, match=r"'arm 0', .* and 4,980 more") as caught:
        compare(some, reference="nope")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("n", "p", "significant"), [(2, 0.5, False), (5, 0.0625, False), (8, 2**-7, True)])
def test_equal_differences_are_judged_by_how_many_they_are(n: int, p: float, significant: bool) -> None:
    pair = the_pair(compare(runs(relu=RELU[:n], less=[x - 0.0003 for x in RELU[:n]])))
    assert pair.mean == pytest.approx(0.0003)
    assert (pair.p_value, pair.effect_size, pair.significant) == (p, None, significant)
    assert pair.note is not None


def test_float32_rounding_is_no_difference() -> None:
    first = [float(np.float32(x)) for x in RELU]
    second = [float(np.float32(x - 0.1)) + 0.1 for x in RELU]
    pair = the_pair(compare(runs(a=first, b=second)))
    assert (pair.p_value, pair.ties) == (1, 8)


def test_an_arm_that_never_varies_has_an_interval_without_width() -> None:
    found = compare(runs(deep=[0.1135] * 3, relu=RELU[:3]))
    deep = found.arms[1]
    assert (deep.accuracy.low, deep.accuracy.high, deep.accuracy.standard_deviation) == (0.1135, 0.1135, 0)
    assert deep.note is not None


def test_arms_without_a_common_seed_are_not_compared() -> None:
    found = compare([*runs(relu=RELU), *(run("sigmoid", seed + 100, x) for seed, x in enumerate(SIGMOID))])
    pair = the_pair(found)
    assert (pair.n, pair.mean, pair.p_value, pair.win_share) == (0, None, None, None)
    assert found.reading.startswith("There is no seed that both relu (0.9316 ± 0.0025) and sigmoid (0.7748")


def test_an_arm_that_leads_only_by_other_seeds_is_not_called_better() -> None:
    found = compare(
        [*runs(tanh=[0.91, 0.92, 0.93], relu=[0.90, 0.911, 0.922]), *(run("relu", s, 0.99) for s in (7, 8))]
    )
    pair = the_pair(found)
    assert pair.first == "relu"
    assert pair.mean == pytest.approx(-0.009)
    assert found.reading.startswith("Only by seeds that tanh (0.9200 ± 0.0248) lacks does relu")
    assert "over the 3 seeds of both it is behind by 0.0090 (95% interval 0.0065 to 0.0115)" in found.reading


def test_seeds_are_matched_with_their_shuffle_seeds() -> None:
    shuffled = [run("sigmoid", seed, x, shuffle_seed=seed % 2) for seed, x in enumerate(SIGMOID)]
    assert the_pair(compare([*runs(relu=RELU), *shuffled])).n == 4


def test_crossed_seeds_are_noted() -> None:
    crossed = [run("relu", s, 0.9 + s / 100 + t / 1000, shuffle_seed=t) for s in range(3) for t in range(2)]
    assert any("independent" in note for note in compare(crossed).notes)
    assert compare(runs(relu=RELU)).notes == ()


def test_a_retry_counts_once() -> None:
    failed = [run("relu", s, None, status="failed", error="internal") for s in range(8)]
    assert compare([*failed, *runs(relu=RELU)]) == compare(runs(relu=RELU)) == compare(runs(relu=RELU) * 2)


def test_of_many_arms_each_is_compared_with_the_best_as_one_of_all_pairs() -> None:
    rng = np.random.default_rng(5)
    found = compare(runs(**{f"arm {i}": rng.normal(0.5 + i / 1000, 0.003, 5) for i in range(41)}))
    assert (found.pairs_of, len(found.pairs), found.tests) == ("with the best", 40, 41 * 40 // 2)
    assert {pair.first for pair in found.pairs} == {found.arms[0].label}
    assert min(p.p_holm or 0 for p in found.pairs) == pytest.approx(820 * min(p.p_value or 0 for p in found.pairs))


def test_with_a_reference_others_are_compared_with_it_only() -> None:
    found = compare(runs(relu=RELU, sigmoid=SIGMOID, tanh=TANH), reference="sigmoid")
    assert (found.pairs_of, found.reference, found.tests) == ("with the reference", "sigmoid", 2)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("relu", "sigmoid"), ("tanh", "sigmoid")]
    assert "than sigmoid" in found.reading
    assert found.reading.endswith("of all 2 differences from the reference, 2 are more than chance explains.")
    rows = {row["label"]: row for row in to_rows(found)}
    assert rows["sigmoid"]["versus"] is None
    assert rows["tanh"]["versus"] == "sigmoid"
    assert rows["tanh"]["difference"] == pytest.approx(0.1565, abs=1e-4)


def test_a_reference_without_a_finished_run_is_said_to_be_without() -> None:
    found = compare([*runs(relu=RELU, tanh=TANH), run("sigmoid", 0, None, status="queued")], reference="sigmoid")
    assert found.pairs == ()
    assert "best of 2 arms is relu (0.9316 ± 0.0025), but no run of sigmoid has succeeded" in found.reading


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no arm is called 'gelu': they are 'relu'"):
        compare(runs(relu=RELU), reference="gelu")


def test_rows_are_flat_and_compare_with_the_best() -> None:
    text = io.StringIO()
    rows = to_rows(compare(runs(relu=RELU, sigmoid=SIGMOID)))
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    best, worse = csv.DictReader(io.StringIO(text.getvalue()))
    assert (best["rank"], best["activation"], best["depth"], best["n"], best["versus"]) == ("1", "relu", "3", "8", "")
    assert (worse["versus"], worse["complete"], worse["significant"]) == ("relu", "true", "true")
    assert float(worse["difference_low"]) < float(worse["difference"]) < float(worse["difference_high"]) < 0
    assert float(worse["effect_size"]) < 0
    assert float(worse["win_share"]) == 0


def test_numbers_too_large_to_add_are_null() -> None:
    found = spread([1.5e308, 1.6e308, -1e308])
    assert (found.standard_deviation, found.low, found.high) == (None, None, None)
    assert (found.min, found.max) == (-1e308, 1.6e308)
