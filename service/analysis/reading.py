"""A comparison in one plain sentence."""

from service.analysis.intervals import ROUNDING
from service.domain.comparison import ArmSummary, Comparison, PairedDifference, Spread

__all__ = ["read"]


def read(comparison: Comparison) -> str:
    """Say in one sentence which arm is better, by how much, whether chance explains it, and which runs are missing."""
    found = _found(comparison)
    if comparison.pending and comparison.finished:
        count = comparison.finished
        found = f"so far, as {count} of {_runs(comparison.total)} {_has(count)} succeeded, {found}"
    sentence = "; ".join([found, *_missing(comparison)])
    return f"{sentence[0].upper()}{sentence[1:]}."


def _found(comparison: Comparison) -> str:
    arms = [arm for arm in comparison.arms if arm.n]
    if not arms:
        return _nothing(comparison)
    best = arms[0]
    if len(arms) == 1:
        other = "there is no other arm"
        if comparison.reference not in {None, best.label}:
            other = f"no run of {comparison.reference} has succeeded"
        elif len(comparison.arms) > 1:
            other = "no other arm has a run that succeeded to compare it with"
        return f"over {_seeds(best.n)} {best.label} reads {_share(best.accuracy)} of the test images right, and {other}"
    pair = next((pair for pair in comparison.pairs if pair.first == best.label), None)
    if pair is None:
        return f"the best of {len(arms)} arms is {_named(best)}, but no run of {comparison.reference} has succeeded"
    second = next(arm for arm in arms if arm.label == pair.second)
    chosen = len(arms) == 2 or comparison.reference is not None
    named = _named(second) if chosen else f"the next, {_named(second)}"
    equal = best.rank == second.rank
    return _pair(pair, _named(best), named, equal=equal) + _rest(comparison)


def _nothing(comparison: Comparison) -> str:
    if comparison.total == 0:
        return "there are no runs to compare"
    runs = "the only run has not" if comparison.total == 1 else f"none of {_runs(comparison.total)} has"
    yet = " yet" if comparison.pending else ""
    return f"{runs} succeeded, so there is nothing to compare{yet}"


def _pair(pair: PairedDifference, best: str, second: str, *, equal: bool) -> str:
    """What the seeds of both say of the best arm and of the one it is compared with."""
    if pair.mean is None:
        return f"there is no seed that both {best} and {second} have, so they cannot be compared"
    if pair.n == 1:
        return f"one seed cannot tell {best} from {second}: it gives a difference of {_plain(pair.mean)}"
    seeds = _seeds(pair.n)
    if pair.wins == 0 and pair.ties == pair.n:
        return f"in each of {seeds} {best} and {second} read equally many test images right"
    size = f"{abs(pair.mean):.4f} (95% interval {_interval(pair)})"
    ahead = f"in {pair.wins} of {seeds}"
    if abs(pair.mean) <= ROUNDING:
        return (
            f"over {seeds} {best} and {second} read equally many test images right on average: the former is ahead "
            f"{ahead}, behind in {pair.n - pair.wins - pair.ties}"
        )
    if pair.mean < 0 and equal:
        return (
            f"over all their seeds {best} and {second} read equally many test images right; over the {seeds} of both "
            f"the former is behind by {size}"
        )
    if pair.mean < 0:
        return (
            f"only by seeds that {second} lacks does {best} rank before it: over the {seeds} of both it is behind by "
            f"{size}"
        )
    if pair.significant:
        return (
            f"over {seeds} {best} reads more test images right than {second}: by {size}, {ahead}, and by more than "
            f"chance explains ({_p(pair)})"
        )
    return (
        f"{seeds} cannot tell {best} from {second}: the former is ahead by {size}, {ahead}, which chance may explain "
        f"({_p(pair)})"
    )


def _rest(comparison: Comparison) -> str:
    """How many of the other differences chance does not explain."""
    others = len(comparison.pairs)
    if others < 2:
        return ""
    tested = sum(pair.p_value is not None for pair in comparison.pairs)
    if not tested:
        return "; no difference could be tested, for which two seeds that two arms have in common are needed"
    clear = sum(pair.significant for pair in comparison.pairs)
    which = "between two arms" if comparison.pairs_of == "all" else comparison.pairs_of.replace("with", "from")
    if tested < others:
        which += f", of which {tested} could be tested"
    return f"; of all {others} differences {which}, {clear} {'is' if clear == 1 else 'are'} more than chance explains"


def _missing(comparison: Comparison) -> list[str]:
    """The runs that ended without a result, which no mean may hide."""
    parts = []
    if comparison.diverged:
        arms = [arm for arm in comparison.arms if arm.diverged]
        if len(arms) == 1:
            parts.append(f"{arms[0].diverged} of {_runs(arms[0].planned)} of {arms[0].label} diverged")
        else:
            parts.append(f"{comparison.diverged} of {_runs(comparison.total)} diverged, in {len(arms)} arms")
    if other := comparison.failed - comparison.diverged:
        parts.append(f"{_runs(other)} failed for another reason" if comparison.diverged else f"{_runs(other)} failed")
    if comparison.cancelled:
        parts.append(f"{comparison.cancelled} of {_runs(comparison.total)} {_was(comparison.cancelled)} cancelled")
    if parts and comparison.finished:
        one = comparison.failed + comparison.cancelled == 1
        parts[-1] += f", and no mean includes {'it' if one else 'them'}"
    return parts


def _named(arm: ArmSummary) -> str:
    return f"{arm.label} ({_share(arm.accuracy)})"


def _share(found: Spread) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.4f}"
    return f"{found.mean:.4f} ± {(found.high - found.low) / 2:.4f}"


def _plain(difference: float) -> str:
    return f"{0.0 if abs(difference) <= ROUNDING else difference:.4f}"


def _interval(pair: PairedDifference) -> str:
    """Of the size of the difference: of a lead, or of a lag."""
    low, high = pair.low or 0.0, pair.high or 0.0
    if (pair.mean or 0.0) < 0:
        low, high = -high, -low
    return f"{low:.4f} to {high:.4f}"


def _p(pair: PairedDifference) -> str:
    p = pair.p_holm if pair.p_holm is not None else 1.0
    return "Holm-adjusted p < 0.001" if p < 0.001 else f"Holm-adjusted p = {p:.3g}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
