"""An experiment: one training run, its spec, its states and what it gave."""

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from math import isfinite
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import TrainingErrorCode

Activation = Literal[
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "tanh",
    "tanh_shrink",
]
Optimizer = Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
Initializer = Literal[
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "zeros",
]
Dataset = Literal["mnist", "fashion_mnist"]
Tag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
DATASETS: tuple[str, ...] = get_args(Dataset)

PIXELS = 28 * 28
CLASSES = 10
TRAINING_IMAGES = 60_000

COSTED_BATCH = 1000
"""A step of more images than this costs as much as several of so many: it takes as much longer."""


class Frozen(BaseModel):
    """A value that never changes and refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Spec(Frozen):
    """What to train: `Input(784) -> depth x Dense(units, activation) -> Dense(10, softmax)` on pixels / 255,
    by categorical cross-entropy. The defaults are those of the article that asked the question.
    """

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {"activation": "relu", "depth": 1},
                {"activation": "sigmoid", "depth": 3, "units": 32, "epochs": 5, "seed": 7, "tags": ["deep"]},
            ]
        },
    )

    activation: Activation
    """Activation of every hidden layer: any of Keras's that needs no parameter."""
    depth: int = Field(ge=1, le=64)
    """Number of hidden layers."""
    units: int = Field(default=16, ge=1, le=1024)
    """Units in each hidden layer."""
    epochs: int = Field(default=10, ge=1, le=1000)
    """Passes over the 60,000 training images."""
    batch_size: int = Field(default=1000, ge=1, le=60_000)
    """Images a step. The last step of an epoch takes what is left."""
    optimizer: Optimizer = "adam"
    """Keras's optimizer of this name, with Keras's defaults besides the learning rate."""
    learning_rate: float = Field(default=0.001, gt=0, le=1e9)
    """Step size of the optimizer."""
    initializer: Initializer = "glorot_uniform"
    """Keras's initializer of every kernel; biases begin at zero."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Draws the initial weights, and nothing else."""
    shuffle_seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Draws each epoch's order of images, and nothing else: runs that differ only by `seed` see the same batches."""
    dataset: Dataset = "mnist"
    """The images to learn."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Larger goes first; among equals, the older."""
    name: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    """A name for people. Need not be unique."""
    tags: tuple[Tag, ...] = Field(default=(), max_length=32, strict=False)
    """Words to find the experiment by."""

    @property
    def training_bytes(self) -> int:
        """About how much memory it takes to train one: weights, gradients, and two moments of an optimizer; and each
        layer's sums and outputs, with their gradients, for a batch or for what is evaluated at once.
        """
        images = max(self.batch_size, 2000)
        return 4 * (4 * self.parameters + 4 * images * (self.units * self.depth + CLASSES))

    @property
    def training_cost(self) -> int:
        """What it costs to train one, in parameter-steps: trainable parameters times optimizer steps. Known before
        anything has begun, and the same on every machine. A step of more than 1,000 images counts as one for every
        1,000, so that large batches are not free.
        """
        steps = math.ceil(TRAINING_IMAGES / min(self.batch_size, COSTED_BATCH))
        return self.parameters * self.epochs * steps

    @property
    def mixes_units(self) -> bool:
        """Whether the activation looks at all units of a layer at once, and not at each by itself."""
        return self.activation in {"softmax", "log_softmax", "sparsemax"}

    @property
    def stack_key(self) -> str | None:
        """The same text for specs that can be trained as one, because they differ by their seed only and by what
        training does not read. None for a spec that is trained alone.
        """
        # RMSprop divides by a square root, which TensorFlow's graphs turn into an approximate reciprocal root: it has
        # other bits where fewer than 16 numbers are left.
        if self.mixes_units or self.optimizer == "rmsprop":
            return None
        shared = self.model_dump_json(exclude={"seed", "priority", "name", "tags"})
        return hashlib.sha256(shared.encode()).hexdigest()

    @property
    def parameters(self) -> int:
        """Number of trainable numbers: kernels and biases."""
        first = (PIXELS + 1) * self.units
        inner = (self.units + 1) * self.units * (self.depth - 1)
        last = (self.units + 1) * CLASSES
        return first + inner + last


class Status(StrEnum):
    """Where an experiment is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the status never changes again."""
        return not TRANSITIONS[self]

    @classmethod
    def sources(cls, target: "Status") -> tuple["Status", ...]:
        """The statuses from which `target` may be reached."""
        return tuple(status for status in cls if target in TRANSITIONS[status])


TRANSITIONS: dict[Status, frozenset[Status]] = {
    # running -> queued: the lease expired, the trainer died, or the worker drained. It resumes from its checkpoint.
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLING, Status.QUEUED}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

