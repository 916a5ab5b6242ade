"""A sweep: a grid of specs over a base, created at once, repeated over seeds and compared."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import product
from types import GenericAlias
from typing import Annotated, Any, Literal, Self, Union

from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from service.domain.experiment import Frozen, Spec, Status, Tag
from service.errors import SpecTooLarge, SweepTooLarge

__all__ = [
    "REPEATS",
    "SWEEPABLE",
    "Arm",
    "Range",
    "Spacing",
    "Sweep",
    "SweepProgress",
    "SweepSpec",
    "SweepStatus",
    "Value",
]

Value = str | int | float

SWEEPABLE = tuple(name for name in Spec.model_fields if name not in {"priority", "name", "tags"})
"""The fields of a spec that a grid may vary, in the order in which it varies them: the first slowest."""
REPEATS = ("shuffle_seed", "seed")
"""Fields that repeat an arm with other draws: experiments that differ by nothing else are one arm."""
REQUIRED = tuple(name for name, field in Spec.model_fields.items() if field.is_required())
MAX_VALUES = 10_000
"""Of one field of a grid, as a list."""
MAX_TAGS = next(rule.max_length for rule in Spec.model_fields["tags"].metadata if hasattr(rule, "max_length"))


class _Strict(Frozen):
    """A value that takes nothing for what it is not."""

    model_config = ConfigDict(strict=True)


class Range(_Strict):
    """Whole numbers from `start` by `step`, up to `stop` and including it."""

    start: int
    stop: int
    """The largest, if the steps meet it."""
    step: int = Field(default=1, ge=1, le=2**31 - 1)

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        if self.start > self.stop:
            _refuse({("stop",): "must not be less than start"})
        return self

    def values(self) -> range:
        """The numbers, none of them made yet: there may be far too many."""
        return range(self.start, self.stop + 1, self.step)


class Spacing(_Strict):
    """`count` numbers from `start` to `stop`, both included: equal steps, or on a log scale equal ratios."""

    start: float
    stop: float
    count: int = Field(ge=2, le=1000)
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.start >= self.stop:
            _refuse({("stop",): "must be more than start"})
        if len(set(self.values())) < self.count:
            _refuse({("count",): "there are not so many different numbers between start and stop"})
        return self

    def values(self) -> tuple[float, ...]:
        """The numbers, ascending. Those in between are rounded to 12 digits, so that 0.001 reads as it is."""
        read, write = (math.log, math.exp) if self.scale == "log" else (float, float)
        first, last = read(self.start), read(self.stop)
        steps = self.count - 1
        between = (write(first * (1 - i / steps) + last * (i / steps)) for i in range(1, steps))
        return (self.start, *(min(max(self.start, float(f"{x:.12g}")), self.stop) for x in between), self.stop)


def _refuse(faults: Mapping[tuple[str | int, ...], str]) -> None:
    """Refuse what is being validated, with a message for each place in it that is wrong.

    Raises:
        ValidationError: there is a fault.
    """
    if faults:
        details = [
            InitErrorDetails(type=PydanticCustomError("sweep", "{why}", {"why": why}), loc=place, input=None)
            for place, why in faults.items()
        ]
        raise ValidationError.from_exception_data("sweep", details)


# What a base and a grid may hold is derived from Spec, so that no bound is written twice.

_WITHOUT_SOURCE: dict[str, Any] = {"use_attribute_docstrings": False}
"""There is none to read docstrings from, and to look for it takes a quarter of a second at every start."""


def _left_out(annotation: Any, description: str | None) -> Any:  # noqa: ANN401 - a type
    """A field that may be left out, but is never null."""
    absent = Field(default=None, description=description, json_schema_extra=lambda schema: schema.pop("default", None))
    return annotation, absent


def _one(field: str) -> Any:  # noqa: ANN401 - a type
    """One value of a field of a spec, under all its rules."""
    info = Spec.model_fields[field]
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _spread(field: str) -> type[Range] | type[Spacing] | None:
    """How many values of a field are written in short, if they can be."""
    name = field.title().replace("_", "")
    ends: dict[str, Any] = dict.fromkeys(("start", "stop"), (_one(field), ...))
    match Spec.model_fields[field].annotation:
        case kind if kind is int:
            return create_model(f"{name}Range", __base__=Range, __cls_kwargs__=_WITHOUT_SOURCE, **ends)
        case kind if kind is float:
            return create_model(f"{name}Spacing", __base__=Spacing, __cls_kwargs__=_WITHOUT_SOURCE, **ends)
    return None


SPREADS = {field: spread for field in SWEEPABLE if (spread := _spread(field)) is not None}


def _axis(field: str) -> Any:  # noqa: ANN401 - a type
    """The values of one field of a grid: a list, or a spread of numbers."""
    several: Any = Annotated[(GenericAlias(list, (_one(field),)), Field(min_length=1, max_length=MAX_VALUES))]
    listed: TypeAdapter[Any] = TypeAdapter(several, config=ConfigDict(strict=True, allow_inf_nan=False))
    spread = SPREADS.get(field)

    def read(given: object, _: Callable[[object], object]) -> object:
        # By hand and not as a union: a union's faults point at its members, which no request names.
        if spread is not None and isinstance(given, dict):
            return spread.model_validate(given)
        if not isinstance(given, list):
            raise PydanticCustomError("axis", f"must be a list of values{' or a range of them' if spread else ''}")
        values = listed.validate_python(given)
        first = {value: index for index, value in reversed(list(enumerate(values)))}
        _refuse({(i,): f"stands there twice: {value}" for i, value in enumerate(values) if first[value] != i})
        return values

    return Annotated[Union[several, spread] if spread else several, WrapValidator(read)]  # noqa: UP007 - at run time


def _partial(name: str, doc: str, fields: dict[str, Any]) -> type[Frozen]:
    described = {field: _left_out(kind, Spec.model_fields[field].description) for field, kind in fields.items()}
    return create_model(name, __base__=_Strict, __doc__=doc, __cls_kwargs__=_WITHOUT_SOURCE, **described)


_Base = _partial("SweepBase", "What all experiments share.", {field: _one(field) for field in Spec.model_fields})
_Grid = _partial("SweepGrid", "What a sweep varies.", {field: _axis(field) for field in SWEEPABLE})


def _like(field: str) -> Any:  # noqa: ANN401 - whatever the field holds
    """A field under the rules of a spec's, described anew."""
    info = copy.deepcopy(Spec.model_fields[field])
    info.description = None
    return info


