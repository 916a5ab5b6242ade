"""Old experiments go: in small transactions, with pauses, so that workers and the API hardly notice."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, exists, func, select, tuple_
from sqlalchemy.orm import Session

from service.domain.experiment import Status
from service.store import models
from service.store.blobs import Blobs
from service.store.session import Database
from service.store.tables import AliasRow, EventRow, ExperimentRow, SweepRow, database_now

__all__ = ["ENDED", "Policy", "Pruned", "prune", "prune_events"]

ENDED = tuple(status for status in Status if status.terminal)
PART = 100
"""Experiments in a transaction: some 2,500 rows, tens of milliseconds."""

Place = tuple[datetime, str]
Pause = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Which experiments go."""

    older_than: timedelta
    """Since their end, by the database's clock."""
    statuses: Collection[Status] = ENDED
    """How they ended."""
    keep_models: bool = False
    """Whether those that have a model stay."""

    def __post_init__(self) -> None:
        """Refuse what could name an experiment that has not ended."""
        if not all(status.terminal for status in self.statuses) or self.older_than < timedelta():
            raise ValueError("only experiments that have ended can go, and no sooner than they ended")


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What went, or would go."""

    experiments: int = 0
    sweeps: int = 0
    events: int = 0
    """Counted where only events go."""
    files: int = 0
    """Of models and checkpoints."""

    def __add__(self, other: "Pruned") -> "Pruned":
        """Both together."""
        return Pruned(
            experiments=self.experiments + other.experiments,
            sweeps=self.sweeps + other.sweeps,
            events=self.events + other.events,
            files=self.files + other.files,
        )


def prune(
    database: Database, blobs: Blobs, policy: Policy, *, dry_run: bool = False, pause: Pause = time.sleep
) -> Iterator[Pruned]:
    """Delete ended experiments of that age with all that belongs to them, and yield what each transaction deleted.

    A sweep goes as one, when all its experiments may go: so no comparison changes by it. What an alias names stays,
    `best` too; so does the newest experiment, by which `audit` knows what this database has seen. Files go after
    the rows that name them: who stops in between leaves files that `audit` finds. After each transaction comes a pause
    as long as it took.

    Raises:
        Unavailable: the database cannot be reached, or is locked by somebody else.
    """
    cutoff = _cutoff(database, policy.older_than)
    pruning = _Pruning(database=database, blobs=blobs, policy=policy, cutoff=cutoff, dry_run=dry_run, pause=pause)
    yield from pruning.sweeps()
    yield from pruning.singles()


def prune_events(
    database: Database, policy: Policy, *, dry_run: bool = False, pause: Pause = time.sleep
) -> Iterator[Pruned]:
    """Delete the events of ended experiments of that age, and yield what each transaction deleted. Experiments,
    metrics and models stay, and so does each experiment's last event, `done`, for those who follow it.

    Raises:
        Unavailable: the database cannot be reached, or is locked by somebody else.
    """
    cutoff = _cutoff(database, policy.older_than)
    some = exists().where(EventRow.experiment_id == ExperimentRow.id, EventRow.type != "done")
    for ids in _walk(database, policy.statuses, cutoff, lambda _: _old(policy, cutoff).where(some)):
        gone = (EventRow.experiment_id.in_(ids), EventRow.type != "done")
        if dry_run:
            with database.read() as session:
                count = session.scalar(select(func.count()).select_from(EventRow).where(*gone)) or 0
        else:
            begun = time.monotonic()
            with database.write() as session:
                count = len(session.execute(delete(EventRow).where(*gone).returning(EventRow.sequence)).all())
            pause(time.monotonic() - begun)
        yield Pruned(experiments=len(ids), events=count)


@dataclass(frozen=True, kw_only=True)
class _Pruning:
    """One run: what it works with."""

    database: Database
    blobs: Blobs
    policy: Policy
    cutoff: datetime
    dry_run: bool
    pause: Pause

    def singles(self) -> Iterator[Pruned]:
        """What is in no sweep."""
        alone = ExperimentRow.sweep_id.is_(None)
        for ids in _walk(self.database, self.policy.statuses, self.cutoff, lambda one: self._going(one).where(alone)):
            yield self._delete(ids)

    def sweeps(self) -> Iterator[Pruned]:
        """Sweep by sweep, the oldest first."""
        last = ""
        while True:
            with self.database.read() as session:
                older = (SweepRow.id > last, SweepRow.created_at < self.cutoff)
                found = session.scalar(select(SweepRow.id).where(*older).order_by(SweepRow.id).limit(1))
                if found is None:
                    return
                ids = self._whole(session, found)
            last = found
            if ids is not None:
                yield from self._sweep(found, ids)

    def _going(self, session: Session) -> Select[str]:
        kept = {session.scalar(select(func.max(ExperimentRow.id))), *models.best(session)} - {None}
        named = exists().where(AliasRow.experiment_id == ExperimentRow.id)
        return _old(self.policy, self.cutoff).where(ExperimentRow.id.not_in(kept), ~named)

    def _whole(self, session: Session, sweep_id: str) -> list[str] | None:
        """All of a sweep's experiments, or None when one of them stays."""
        of_sweep = ExperimentRow.sweep_id == sweep_id
        members = list(session.scalars(select(ExperimentRow.id).where(of_sweep).order_by(ExperimentRow.id)))
        goes = set(session.scalars(self._going(session).where(of_sweep)))
        return members if len(goes) == len(members) else None

    def _sweep(self, sweep_id: str, ids: list[str]) -> Iterator[Pruned]:
        for begin in range(0, len(ids), PART):
            yield self._delete(ids[begin : begin + PART])
        if self.dry_run:
            yield Pruned(sweeps=1)
            return
        with self.database.write() as session:
            session.execute(select(SweepRow.id).where(SweepRow.id == sweep_id).with_for_update())
            # One that was repeated meanwhile has a new experiment, and stays.
            left = exists().where(ExperimentRow.sweep_id == sweep_id)
            gone = delete(SweepRow).where(SweepRow.id == sweep_id, ~left).returning(SweepRow.id)
            deleted = len(session.execute(gone).all())
        yield Pruned(sweeps=deleted)

    def _delete(self, ids: Collection[str]) -> Pruned:
        begun = time.monotonic()
        if self.dry_run:
            with self.database.read() as session:
                files = _files(session, select(ExperimentRow.id).where(ExperimentRow.id.in_(ids)))
            return Pruned(experiments=len(ids), files=sum(map(len, files.values())))
        with self.database.write() as session:
            ended = ExperimentRow.status.in_([status.value for status in ENDED])
            locked = select(ExperimentRow.id).where(ExperimentRow.id.in_(ids), ended).order_by(ExperimentRow.id)
            files = _files(session, locked.with_for_update(skip_locked=True))
            # Looked for behind the lock: whoever makes an alias takes it first.
            for named in session.scalars(select(AliasRow.experiment_id).where(AliasRow.experiment_id.in_(files))):
                files.pop(named, None)
            session.execute(delete(ExperimentRow).where(ExperimentRow.id.in_(files)))
        for experiment_id, found in files.items():
            for sha256 in found:
                self.blobs.discard(experiment_id, sha256)
        self.pause(time.monotonic() - begun)
        return Pruned(experiments=len(files), files=sum(map(len, files.values())))


