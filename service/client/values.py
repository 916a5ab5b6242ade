"""Values that only clients have. Experiments, metrics and sweeps are the domain's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict

from service.domain.experiment import Activation, Dataset, Initializer, Optimizer, Status
from service.domain.sweep import Arm

__all__ = [
    "Alias",
    "Figure",
    "Filters",
    "Page",
    "Plan",
    "Prediction",
    "RequestOptions",
    "Seen",
    "Sort",
    "SpecOptions",
    "SweepOptions",
]

Value = TypeVar("Value")

Sort = Literal["created_at", "-created_at", "test_accuracy", "-test_accuracy"]


class SpecOptions(TypedDict, total=False):
    """What may be said of an experiment besides its activation and depth. The service has the defaults."""

    units: int
    epochs: int
    batch_size: int
    optimizer: Optimizer
    learning_rate: float
    initializer: Initializer
    seed: int
    shuffle_seed: int
    dataset: Dataset
    priority: int
    name: str | None
    tags: Sequence[str]


class SweepOptions(TypedDict, total=False):
    """What may be said of a sweep."""

    grid: Mapping[str, Any]
    """Fields of a spec with their values: a list, or a range such as `{"start": 1, "stop": 3}`."""
    base: Mapping[str, Any]
    """Fields of a spec that all experiments share."""
    seeds: int
    """Seeds for each combination: 0, 1, and so on."""
    name: str
    tags: Sequence[str]


class Filters(TypedDict, total=False):
    """Which experiments to list. A filter takes any of its values, `tag` only what has all of them."""

    status: Sequence[Status | str]
    activation: Sequence[Activation | str]
    depth: Sequence[int]
    dataset: Sequence[Dataset | str]
    tag: Sequence[str]
    sweep_id: str | None
    sort: Sort


class RequestOptions(TypedDict, total=False):
    """What a request may have. All are as httpx takes them, but `json` may hold what is NumPy's."""

    params: Any
    headers: Any
    cookies: Any
    json: Any
    content: Any
    data: Any
    files: Any
    timeout: Any
    extensions: Any


@dataclass(frozen=True)
class Seen(Generic[Value]):
    """A value as the service told it."""

    value: Value
    raw: dict[str, Any]
    """The answer itself, with its links."""


@dataclass(frozen=True)
class Page(Generic[Value]):
    """Some of a list."""

    data: tuple[Value, ...]
    next_cursor: str | None
    raw: dict[str, Any]
    """The answer itself."""


class _Answer(BaseModel):
    """A later service may tell more than this client knows."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Alias(_Answer):
    """A name of a model."""

    alias: str
    experiment_id: str
    dataset: str
    test_accuracy: float
    computed: bool
    """Whether it moves by itself, as `best` does."""
    updated_at: datetime | None


class Plan(_Answer):
    """What a sweep would be."""

    experiments: int
    """How many there would be."""
    arms: tuple[Arm, ...]
    """What would be compared."""
    seeds: int
    """Experiments in each arm."""
    parameters: int
    """Trainable parameters of the largest network."""
    training_cost: int | None = None
    """What all of it would cost, in parameter-steps. None where the service is older than this."""


class Prediction(_Answer):
    """What a network sees in a picture."""

    digit: int
    """The class of highest probability, 0..9."""
    label: str
    """Its name in the model's dataset."""
    confidence: float
    """Its probability."""
    probabilities: tuple[float, ...]
    """Of each class, 0 to 9."""
    experiment_id: str
    """The experiment that made the model."""
    pixels: tuple[tuple[int, ...], ...] | None = None
    """28x28 as the network saw it, when that was asked for."""
    steps: tuple[str, ...] | None = None
    """What was done to the picture, in order, when that was asked for."""


@dataclass(frozen=True)
class Figure:
    """A Plotly figure. In a notebook it shows itself: to zoom and hover where the notebook knows Plotly, else as a
    picture.
    """

    name: str
    spec: Mapping[str, Any]
    """`{"data": [...], "layout": {...}}`: `plotly.graph_objects.Figure(figure.spec)` takes it."""
    svg: str | None
    """The same as a picture. None where the service has no extra `figures`."""

    @property
    def title(self) -> str:
        """What the figure shows, in words."""
        return str(self.spec.get("layout", {}).get("title", {}).get("text", self.name))

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": dict(self.spec), "text/plain": self.title}
        return bundle | ({"image/svg+xml": self.svg} if self.svg is not None else {})