@dataclass(frozen=True)
class _As:
    """Checks a JSON object by a model whose fields may be left out, and keeps what was given and nothing else."""

    model: type[Frozen]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self.model.__pydantic_core_schema__)

    def _read(self, given: object) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise PydanticCustomError("object", "must be a JSON object")
        return self.model.model_validate(given).model_dump(mode="json", exclude_unset=True)


class Arm(Frozen):
    """What is compared: experiments that differ only by their seeds."""

    label: str
    """For people, such as `sigmoid, depth 3`."""
    values: dict[str, Value]
    """The swept fields other than seeds."""


class SweepSpec(_Strict):
    """Experiments to create at once: every combination of the grid's values, over a base."""

    base: Annotated[dict[str, Any], _As(_Base)] = Field(default_factory=dict)
    """Fields of a spec that all experiments share. What is neither here nor in the grid has its default."""
    grid: Annotated[dict[str, Any], _As(_Grid)] = Field(default_factory=dict)
    """Fields of a spec with their values, each a list or a range."""
    seeds: int | None = Field(default=None, ge=1, le=2**31)
    """In short for the grid's `seed`: so many, from 0."""
    name: str | None = _like("name")
    """A name for people. Need not be unique."""
    tags: tuple[Tag, ...] = _like("tags")
    """Words to find the experiments by, added to the base's."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        faults: dict[tuple[str | int, ...], str] = {}
        for field in self.grid.keys() & self.base.keys():
            faults["grid", field] = "base has this field too: give it in one of the two"
        if self.seeds is not None:
            for place in ("grid", "base"):
                if "seed" in getattr(self, place):
                    faults["seeds",] = f"{place} has seed: give one of the two"
        for field in REQUIRED:
            if field not in self.base and field not in self.grid:
                faults["base", field] = "field required: in base, or its values in grid"
        if len(self._tags) > MAX_TAGS:
            faults["tags",] = f"with the base's there are {len(self._tags)}, and an experiment has at most {MAX_TAGS}"
        _refuse(faults)
        return self

    @property
    def axes(self) -> dict[str, Sequence[Value]]:
        """The swept fields and their values, in the order of `SWEEPABLE`."""
        grid = self.grid | ({"seed": range(self.seeds)} if self.seeds is not None else {})
        return {field: _values(field, grid[field]) for field in SWEEPABLE if field in grid}

    @property
    def size(self) -> int:
        """Number of experiments. None of them is made to count them."""
        return math.prod(len(values) for values in self.axes.values())

    @property
    def repeats(self) -> int:
        """Number of experiments in each arm."""
        return math.prod(len(values) for field, values in self.axes.items() if field in REPEATS)

    def arms(self) -> list[Arm]:
        """What is compared, in order. A grid that varies nothing but seeds has one arm without values."""
        return [Arm(label=self._label(values), values=values) for values in self._combinations(repeats=False)]

    def arm_of(self, spec: Spec) -> Arm:
        """The arm that one of its experiments belongs to."""
        values = {field: getattr(spec, field) for field in self.axes if field not in REPEATS}
        return Arm(label=self._label(values), values=values)

    def variant_of(self, spec: Spec) -> str:
        """What tells its arm from others of the same activation and depth, such as `units 64`. May be empty."""
        values = self.arm_of(spec).values
        rest = {field: value for field, value in values.items() if field not in REQUIRED}
        return self._label(rest) if rest else ""

    def specs(self) -> Iterator[Spec]:
        """Every experiment's spec. Arms are the outer loop: the experiments of one arm are neighbours in the queue."""
        shared = self.base | {"tags": self._tags}
        for arm, repeat in product(self._combinations(repeats=False), self._combinations(repeats=True)):
            yield Spec.model_validate(shared | arm | repeat)

    def largest(self) -> Spec:
        """A spec with the most parameters of all: they grow with units and with depth."""
        values = self.base | {field: values[-1] for field, values in self.axes.items()}
        return Spec.model_validate(values | {f: max(v) for f, v in self.axes.items() if f in {"units", "depth"}})

    def require_within(self, *, experiments: int, parameters: int) -> None:
        """Refuse a sweep that is too large.

        Raises:
            SweepTooLarge: it has more than so many experiments.
            SpecTooLarge: one of its networks would have more than so many parameters.
        """
        if self.size > experiments:
            raise SweepTooLarge(
                f"the sweep would have {self.size:,} experiments, and at most {experiments:,} are taken at once: "
                "take fewer values or fewer seeds",
                self._place_of_longest(),
            )
        largest = self.largest()
        if largest.parameters > parameters:
            raise SpecTooLarge(
                f"a network of {largest.units} units and depth {largest.depth} would have {largest.parameters:,} "
                f"parameters, and at most {parameters:,} are trained here: take fewer units or a smaller depth",
                self._place_of_largest("units" if "units" in self.base | self.grid else "depth"),
            )

    def canonical(self) -> dict[str, Any]:
        """The same for every way to ask for the same experiments under the same name. Expands every range."""
        shared = {name: field.default for name, field in Spec.model_fields.items() if not field.is_required()}
        axes = {field: list(values) for field, values in self.axes.items()}
        fixed = {name: value for name, value in (shared | self.base).items() if name not in axes}
        return {"name": self.name, "base": fixed | {"tags": sorted(self._tags)}, "axes": axes}

    @property
    def _tags(self) -> list[str]:
        return list(dict.fromkeys([*self.base.get("tags", ()), *self.tags]))

    def _combinations(self, *, repeats: bool) -> list[dict[str, Value]]:
        axes = {field: values for field, values in self.axes.items() if (field in REPEATS) is repeats}
        # By the order of REPEATS, seeds vary fastest: those that see the same batches stand together.
        order = REPEATS if repeats else SWEEPABLE
        fields = [field for field in order if field in axes]
        return [dict(zip(fields, values, strict=True)) for values in product(*(axes[field] for field in fields))]

    def _label(self, values: Mapping[str, Value]) -> str:
        shown = values or {field: self.base[field] for field in REQUIRED}
        return ", ".join(
            value if isinstance(value, str) else f"{field.replace('_', ' ')} {_digits(value)}"
            for field, value in shown.items()
        )

    def _place_of_longest(self) -> str:
        axes = self.axes
        field = max(axes, key=lambda name: len(axes[name]))
        return f"/grid/{field}" if field in self.grid else "/seeds"

    def _place_of_largest(self, field: str) -> str:
        if field in self.base:
            return f"/base/{field}"
        values = self.grid[field]
        return f"/grid/{field}/{values.index(max(values)) if isinstance(values, list) else 'stop'}"


