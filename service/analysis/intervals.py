"""Means with intervals, paired tests, effect sizes and Holm's correction.

Only `scipy.special` is imported: these few formulas are all that is needed of `scipy.stats`, which takes several
times as long to load and four times the memory. Functions import it themselves: an API that is asked for no comparison
is 20 MB smaller. Tests hold each against `scipy.stats` and statsmodels.
docs/statistics.md says why these methods and how well they keep their promises.

Numbers that overflow or do not exist are None, never NaN or infinity.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.domain.comparison import Spread

__all__ = ["LEVEL", "ROUNDING", "constant", "hedges_d_z", "holm", "paired_p", "prediction_p", "spread"]

LEVEL = 0.95
"""Share of repetitions in which an interval is to cover the truth."""

ROUNDING = 2.0**-22
"""Accuracies differ by this much, about 2.4e-7, through rounding alone: they were float32, each off by up to 2**-25
below 1, and a difference of two differences has four of them. One image of 10,000 is 1e-4."""


def spread(values: Sequence[float]) -> Spread:
    """The mean of independent numbers with Student's t interval at 95%: mean ± t(0.975, n - 1) * s / sqrt(n).

    Equal numbers have an interval without width: no variation was seen, which is not to say that there is none.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    x = np.sort(np.asarray(values, dtype=np.float64))  # sorted, so that no sum depends on the order of runs
    n = x.size
    if n == 0:
        return Spread(n=0, mean=None, standard_deviation=None, low=None, high=None, min=None, max=None)
    least, most = float(x[0]), float(x[-1])
    if n == 1:
        return Spread(n=1, mean=least, standard_deviation=None, low=None, high=None, min=least, max=least)
    if least == most:  # NumPy's mean of equal numbers can be off by a rounding, and then they seem to differ
        return Spread(n=n, mean=least, standard_deviation=0.0, low=least, high=least, min=least, max=least)
    mean, deviation = _moments(x)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)
    return Spread(n=n, mean=mean, standard_deviation=deviation, low=mean - half, high=mean + half, min=least, max=most)


def _moments(x: NDArray[np.float64]) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(x.mean()), float(x.std(ddof=1))


def constant(differences: Sequence[float]) -> bool:
    """Whether differences of accuracies are all the same, but for rounding."""
    return max(differences) - min(differences) <= ROUNDING


def paired_p(differences: Sequence[float]) -> float | None:
    """How probable so large a mean difference is by chance alone: the two-sided p value of the paired t test.

    Equal differences leave the t test nothing to judge by: its p would be 0, even for two seeds that happen to differ
    by the same few images. For these it is the p value of the randomisation test: were each sign a coin's toss, all
    would agree in 2 of 2**n tosses. Differences of zero give 1.

    Args:
        differences: between accuracies, one for each seed, each independent of the others.

    Returns:
        0 to 1; None for fewer than two differences.

    Source: Student (1908); for equal differences Fisher, "The Design of Experiments" (1935), section 21.
    """
    n = len(differences)
    if n < 2:
        return None
    if constant(differences):
        return 1.0 if max(map(abs, differences)) <= ROUNDING else 2.0 ** (1 - n)
    mean, deviation = _moments(np.sort(np.asarray(differences, dtype=np.float64)))
    from scipy.special import stdtr

    return float(2 * stdtr(n - 1, -abs(mean) * math.sqrt(n) / deviation))


def prediction_p(value: float, others: Sequence[float]) -> float | None:
    """How probable it is that one more number of the same kind lies so far from the mean of others: two-sided, by
    t = (value - mean) / (s * sqrt(1 + 1 / n)) with n - 1 degrees of freedom.

    Returns:
        0 to 1; None for fewer than two others.

    Source: Hahn & Meeker, "Statistical Intervals" (1991), section 4.7: a normal distribution's prediction interval.
    """
    x = np.sort(np.asarray(others, dtype=np.float64))
    if x.size < 2:
        return None
    mean, deviation = _moments(x)
    if deviation == 0.0:
        return 1.0 if value == mean else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(x.size - 1, -abs(value - mean) / (deviation * math.sqrt(1 + 1 / x.size))))


def hedges_d_z(differences: Sequence[float]) -> float | None:
    """The mean difference in standard deviations of the differences, corrected for small samples.

    d_z = mean / s, times J = gamma(v / 2) / (sqrt(v / 2) * gamma((v - 1) / 2)) with v = n - 1: without J it is too
    large on average, by a quarter for five seeds.

    Returns:
        None for fewer than three differences, where J is zero, and for equal ones, where s is.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1988); Hedges, "Distribution theory for
    Glass's estimator of effect size and related estimators", Journal of Educational Statistics 6 (1981).
    """
    if len(differences) < 3 or constant(differences):
        return None
    mean, deviation = _moments(np.sort(np.asarray(differences, dtype=np.float64)))
    v = len(differences) - 1
    from scipy.special import gammaln

    correction = math.exp(gammaln(v / 2) - gammaln((v - 1) / 2)) / math.sqrt(v / 2)
    return correction * mean / deviation


def holm(p_values: Sequence[float], *, tests: int | None = None) -> list[float]:
    """Adjust p values for there being many: calling those below 0.05 significant is wrong about any of them in at
    most 5% of all sweeps, however the tests depend on each other.

    Args:
        p_values: of the tests that are reported, in any order.
        tests: how many tests these were chosen from by a look at the data; as many as are given, if none were left
            out. The unreported are taken for the largest p values, which can only make the others larger.

    Returns:
        The adjusted p values, in the order given, at most 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979).
    """
    tests = len(p_values) if tests is None else tests
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (tests - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
