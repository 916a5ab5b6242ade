"""Which model answers: by experiment, or by an alias."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.domain.experiment import DATASETS, Status
from service.errors import (
    AliasNotFound,
    ExperimentNotFinished,
    ExperimentNotFound,
    ModelNotFound,
    ReservedAlias,
)
from service.store.session import insert_if_absent
from service.store.tables import AliasRow, ExperimentRow, database_now

__all__ = [
    "BEST",
    "Alias",
    "ServableModel",
    "aliases",
    "best",
    "delete_alias",
    "find_alias",
    "resolve_alias",
    "resolve_experiment",
    "set_alias",
]

BEST = "best"


@dataclass(frozen=True, kw_only=True)
class ServableModel:
    """What is needed to answer from a model."""

    experiment_id: str
    dataset: str
    onnx_sha256: str


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A name of a model."""

    name: str
    experiment_id: str
    dataset: str
    test_accuracy: float
    computed: bool
    """Whether the alias moves by itself."""
    updated_at: datetime | None
    """When it was last set; null for a computed one."""


def computed_aliases() -> dict[str, str]:
    """The names that move by themselves, and their datasets: `best` is MNIST's, `best-NAME` another's."""
    first, *others = DATASETS
    return {BEST: first} | {f"{BEST}-{dataset}": dataset for dataset in others}


def resolve_alias(session: Session, name: str) -> ServableModel:
    """The model that an alias names now.

    Raises:
        ModelNotFound: it is computed and nothing has succeeded yet.
        AliasNotFound: there is no such alias.
    """
    dataset = computed_aliases().get(name)
    if dataset is not None:
        row = _best(session, dataset)
        if row is None:
            raise ModelNotFound(
                f"there is no model yet: POST /experiments with "
                f'{{"activation": "relu", "depth": 1, "dataset": "{dataset}"}} and wait until it has succeeded'
            )
        return _servable(row)
    row = session.scalar(
        select(ExperimentRow).join(AliasRow, AliasRow.experiment_id == ExperimentRow.id).where(AliasRow.name == name)
    )
    if row is None:
        raise _no_alias(name)
    return _servable(row)


def resolve_experiment(session: Session, experiment_id: str) -> ServableModel:
    """The model of an experiment.

    Raises:
        ExperimentNotFound: there is no such experiment.
        ModelNotFound: it has no model.
    """
    return _servable(_succeeded(session, experiment_id))


def aliases(session: Session) -> list[Alias]:
    """Every alias, the computed ones first."""
    found = []
    for name, dataset in computed_aliases().items():
        row = _best(session, dataset)
        if row is not None:
            found.append(_alias(name, row, computed=True, updated_at=None))
    rows = session.execute(
        select(AliasRow, ExperimentRow)
        .join(ExperimentRow, AliasRow.experiment_id == ExperimentRow.id)
        .order_by(AliasRow.name)
    )
    found += [_alias(alias.name, row, computed=False, updated_at=alias.updated_at) for alias, row in rows]
    return found


def best(session: Session) -> list[str]:
    """The experiments that the computed aliases name now."""
    rows = [_best(session, dataset) for dataset in computed_aliases().values()]
    return [row.id for row in rows if row is not None]


def find_alias(session: Session, name: str) -> Alias:
    """One alias.

    Raises:
        AliasNotFound: there is none of this name, or it is computed and nothing has succeeded yet.
    """
    found = next((alias for alias in aliases(session) if alias.name == name), None)
    if found is None:
        raise _no_alias(name)
    return found


def set_alias(session: Session, name: str, experiment_id: str) -> tuple[Alias, bool]:
    """Make an alias or move it, atomically. Returns it and whether it is new.

    Raises:
        ReservedAlias: the alias is computed, or looks like the id of an experiment.
        ExperimentNotFound: there is no such experiment.
        ModelNotFound: the experiment ended without a model.
        ExperimentNotFinished: the experiment has not ended.
    """
    _refuse_computed(name)
    _refuse_id(name)
    row = _succeeded(session, experiment_id, lock=True)
    created = insert_if_absent(session, AliasRow, name=name, experiment_id=row.id, updated_at=database_now())
    if not created:
        values = {"experiment_id": row.id, "updated_at": database_now()}
        session.execute(update(AliasRow).where(AliasRow.name == name).values(values))
    alias = session.get_one(AliasRow, name, populate_existing=True)
    return _alias(name, row, computed=False, updated_at=alias.updated_at), created


def delete_alias(session: Session, name: str) -> None:
    """Forget an alias; its model stays.

    Raises:
        ReservedAlias: the alias is computed.
        AliasNotFound: there is no such alias.
    """
    _refuse_computed(name)
    deleted = session.execute(delete(AliasRow).where(AliasRow.name == name).returning(AliasRow.name)).first()
    if deleted is None:
        raise _no_alias(name)


def _best(session: Session, dataset: str) -> ExperimentRow | None:
    return session.scalar(
        select(ExperimentRow)
        .where(ExperimentRow.dataset == dataset, ExperimentRow.test_accuracy.is_not(None))
        .order_by(ExperimentRow.test_accuracy.desc(), ExperimentRow.id)
        .limit(1)
    )


def _succeeded(session: Session, experiment_id: str, *, lock: bool = False) -> ExperimentRow:
    statement = select(ExperimentRow).where(ExperimentRow.id == experiment_id)
    row = session.scalar(statement.with_for_update() if lock else statement)
    if row is None:
        raise ExperimentNotFound(f"there is no experiment {experiment_id}: GET /experiments lists them")
    status = Status(row.status)
    if not status.terminal:
        raise ExperimentNotFinished(f"the experiment is {status}: it has a model once it has succeeded")
    if status is not Status.SUCCEEDED:
        raise ModelNotFound(f"the experiment has {status}, so it has no model" if status is Status.FAILED
                            else "the experiment was cancelled, so it has no model")  # fmt: skip
    return row


def _servable(row: ExperimentRow) -> ServableModel:
    assert row.onnx_sha256 is not None  # noqa: S101 - a succeeded row has its files
    return ServableModel(experiment_id=row.id, dataset=row.dataset, onnx_sha256=row.onnx_sha256)


def _alias(name: str, row: ExperimentRow, *, computed: bool, updated_at: datetime | None) -> Alias:
    assert row.test_accuracy is not None  # noqa: S101 - a succeeded row has its result
    return Alias(
        name=name,
        experiment_id=row.id,
        dataset=row.dataset,
        test_accuracy=row.test_accuracy,
        computed=computed,
        updated_at=updated_at,
    )


def _refuse_computed(name: str) -> None:
    if name == BEST or name.startswith(f"{BEST}-"):
        raise ReservedAlias(f"the alias {name} moves by itself: choose another name")


def _refuse_id(name: str) -> None:
    try:
        UUID(name)
    except ValueError:
        return
    raise ReservedAlias("an experiment's id always means its own model: choose another name")


def _no_alias(name: str) -> AliasNotFound:
    return AliasNotFound(f"there is no alias {name}: GET /models lists them")