def _digits(value: float) -> str:
    """As few as tell it from its neighbours, and as people write it where twelve do."""
    short = f"{value:.12g}"
    return min(short, repr(value), key=len) if float(short) == value else repr(value)


def _values(field: str, given: list[Value] | dict[str, Any]) -> Sequence[Value]:
    return SPREADS[field].model_validate(given).values() if isinstance(given, dict) else given


class SweepStatus(StrEnum):
    """Where a sweep is in its life: read from its experiments, and stored nowhere."""

    QUEUED = "queued"
    """Nothing has begun."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Nothing waits or trains on, and some trainers have not stopped yet."""
    FINISHED = "finished"
    """Every experiment has ended, one way or another."""


class SweepProgress(Frozen):
    """How many experiments of a sweep are where, with those that repeat one, and without deleted ones."""

    queued: int = 0
    running: int = 0
    cancelling: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    done: int
    """Those that have ended."""
    total: int

    @classmethod
    def of(cls, counts: Mapping[Status, int]) -> "SweepProgress":
        """The progress that these counts are."""
        done = sum(count for status, count in counts.items() if status.terminal)
        return cls(**{str(s): count for s, count in counts.items()}, done=done, total=sum(counts.values()))

    @property
    def status(self) -> SweepStatus:
        """What the counts say of the whole."""
        if self.done == self.total:
            return SweepStatus.FINISHED
        if self.queued + self.running == 0:
            return SweepStatus.CANCELLING
        begun = self.running + self.cancelling + self.succeeded + self.failed > 0
        return SweepStatus.RUNNING if begun else SweepStatus.QUEUED


class Sweep(Frozen):
    """A sweep as the store holds it."""

    id: str
    name: str | None
    status: SweepStatus
    spec: SweepSpec
    """As it was asked for."""
    size: int
    """Experiments asked for. `progress.total` is less when some were deleted, and more when some were repeated."""
    progress: SweepProgress
    created_at: datetime
    finished_at: datetime | None
    """When the last experiment ended; null until then, and when all were deleted."""
