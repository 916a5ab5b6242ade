"""The values of a comparison: what it is made from, and what it says."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from service.domain.experiment import ErrorCode, Finite, Frozen, Status, finite_or_none
from service.domain.sweep import Arm

__all__ = ["ArmSummary", "Comparison", "PairedDifference", "Pairs", "Run", "Spread"]

Pairs = Literal["all", "with the best", "with the reference"]
Share = Annotated[float, Field(ge=0, le=1)]


class Run(Frozen):
    """One experiment, as far as it matters here."""

    arm: Arm
    seed: int
    shuffle_seed: int
    status: Status
    error: ErrorCode | None = None
    """Why it failed."""
    test_accuracy: Annotated[Share | None, BeforeValidator(finite_or_none)] = None
    test_loss: Finite = None
    computation_seconds: Finite = None

    @property
    def measured(self) -> bool:
        """Whether it succeeded and has an accuracy to compare."""
        return self.status is Status.SUCCEEDED and self.test_accuracy is not None


class Spread(Frozen):
    """What some independent numbers have in common and how they differ."""

    n: int
    """How many there are."""
    mean: Finite
    """Null without numbers."""
    standard_deviation: Finite
    """Of the population the numbers are drawn from (divided by n - 1). Null for fewer than two."""
    low: Finite
    """Lower end of Student's 95% interval of the mean. Null for fewer than two."""
    high: Finite
    """Upper end of it. No bound of the measure is heeded: with few seeds, an accuracy's may exceed 1."""
    min: Finite
    max: Finite


class ArmSummary(Arm):
    """What the runs of one arm gave. Only succeeded runs are in the means: failed ones are counted beside them."""

    rank: int | None
    """1 for the highest mean test accuracy; means that are equal but for float32's rounding share a rank. Null while no
    run has succeeded."""
    planned: int
    """Runs of this arm, whatever became of them."""
    n: int
    """Runs in the means: those that succeeded."""
    pending: int
    """Runs that wait or train."""
    failed: int
    diverged: int
    """Those of the failed whose training diverged: no finite loss, or one far beyond a guess's."""
    cancelled: int
    accuracy: Spread
    """Share of the 10,000 test images read right."""
    loss: Spread
    """Mean cross-entropy on the test images, in nats."""
    seconds: Spread
    """Training and evaluation of a run. Null where a run did not say."""
    note: str | None
    """What keeps the numbers from saying more."""


class PairedDifference(Frozen):
    """How much more the first arm reads right than the second, over the seeds for which both have succeeded."""

    first: str
    """Label of the arm that ranks better."""
    second: str
    n: int
    """Seeds, each with its shuffle_seed, that both have."""
    mean: Finite
    """Test accuracy of the first minus that of the second. Negative when the first ranks better only by seeds that the
    second lacks."""
    standard_deviation: Finite
    low: Finite
    """Lower end of Student's 95% interval of the mean difference. Null for fewer than two seeds."""
    high: Finite
    p_value: Finite
    """Of the two-sided paired t test. Null for fewer than two seeds."""
    p_holm: Finite
    """The same, adjusted for all tests of the comparison."""
    effect_size: Finite
    """Mean over standard deviation of the differences (d_z), corrected for small samples. Null for fewer than three
    seeds, and when all differences are equal."""
    wins: int
    """Seeds in which the first reads more right."""
    ties: int
    """Seeds in which both read equally many right."""
    win_share: Finite
    """Wins over n."""
    significant: bool
    """Whether chance alone does not explain it: `p_holm` below 0.05."""
    note: str | None
    """What keeps the numbers from saying more."""


class Comparison(Frozen):
    """Which arm is better, how sure that is, and what is missing."""

    complete: bool
    """False while runs wait or train, and when some were cancelled: what is here is then a partial result."""
    total: int
    """Runs, whatever became of them."""
    finished: int
    """Runs in the means: those that succeeded."""
    pending: int
    failed: int
    diverged: int
    """Those of the failed whose training diverged: no finite loss, or one far beyond a guess's."""
    cancelled: int
    method: str
    """How intervals, p values and effect sizes were made, with sources."""
    reading: str
    """The result in one sentence."""
    arms: tuple[ArmSummary, ...]
    """The best first; arms of which no run has succeeded last."""
    pairs_of: Pairs
    """Which arms were compared: every two; or, of many arms, each with the best; or each with a chosen one."""
    reference: str | None
    """Label of the chosen one."""
    tests: int
    """How many tests `p_holm` corrects for. Since the best arm was found by a look at the same data, comparing with it
    counts as every two."""
    pairs: tuple[PairedDifference, ...]
    """By the rank of the first, then of the second. Arms of which no run has succeeded are in none."""
    notes: tuple[str, ...]
    """What else to know before believing the numbers."""
