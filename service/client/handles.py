"""Experiments and sweeps to hold on to: what was last seen of them, and what can be done with them."""

from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, Unpack

from service.client import pictures, streams
from service.client.carriers import Bound, Carrier, iteration, operation
from service.client.core import Core, Format, Kind, Noun
from service.client.errors import ExperimentFailed
from service.client.flow import Emit, Flow, Stream, through
from service.client.pictures import Picture
from service.client.progress import describe, shown, shown_epochs
from service.client.values import Figure, Filters, Prediction, Seen
from service.domain.comparison import Comparison
from service.domain.experiment import (
    EpochMetrics,
    Experiment,
    Failure,
    Metrics,
    Model,
    Progress,
    Result,
    Spec,
    Status,
)
from service.domain.sweep import Sweep, SweepProgress, SweepSpec, SweepStatus

__all__ = ["ExperimentHandle", "SweepHandle"]

Value = TypeVar("Value", Experiment, Sweep)


class _Handle(Bound[Carrier], Generic[Carrier, Value]):
    """Something of the service's as it was last seen. `refresh` and `wait` look again."""

    _noun: ClassVar[Noun]

    def __init__(self, carrier: Carrier, core: Core, seen: Seen[Value]) -> None:
        self._carrier = carrier
        self._core = core
        self._seen: Seen[Value] = seen

    def __eq__(self, other: object) -> bool:
        """Whether it is of the same, however that was last seen."""
        return (self._noun, self.id) == (other._noun, other.id) if isinstance(other, _Handle) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._noun, self.id))

    @property
    def value(self) -> Value:
        """All of it, as a value that never changes."""
        return self._seen.value

    @property
    def raw(self) -> dict[str, Any]:
        """The service's answer itself, with its links."""
        return self._seen.raw

    @property
    def id(self) -> str:
        """Its id."""
        return self.value.id

    @operation
    def refresh(self) -> Flow[Value]:
        """Look at it again. Returns its value."""
        self._seen = yield from self._core.seen(self._noun, self.id)
        return self.value

    @operation
    def cancel(self) -> Flow[Value]:
        """Cancel what has not ended. It is `cancelling` until its trainers have really stopped. Returns its value."""
        self._seen = yield from self._core.cancel(self._noun, self.id)
        return self.value

    @operation
    def delete(self) -> Flow[None]:
        """Delete it, with its metrics and its models, when it has ended."""
        return self._core.delete(self._noun, self.id)

    @operation
    def draw(self, name: str, *, kind: Kind, width: int = 900) -> Flow[bytes]:
        """A figure as a file: `json` for Plotly, `svg`, `png` or `html`. `width` is in px, of a picture."""
        return self._core.draw(self._noun, self.id, name, kind, width)