ErrorCode = TrainingErrorCode | Literal["attempts_exhausted"]


def finite_or_none(value: object) -> object:
    """Turn NaN and infinity, which JSON does not have, into None."""
    return None if isinstance(value, float) and not isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(finite_or_none)]
"""A number, or null where it was NaN or infinite."""


Verdict = Literal["vanishing", "exploding", "healthy"]

# A layer whose kernel gets a gradient ten times smaller than another's learns ten times slower under plain gradient
# descent: an order of magnitude is where the literature begins to speak of vanishing and exploding gradients.
VANISHING = 0.1
EXPLODING = 10.0


class HiddenLayer(Frozen):
    """How a hidden layer's units answer to the first 1,000 training images after an epoch."""

    mean: Finite
    """Mean of its outputs."""
    standard_deviation: Finite
    saturated: Finite
    """Share of its outputs where the activation is flat: slope below 5% of the steepest. Null for activations that
    have no two flat ends."""
    dead: Finite
    """Share of its units that are zero for every image. Null for activations that cannot be."""


class EpochMetrics(Frozen):
    """What one pass over the training images gave."""

    epoch: int
    """1 for the first."""
    loss: Finite
    """Mean cross-entropy over the epoch's training batches, in nats, while the weights were changing."""
    accuracy: Finite
    """Share of the epoch's training images read right, while the weights were changing."""
    val_loss: Finite
    """Cross-entropy on the test images after the epoch, in nats. Nothing is chosen by it."""
    val_accuracy: Finite
    """Share of the test images read right after the epoch. Nothing is chosen by it."""
    seconds: float
    """Training and evaluation of this epoch."""
    gradient_norms: tuple[Finite, ...]
    """Euclidean norm of the loss's gradient by each layer's kernel, input side first, on the first 1,000 training
    images after the epoch. Null where it overflowed."""
    gradient_ratio: Finite = None
    """The first of them over the last: how much of the gradient reaches the input side."""
    gradients: Verdict | None = None
    """`vanishing` when the ratio is below 0.1, also where the last norm is 0 and there is no ratio; `exploding` when it
    is above 10 or a norm overflowed."""
    hidden: tuple[HiddenLayer, ...] = ()
    """Each hidden layer, input side first."""


def judge_gradients(norms: Sequence[float]) -> tuple[float | None, Verdict]:
    """The ratio of the first layer's gradient norm to the last's, and what that means."""
    if not all(map(isfinite, norms)):
        return None, "exploding"
    first, last = norms[0], norms[-1]
    if last == 0.0:
        return None, "vanishing"
    ratio = first / last
    return ratio, "vanishing" if ratio < VANISHING else "exploding" if ratio > EXPLODING else "healthy"


class Progress(Frozen):
    """How far training has come."""

    epoch: int
    """Epochs recorded."""
    epochs: int
    """Epochs asked for."""


class Result(Frozen):
    """What a succeeded experiment measured on the 10,000 test images."""

    test_loss: float
    """Mean cross-entropy, in nats."""
    test_accuracy: float
    """Share read right."""
    computation_seconds: float
    """Training and evaluation, summed over attempts, without waiting and start-up."""


class ModelFile(Frozen):
    """One file of a model."""

    sha256: str
    bytes: int


class TestMetrics(Frozen):
    """What the trained network measured on the 10,000 test images."""

    loss: float
    accuracy: float


class Metrics(Frozen):
    """Everything that was measured of an experiment so far."""

    experiment_id: str
    status: Status
    epochs: tuple[EpochMetrics, ...]
    test: TestMetrics | None
    """Null until the experiment has succeeded."""
    computation_seconds: float
    """Training and evaluation so far, summed over attempts, without waiting and start-up."""


class Model(Frozen):
    """The immutable artifact of a succeeded experiment."""

    weights_sha256: str
    """SHA-256 over the weights' little-endian float32 bytes, layer by layer, kernel before bias."""
    parameters: int
    formats: dict[Literal["keras", "onnx"], ModelFile]


class Failure(Frozen):
    """Why an experiment failed."""

    code: ErrorCode
    message: str


class Experiment(Frozen):
    """One training run as the store holds it."""

    id: str
    status: Status
    spec: Spec
    progress: Progress
    result: Result | None
    model: Model | None
    error: Failure | None
    attempt: int
    """How often it was started."""
    sweep_id: str | None
    retry_of: str | None
    """The experiment that this one repeats."""
    created_at: datetime
    started_at: datetime | None
    """When its first attempt began."""
    finished_at: datetime | None