def _cutoff(database: Database, older_than: timedelta) -> datetime:
    with database.read() as session:
        return session.scalars(select(database_now(-older_than.total_seconds()))).one()


def _walk(
    database: Database, statuses: Collection[Status], cutoff: datetime, which: Callable[[Session], Select[str]]
) -> Iterator[list[str]]:
    """The ids of what goes, part by part, the oldest first. They are read without a lock, for much may be passed
    over: whoever deletes looks again.
    """
    for status in statuses:
        place: Place | None = None
        while True:
            # Made before it ended: so the index by status and creation leads to the old ones.
            behind = [] if place is None else [tuple_(ExperimentRow.created_at, ExperimentRow.id) > tuple_(*place)]
            with database.read() as session:
                rows = session.execute(
                    which(session)
                    .add_columns(ExperimentRow.created_at)
                    .where(ExperimentRow.status == status.value, ExperimentRow.created_at < cutoff, *behind)
                    .order_by(ExperimentRow.created_at, ExperimentRow.id)
                    .limit(PART)
                ).all()
            if not rows:
                break
            place = rows[-1].created_at, rows[-1].id
            yield [row.id for row in rows]


def _old(policy: Policy, cutoff: datetime) -> Select[str]:
    statement = select(ExperimentRow.id).where(
        ExperimentRow.status.in_([status.value for status in policy.statuses]), ExperimentRow.finished_at < cutoff
    )
    return statement.where(ExperimentRow.weights_sha256.is_(None)) if policy.keep_models else statement


def _files(session: Session, which: Select[str]) -> dict[str, list[str]]:
    """The files of experiments, by their ids."""
    rows = session.execute(
        which.add_columns(ExperimentRow.keras_sha256, ExperimentRow.onnx_sha256, ExperimentRow.checkpoint_sha256)
    )
    return {identity: [sha256 for sha256 in files if sha256 is not None] for identity, *files in rows}