class ExperimentHandle(_Handle[Carrier, Experiment]):
    """An experiment as it was last seen."""

    _noun = "experiments"

    @property
    def spec(self) -> Spec:
        """What is trained, with all defaults."""
        return self.value.spec

    @property
    def status(self) -> Status:
        """Where it is in its life."""
        return self.value.status

    @property
    def progress(self) -> Progress:
        """How many epochs are done."""
        return self.value.progress

    @property
    def result(self) -> Result | None:
        """What was measured on the test images. None until it has succeeded."""
        return self.value.result

    @property
    def model(self) -> Model | None:
        """The model's files. None until it has succeeded."""
        return self.value.model

    @property
    def error(self) -> Failure | None:
        """Why it failed. None if it has not."""
        return self.value.error

    def __repr__(self) -> str:
        told = f"{self.spec.activation}, depth {self.spec.depth}, {self.status}"
        result = f", test accuracy {self.result.test_accuracy:.4f}" if self.result else ""
        return f"<experiment {self.id}: {told}{result}>"

    @iteration
    def epochs(self, *, timeout: float | None = None) -> Stream[EpochMetrics]:
        """Every epoch from the first on, as it ends, until the experiment does. Goes on by itself when the connection
        breaks.

        Raises:
            WaitTimeout: the experiment has not ended after so many seconds.
        """
        return through(
            streams.follow(self._core, self.id, timeout=timeout),
            lambda told: Emit(told) if isinstance(told, EpochMetrics) else None,
        )

    @operation
    def wait(
        self, *, timeout: float | None = None, progress: bool = False, check: bool = True
    ) -> "Flow[ExperimentHandle[Carrier]]":
        """Return when it has ended. `progress` shows how far it is.

        Raises:
            WaitTimeout: it has not ended after so many seconds.
            ExperimentFailed: it failed or was cancelled; not when `check` is false.
        """
        with shown_epochs(self.value, wanted=progress) as display:
            yield from through(streams.follow(self._core, self.id, timeout=timeout), display.tell)
        self._seen = yield from self._core.seen("experiments", self.id)
        if check and self.status is not Status.SUCCEEDED:
            raise ExperimentFailed(self.value)
        return self

    @operation
    def metrics(self, *, after_epoch: int = 0) -> Flow[Metrics]:
        """What was measured after an epoch."""
        return self._core.metrics(self.id, after_epoch)

    @operation
    def retry(self) -> "Flow[ExperimentHandle[Carrier]]":
        """Queue the same again, when this one has ended."""
        seen = yield from self._core.retry(self.id)
        return ExperimentHandle(self._carrier, self._core, seen)

    @operation
    def download(self, path: Path | str, kind: Format = "keras") -> Flow[None]:
        """Write its model to a file, which appears when it is whole. Links are followed.

        Raises:
            OSError: the file cannot be written.
        """
        return self._core.download(self.id, kind, Path(path))

    @operation
    def figure(self, name: str = "learning-curves") -> Flow[Figure]:
        """A figure to look at: `learning-curves`, `gradient-norms`, `confusion-matrix` or `gallery`."""
        return self._core.figure("experiments", self.id, name)

    @operation
    def predict(self, picture: Picture, *, explain: bool = False) -> Flow[Prediction]:
        """Read the digit in a picture with its model."""
        answers = yield from self._core.predict(pictures.body(picture), [self.id], explain=explain)
        return answers[self.id][0]


class SweepHandle(_Handle[Carrier, Sweep]):
    """A sweep as it was last seen."""

    _noun = "sweeps"

    @property
    def spec(self) -> SweepSpec:
        """What was asked for."""
        return self.value.spec

    @property
    def status(self) -> SweepStatus:
        """Where it is in its life."""
        return self.value.status

    @property
    def progress(self) -> SweepProgress:
        """How many experiments are where."""
        return self.value.progress

    def __repr__(self) -> str:
        return f"<sweep {self.id}: {self.progress.done} of {self.progress.total} done, {self.status}>"

    @operation
    def wait(self, *, timeout: float | None = None, progress: bool = False) -> "Flow[SweepHandle[Carrier]]":
        """Return when all of it has ended, one way or another. `progress` shows how far it is.

        Raises:
            WaitTimeout: it has not ended after so many seconds.
        """
        with shown("sweep", self.progress.total, unit="experiments", wanted=progress) as display:

            def tell(seen: Seen[Sweep]) -> None:
                self._seen = seen
                display.show(self.progress.done, describe(self.value))

            yield from through(streams.watch(self._core, self.id, timeout=timeout), tell)
        return self

    @iteration
    def experiments(self, **filters: Unpack[Filters]) -> "Stream[ExperimentHandle[Carrier]]":
        """Its experiments, the newest first unless `sort` says otherwise."""
        return through(
            self._core.pages("experiments", {**filters, "sweep_id": self.id}),
            lambda seen: Emit(ExperimentHandle(self._carrier, self._core, seen)),
        )

    @operation
    def comparison(self, *, reference: str | None = None) -> Flow[Comparison]:
        """Which arm is better and how sure that is, as far as it has come. `reference` is the label of an arm to
        compare the others with.
        """
        return self._core.comparison(self.id, reference)

    @operation
    def figure(self, name: str = "accuracy-by-depth") -> Flow[Figure]:
        """A figure to look at: `accuracy-by-depth`, `seed-scatter`, `learning-curves` or `gradient-norms`."""
        return self._core.figure("sweeps", self.id, name)
