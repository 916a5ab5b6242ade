"""Which arm is better? Experiments that differ only by their seeds are one arm, and arms are compared seed by seed.

One run of a network says little: sigmoid at depth 3 ended between 51% and 87%, by its initial weights alone.
docs/statistics.md says what the numbers mean, what they do not, and how they were checked.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from service.analysis.intervals import ROUNDING, constant, hedges_d_z, holm, paired_p, spread
from service.analysis.reading import read
from service.domain.comparison import ArmSummary, Comparison, PairedDifference, Pairs, Run, Spread
from service.domain.experiment import Status
from service.domain.sweep import Arm, Value
from service.errors import UnknownArm

__all__ = [
    "ArmSummary",
    "Comparison",
    "PairedDifference",
    "Pairs",
    "Run",
    "columns",
    "compare",
    "each_seed_once",
    "to_rows",
]

MAX_ARMS_FOR_ALL_PAIRS = 40
"""Above this many arms, 780 pairs, each is compared with the best only."""
SIGNIFICANCE = 0.05
MOST_TOLD = 20
"""Labels in a message."""

T = TypeVar("T")

Seeds = tuple[int, int]
"""seed and shuffle_seed"""

METHOD = (
    "Means over seeds, with Student's t interval at 95% (Student 1908). Differences are taken between runs of the same "
    "seed and shuffle_seed, with the t interval at 95% of each by itself, the two-sided paired t test, and p values "
    "adjusted by Holm's step-down procedure (Holm 1979) for {tests}. Effect size: Cohen's d_z (1988) with Hedges's "
    "correction for small samples (1981). Significant: adjusted p below 0.05. In the reading, ± is half the interval."
)


def compare(runs: Iterable[Run], *, reference: str | None = None) -> Comparison:
    """Compare arms over seeds. The order of runs does not matter.

    Args:
        runs: of one arm or of several, in any state. Where an arm has the same seed and shuffle_seed more than once,
            as after a retry, that counts once: training gives the same bits again.
        reference: label of an arm chosen beforehand: then others are compared with it and not with each other.

    Raises:
        UnknownArm: no arm has the label given as reference.
    """
    by_arm = _by_arm(runs)
    if reference is not None and reference not in by_arm:
        raise UnknownArm(f"no arm is called {reference!r}: {_told(by_arm)}", "/reference")
    arms = _ranked(list(map(_summary, by_arm.values())))
    pairs_of, tests, pairs = _pairs(arms, by_arm, reference)
    counts = {name: sum(getattr(arm, name) for arm in arms) for name in ("pending", "failed", "diverged", "cancelled")}
    # The sentence is made last, from all the rest.
    comparison = Comparison(
        complete=counts["pending"] == counts["cancelled"] == 0,
        total=sum(arm.planned for arm in arms),
        finished=sum(arm.n for arm in arms),
        **counts,
        method=METHOD.format(tests="one test" if tests == 1 else f"{tests} tests"),
        reading="",
        arms=arms,
        pairs_of=pairs_of,
        reference=reference,
        tests=tests,
        pairs=pairs,
        notes=_notes(by_arm, arms, pairs_of),
    )
    return comparison.model_copy(update={"reading": read(comparison)})


def each_seed_once(items: Iterable[T], run_of: Callable[[T], Run]) -> list[T]:
    """Of the items whose runs have one arm and the same seeds, as after a retry, the one that counts.

    In the order of arms, then of seeds.
    """
    runs = [(run_of(item), item) for item in items]
    once: dict[tuple[str, int, int], T] = {}
    for run, item in sorted(runs, key=lambda pair: _seniority(pair[0])):
        once.setdefault((run.arm.label, run.seed, run.shuffle_seed), item)
    place = {label: rank for rank, label in enumerate(_in_order(run.arm for run, _ in runs))}
    return [once[key] for key in sorted(once, key=lambda key: (place[key[0]], *key[1:]))]


def _in_order(arms: Iterable[Arm]) -> list[str]:
    """Labels of arms by their values: depth 10 comes after depth 2."""
    values = {arm.label: tuple((isinstance(v, str), v) for v in arm.values.values()) for arm in arms}
    return sorted(values, key=lambda label: (values[label], label))


def _told(by_arm: Mapping[str, object]) -> str:
    if not by_arm:
        return "there are no experiments"
    labels = list(by_arm)
    more = f" and {len(labels) - MOST_TOLD:,} more" if len(labels) > MOST_TOLD else ""
    return "they are " + ", ".join(map(repr, labels[:MOST_TOLD])) + more


def _by_arm(runs: Iterable[Run]) -> dict[str, list[Run]]:
    by_arm: dict[str, list[Run]] = {}
    for run in each_seed_once(runs, lambda run: run):
        by_arm.setdefault(run.arm.label, []).append(run)
    return by_arm


def _seniority(run: Run) -> tuple[bool, bool, float, float, str]:
    """Least for the one of several equal runs that is to count: a measured one, else one that may still be. Measured
    twice, on machines that round differently, it is the lower accuracy: no seed gets better by being repeated.
    """
    accuracy = run.test_accuracy if run.test_accuracy is not None else 1.0
    ended = run.status.terminal or run.status is Status.CANCELLING
    return not run.measured, ended, accuracy, run.computation_seconds or 0.0, repr(run)


def _summary(runs: Sequence[Run]) -> ArmSummary:
    measured = [run for run in runs if run.measured]
    counts = Counter(run.status for run in runs)
    accuracy = spread([run.test_accuracy for run in measured if run.test_accuracy is not None])
    return ArmSummary(
        label=runs[0].arm.label,
        values=runs[0].arm.values,
        rank=None,
        planned=len(runs),
        n=len(measured),
        pending=sum(count for status, count in counts.items() if not status.terminal),
        failed=counts[Status.FAILED],
        diverged=sum(run.error == "training_diverged" for run in runs if run.status is Status.FAILED),
        cancelled=counts[Status.CANCELLED],
        accuracy=accuracy,
        loss=spread([run.test_loss for run in measured if run.test_loss is not None]),
        seconds=spread([run.computation_seconds for run in measured if run.computation_seconds is not None]),
        note=_note_of_arm(accuracy),
    )


def _note_of_arm(found: Spread) -> str | None:
    if found.n == 0:
        return "no run has succeeded"
    if found.n == 1:
        return "one run has no spread: there is no interval of its accuracy"
    if found.standard_deviation == 0:
        return (
            f"all {found.n} runs gave the same accuracy: no variation was seen, which is not to say that there is none"
        )
    return None


def _ranked(arms: Sequence[ArmSummary]) -> tuple[ArmSummary, ...]:
    """The highest mean accuracy first; equals, and those without any, in the order given."""
    measured = [(arm.accuracy.mean, arm) for arm in arms if arm.accuracy.mean is not None]
    ranked: list[ArmSummary] = []
    rank, first = 1, math.inf
    for place, (mean, arm) in enumerate(sorted(measured, key=lambda pair: -pair[0]), start=1):
        if mean < first - ROUNDING:
            rank, first = place, mean
        ranked.append(arm.model_copy(update={"rank": rank}))
    given = {arm.label: place for place, arm in enumerate(arms)}
    ranked.sort(key=lambda arm: (arm.rank or 0, given[arm.label]))
    return (*ranked, *(arm for arm in arms if arm.accuracy.mean is None))


def _pairs(
    arms: Sequence[ArmSummary], by_arm: dict[str, list[Run]], reference: str | None
) -> tuple[Pairs, int, tuple[PairedDifference, ...]]:
    labels = [arm.label for arm in arms if arm.n]
    chosen: Iterable[tuple[str, str]]
    pairs_of: Pairs
    if reference is not None:
        place = labels.index(reference) if reference in labels else len(labels)
        better = [(label, reference) for label in labels[:place] if place < len(labels)]
        pairs_of, chosen = "with the reference", [*better, *((reference, label) for label in labels[place + 1 :])]
    elif len(labels) > MAX_ARMS_FOR_ALL_PAIRS:
        pairs_of, chosen = "with the best", [(labels[0], label) for label in labels[1:]]
    else:
        pairs_of, chosen = "all", combinations(labels, 2)
    accuracies = {label: _accuracies(by_arm[label]) for label in labels}
    found = [_paired(first, second, accuracies[first], accuracies[second]) for first, second in chosen]
    tested = [pair.p_value for pair in found if pair.p_value is not None]
    # The best of many was found by a look at these very numbers. Were it compared with each other arm as if it had
    # been chosen beforehand, the luckiest of 50 equal arms would seem to be better in a third of all sweeps.
    tests = math.comb(len(labels), 2) if pairs_of == "with the best" else len(tested)
    adjusted = iter(holm(tested, tests=tests))
    return pairs_of, tests, tuple(_judged(pair, next(adjusted)) if pair.p_value is not None else pair for pair in found)


def _accuracies(runs: Sequence[Run]) -> dict[Seeds, float]:
    return {
        (run.seed, run.shuffle_seed): run.test_accuracy
        for run in runs
        if run.test_accuracy is not None and run.measured
    }


def _judged(pair: PairedDifference, p_holm: float) -> PairedDifference:
    return pair.model_copy(update={"p_holm": p_holm, "significant": p_holm < SIGNIFICANCE})


def _paired(first: str, second: str, these: Mapping[Seeds, float], those: Mapping[Seeds, float]) -> PairedDifference:
    differences = [accuracy - those[seeds] for seeds, accuracy in these.items() if seeds in those]
    found = spread(differences)
    wins = sum(difference > ROUNDING for difference in differences)
    return PairedDifference(
        first=first,
        second=second,
        n=found.n,
        mean=found.mean,
        standard_deviation=found.standard_deviation,
        low=found.low,
        high=found.high,
        p_value=paired_p(differences),
        p_holm=None,
        effect_size=hedges_d_z(differences),
        wins=wins,
        ties=sum(abs(difference) <= ROUNDING for difference in differences),
        win_share=wins / found.n if found.n else None,
        significant=False,
        note=_note_of_pair(differences),
    )


def _note_of_pair(differences: Sequence[float]) -> str | None:
    if not differences:
        return "there is no seed for which both have succeeded"
    if len(differences) == 1:
        return "one seed has no spread: there is no interval and no test"
    if constant(differences):
        return "every seed gave the same difference: there is no effect size, and p is that of the randomisation test"
    return None


def _notes(by_arm: Mapping[str, Sequence[Run]], arms: Sequence[ArmSummary], pairs_of: Pairs) -> tuple[str, ...]:
    notes = []
    if any(_crossed(runs) for runs in by_arm.values()):
        notes.append(
            "Some runs of an arm share their seed and others their shuffle_seed. Runs that share one are not quite "
            "independent: intervals may be too narrow and p values too small."
        )
    if len({arm.values.get("dataset") for arm in arms}) > 1:
        notes.append(
            "Arms of different datasets read different test images: a difference between them tells which dataset is "
            "easier, and not which network is better."
        )
    if any(arm.diverged for arm in arms):
        notes.append(
            "Means leave out the runs that diverged: of an arm that diverges often, they tell the better part."
        )
    if pairs_of == "with the best":
        notes.append(
            f"Of more than {MAX_ARMS_FOR_ALL_PAIRS} arms, each is compared with the best only. p values are adjusted "
            "for every two, since the best was chosen by the same numbers."
        )
    return tuple(notes)


def _crossed(runs: Sequence[Run]) -> bool:
    seeds, shuffles = {run.seed for run in runs}, {run.shuffle_seed for run in runs}
    return min(len(seeds), len(shuffles)) > 1 and max(len(seeds), len(shuffles)) < len(runs)


COUNTS = ("planned", "n", "pending", "failed", "diverged", "cancelled")
MEASURES = ("accuracy", "loss", "seconds")
SPREAD = tuple(name for name in Spread.model_fields if name != "n")
DIFFERENCE = ("difference", "difference_low", "difference_high", "difference_n", "p_value", "p_holm", "effect_size")


def columns(comparison: Comparison) -> list[str]:
    """Names of the columns of `to_rows`, also where there are no rows."""
    fields = dict.fromkeys(field for arm in comparison.arms for field in arm.values)
    spreads = [f"{measure}_{name}" for measure in MEASURES for name in SPREAD]
    return ["rank", "label", *fields, "complete", *COUNTS, *spreads, "versus", *DIFFERENCE, "win_share", "significant"]


def to_rows(comparison: Comparison) -> list[dict[str, Value | None]]:
    """One flat row for each arm, the best first, all with the same `columns`: for CSV.

    The columns from `versus` on compare the arm with the best, or with the reference if one was chosen: `difference`
    is the mean test accuracy of *this* arm minus that of `versus`, over the seeds of both.
    """
    names = columns(comparison)
    pairs = {frozenset((pair.first, pair.second)): pair for pair in comparison.pairs}
    return [dict.fromkeys(names) | _row(comparison, arm, pairs) for arm in comparison.arms]


def _row(
    comparison: Comparison, arm: ArmSummary, pairs: Mapping[frozenset[str], PairedDifference]
) -> dict[str, Value | None]:
    row = {"rank": arm.rank, "label": arm.label} | arm.values
    row |= {"complete": str(comparison.complete).lower()} | {name: getattr(arm, name) for name in COUNTS}
    row |= {f"{one}_{name}": getattr(getattr(arm, one), name) for one in MEASURES for name in SPREAD}
    anchor = comparison.reference or comparison.arms[0].label
    pair = pairs.get(frozenset((arm.label, anchor)))
    return row if pair is None else row | _versus(arm, anchor, pair)


def _versus(arm: ArmSummary, anchor: str, pair: PairedDifference) -> dict[str, Value | None]:
    mean, low, high, size = pair.mean, pair.low, pair.high, pair.effect_size
    wins = pair.wins
    if pair.second == arm.label:
        mean, low, high, size = _negative(mean), _negative(high), _negative(low), _negative(size)
        wins = pair.n - pair.wins - pair.ties
    values = (mean, low, high, pair.n, pair.p_value, pair.p_holm, size)
    row: dict[str, Value | None] = dict(zip(DIFFERENCE, values, strict=True))
    row |= {"versus": anchor, "significant": str(pair.significant).lower()}
    return row | {"win_share": wins / pair.n if pair.n else None}


def _negative(x: float | None) -> float | None:
    return None if x is None else 0.0 - x  # and not -x: that makes -0.0
