"""The queue and an experiment's states against a model in plain Python, on SQLite and PostgreSQL.

Hypothesis draws sequences of what clients, workers and the clock may do. The model says what each step answers and
what is stored after it. Workers keep their claims when these are over, so most sequences have stale writers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, event, select, update
from sqlalchemy.orm import Session

from service.domain.experiment import TRANSITIONS, Experiment, Spec, Status
from service.errors import ExperimentAlreadyFinished, ExperimentNotFinished, ExperimentNotFound, LeaseLost
from service.store import experiments, queue
from service.store.queue import Claim
from service.store.session import Database
from service.store.tables import Base, EpochRow, EventRow, ExperimentRow, database_now
from tests.integration.test_queue import FILES, RELU, TRAINED, WRITES, epoch

SETTINGS = settings(
    max_examples=11,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
SEEDS = 6
"""Hypothesis makes most examples of one run by changing a few others: several short runs see more than a long one."""
OWNERS = st.sampled_from(["one", "two"])
PRIORITIES = st.integers(-1, 1)
CHECKPOINTS = st.sampled_from(["d" * 64, "e" * 64])
MAX_ATTEMPTS = 2  # few, so that they are often used up
LEASE_SECONDS = 3600  # no lease ends by itself, however slow the machine is
CROWD = 4
"""Clients add no more than this many: with fewer experiments, more happens to each."""

Row = Any
Event = tuple[object, ...]
T = TypeVar("T")


@dataclass
class State:
    """One experiment, as the model expects it or as the tables hold it."""

    priority: int
    retry_of: str | None = None
    status: Status = Status.QUEUED
    attempt: int = 0
    drains: int = 0
    owner: str | None = None
    expired: bool = False
    epoch: int = 0
    checkpoint: tuple[int, str] | None = None
    seconds: float = 0.0
    error: str | None = None
    events: list[Event] = field(default_factory=lambda: [("status", "queued", 0, None)])

    @property
    def owned(self) -> bool:
        return self.owner is not None

    @property
    def ended(self) -> bool:
        return self.status in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}

    @property
    def checkpoint_sha256(self) -> str | None:
        return self.checkpoint[1] if self.checkpoint else None

    def become(self, status: Status, reason: str | None = None) -> None:
        self.status = status
        if status not in {Status.RUNNING, Status.CANCELLING}:
            self.owner, self.expired = None, False
        self.events.append(("status", str(status), self.attempt, reason))
        if self.ended:
            seconds = self.seconds if status is Status.SUCCEEDED else None
            self.events.append(("done", str(status), seconds, self.error))

    def start(self, owner: str) -> None:
        self.attempt += 1
        self.owner = owner
        self.become(Status.RUNNING)

    def record_epoch(self, number: int) -> None:
        self.seconds += 0.25
        if number > self.epoch:
            self.epoch = number
            self.events.append(("epoch", number))

    def record_checkpoint(self, number: int, sha256: str) -> str | None:
        replaced = self.checkpoint_sha256
        self.checkpoint = (number, sha256)
        return replaced if replaced != sha256 else None

    def cancelled(self) -> bool:
        """A cancel that came first wins over every other end of an attempt."""
        if self.status is not Status.CANCELLING:
            return False
        self.become(Status.CANCELLED)
        return True

    def finish(self) -> tuple[Status, str | None]:
        last, self.checkpoint = self.checkpoint_sha256, None
        if not self.cancelled():
            self.seconds += TRAINED.evaluation_seconds
            self.become(Status.SUCCEEDED)
        return self.status, last

    def fail(self) -> Status:
        if not self.cancelled():
            self.error = "internal"
            self.become(Status.FAILED)
        return self.status

    def requeue(self, reason: str) -> Status:
        if not self.cancelled():
            exhausted = self.attempt - self.drains >= MAX_ATTEMPTS
            self.error = "attempts_exhausted" if exhausted else None
            self.become(Status.FAILED if exhausted else Status.QUEUED, None if exhausted else reason)
        return self.status

    def give_back(self) -> Status:
        if not self.cancelled():
            self.drains += 1
            self.become(Status.QUEUED, "drained")
        return self.status

    def cancel(self) -> Status:
        if self.status is Status.QUEUED:
            self.become(Status.CANCELLED)
        elif self.status is Status.RUNNING:
            self.become(Status.CANCELLING)
        return self.status


EXPIRED = (ExperimentRow.lease_expires_at < database_now()).label("expired")
EVERYTHING = [
    select(*ExperimentRow.__table__.columns, EXPIRED).order_by(ExperimentRow.id),
    select(*EpochRow.__table__.columns).order_by(EpochRow.epoch),
    select(*EventRow.__table__.columns).order_by(EventRow.sequence),
]

ENDS: dict[str, tuple[Callable[[Session, Claim], object], Callable[[State], object]]] = {
    "finish": (WRITES["finish"], State.finish),
    "fail": (WRITES["fail"], State.fail),
    "requeue": (
        lambda session, mine: queue.requeue(session, mine, reason="died", max_attempts=MAX_ATTEMPTS),
        lambda one: one.requeue("died"),
    ),
    "give back": (WRITES["give back"], State.give_back),
}
"""The writes that end an attempt, and what they do to the model."""


def spec(priority: int) -> Spec:
    return RELU.model_copy(update={"priority": priority})


def short(kind: str, data: dict[str, Any]) -> Event:
    """What the model predicts of an event."""
    if kind == "status":
        return (kind, data["status"], data["attempt"], data.get("reason"))
    if kind == "epoch":
        return (kind, data["epoch"])
    result, error = data["result"], data["error"]
    return (kind, data["status"], result and result["computation_seconds"], error and error["code"])


def everything(session: Session) -> list[list[Row]]:
    """The rows of every experiment, of its epochs and of its events, in order."""
    return [list(session.execute(statement)) for statement in EVERYTHING]


def stored(row: Row, events: list[Row]) -> State:
    return State(
        priority=row.spec["priority"],
        retry_of=row.retry_of,
        status=Status(row.status),
        attempt=row.attempt,
        drains=row.drains,
        owner=row.owner,
        expired=bool(row.expired),
        epoch=row.epoch,
        checkpoint=None if row.checkpoint_sha256 is None else (row.checkpoint_epoch, row.checkpoint_sha256),
        seconds=row.computation_seconds,
        error=row.error_code,
        events=[short(one.type, one.data) for one in events],
    )


def assert_sound(row: Row, epochs: list[Row], events: list[Row]) -> None:
    """What holds of every experiment, whatever has happened to it: the model has no part in this."""
    assert [one.sequence for one in events] == list(range(1, row.last_event + 1))
    assert [one.epoch for one in epochs] == list(range(1, row.epoch + 1))
    statuses = [Status(one.data["status"]) for one in events if one.type == "status"]
    assert statuses[0] is Status.QUEUED
    assert statuses[-1] == row.status
    for before, after in pairwise(statuses):
        assert after in TRANSITIONS[before], (before, after)
    terminal = Status(row.status).terminal
    assert [one.sequence for one in events if one.type == "done"] == ([row.last_event] if terminal else [])
    assert (row.started_at is not None) == (row.attempt > 0)
    assert (row.finished_at is not None) == terminal
    assert (row.owner is not None) == (row.lease_expires_at is not None) == (row.status in queue.OWNED)
    assert (row.weights_sha256 is not None) == (row.status == Status.SUCCEEDED)


class Machine(RuleBasedStateMachine):
    """What may be done to the store. `model` is in the order of creation."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.model: dict[str, State] = {}
        self.ids: list[str] = []  # of deleted experiments too
        self.claims: list[Claim] = []  # and those that are over
        self.tables: list[list[Row]] = []
        with database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):  # every example begins with nothing
                session.execute(delete(table))

    @initialize(priorities=st.lists(PRIORITIES, min_size=2, max_size=CROWD), owner=OWNERS)
    def begin(self, priorities: list[int], owner: str) -> None:
        for priority in priorities:
            self.add(priority)
        self.claim(owner, False)

    @rule(step=st.deferred(lambda: STEPS))
    def do(self, step: tuple[Any, ...]) -> None:
        """All steps are one rule: of many rules Hypothesis leaves most out of an example, and little would happen."""
        act, *arguments = step
        act(self, *arguments)

    # Clients

    def add(self, priority: int) -> None:
        if len(self.model) < CROWD:
            self.created(self.write(lambda session: experiments.create(session, spec(priority))), State(priority))

    def retry(self, first: str) -> None:
        def act(session: Session) -> Experiment:
            return experiments.retry(session, first)

        if not self.exists(first, act):
            return
        if not self.model[first].ended:
            self.refused(ExperimentNotFinished, act)
        elif len(self.model) < CROWD:
            self.created(self.write(act), State(self.model[first].priority, retry_of=first))

    def cancel(self, experiment_id: str) -> None:
        def act(session: Session) -> Experiment:
            return experiments.cancel(session, experiment_id)

        if not self.exists(experiment_id, act):
            return
        if self.model[experiment_id].status in {Status.SUCCEEDED, Status.FAILED}:
            self.refused(ExperimentAlreadyFinished, act)
        else:
            assert self.write(act).status == self.model[experiment_id].cancel()

    def delete(self, experiment_id: str) -> None:
        def act(session: Session) -> list[str]:
            return experiments.delete_finished(session, experiment_id)

        if not self.exists(experiment_id, act):
            return
        if not self.model[experiment_id].ended:
            self.refused(ExperimentNotFinished, act)
            return
        gone = self.model.pop(experiment_id)
        files = [FILES.keras_sha256, FILES.onnx_sha256] if gone.status is Status.SUCCEEDED else []
        assert self.write(act) == files + ([gone.checkpoint_sha256] if gone.checkpoint_sha256 else [])

    def read(self, experiment_id: str, after: int) -> None:
        if not self.exists(experiment_id, lambda session: experiments.get(session, experiment_id)):
            self.refused(ExperimentNotFound, lambda session: experiments.metrics(session, experiment_id))
            return
        one = self.model[experiment_id]
        with self.database.read() as session:
            found = experiments.get(session, experiment_id)
            metrics = experiments.metrics(session, experiment_id, after_epoch=after)
            events = experiments.events_after(session, experiment_id, after)
        assert (found.status, found.attempt, found.progress.epoch) == (one.status, one.attempt, one.epoch)
        assert (found.result is not None) == (found.model is not None) == (one.status is Status.SUCCEEDED)
        assert (found.error and found.error.code) == one.error
        assert (metrics.status, metrics.computation_seconds) == (one.status, one.seconds)
        assert metrics.epochs == tuple(epoch(number) for number in range(after + 1, one.epoch + 1))
        assert [short(one.type, one.data) for one in events] == one.events[after:]

    # Workers

    def claim(self, owner: str, all_of_them: bool) -> None:
        while self.claimed(owner) and all_of_them:
            pass

    def train(self, mine: Claim, again: int, checkpoint: str | None) -> None:
        """Two epochs: new ones, or some that resumed training repeats. Not every epoch has a checkpoint."""
        one = self.model.get(mine.experiment_id)
        first = max(1, one.epoch + 1 - again) if one else 1
        self.record(mine, first)
        self.record(mine, first + 1)
        if checkpoint is not None:
            self.work(
                mine,
                lambda session: queue.record_checkpoint(session, mine, epoch=first + 1, sha256=checkpoint),
                lambda one: one.record_checkpoint(first + 1, checkpoint),
            )

    def record(self, mine: Claim, number: int) -> None:
        self.work(
            mine,
            lambda session: queue.record_epoch(session, mine, epoch(number)),
            lambda one: one.record_epoch(number),
        )

    def end(self, mine: Claim, how: str) -> None:
        write, follow = ENDS[how]
        self.work(mine, lambda session: write(session, mine), follow)

    def write_for_another(self, mine: Claim, write: str) -> None:
        """The right attempt in the name of a worker that does not own it."""
        self.refused(LeaseLost, lambda session: WRITES[write](session, replace(mine, owner="nobody")))

    def heartbeat(self, mine: Claim, others: list[str]) -> None:
        owner, renewed = mine.owner, [mine.experiment_id, *others]
        with self.database.read() as session:
            assert queue.owned(session, owner=owner) == self.owned(owner, self.model)
        found = self.write(
            lambda session: queue.heartbeat(session, owner=owner, experiment_ids=renewed, lease_seconds=LEASE_SECONDS)
        )
        assert found == self.owned(owner, renewed)
        for experiment_id, _ in found:
            self.model[experiment_id].expired = False

    # The clock

    def expire(self, experiment_id: str, noticed: bool) -> None:
        """A lease runs out. Until somebody notices, the worker may still write, or renew it."""
        this = update(ExperimentRow).where(ExperimentRow.id == experiment_id, ExperimentRow.owner.is_not(None))
        self.write(lambda session: session.execute(this.values(lease_expires_at=database_now(-60))))
        one = self.model.get(experiment_id)
        if one is not None and one.owned:
            one.expired = True
        if noticed:
            late = [one for one in self.model.values() if one.expired]
            assert self.write(lambda session: queue.release_expired(session, max_attempts=MAX_ATTEMPTS)) == len(late)
            for one in late:
                one.requeue("lease_expired")

    # What holds after every step

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        with self.database.read() as session:
            self.tables = everything(session)
            has_work, has_expired = queue.has_work(session), queue.has_expired(session)
        rows, epochs, events = self.tables
        assert {one.experiment_id for one in epochs + events} <= set(self.model)  # nothing stays of a deleted one
        found = {}
        for row in rows:
            theirs = [one for one in events if one.experiment_id == row.id]
            assert_sound(row, [one for one in epochs if one.experiment_id == row.id], theirs)
            found[row.id] = stored(row, theirs)
        assert found == self.model
        assert list(found) == list(self.model)
        assert has_work == any(one.status is Status.QUEUED for one in self.model.values())
        assert has_expired == any(one.expired for one in self.model.values())

    # Steps' parts

    def write(self, act: Callable[[Session], T]) -> T:
        with self.database.write() as session:
            return act(session)

    def refused(self, error: type[Exception], act: Callable[[Session], object]) -> None:
        """It fails, and changes nothing: not even a column that the model does not know."""
        with pytest.raises(error):
            self.write(act)
        with self.database.read() as session:
            assert everything(session) == self.tables

    def exists(self, experiment_id: str, act: Callable[[Session], object]) -> bool:
        """Whether there is such an experiment; where not, `act` must say so."""
        if experiment_id in self.model:
            return True
        self.refused(ExperimentNotFound, act)
        return False

    def work(self, mine: Claim, act: Callable[[Session], T], follow: Callable[[State], T]) -> None:
        """A worker's write: it answers as the model does while the claim holds, and is refused afterwards."""
        one = self.model.get(mine.experiment_id)
        if one is None or not self.holds(mine):
            self.refused(LeaseLost, act)
        else:
            assert self.write(act) == follow(one)

    def holds(self, claim: Claim) -> bool:
        one = self.model.get(claim.experiment_id)
        return one is not None and (one.attempt, one.owner) == (claim.attempt, claim.owner)

    def created(self, new: Experiment, state: State) -> None:
        assert (new.status, new.attempt, new.retry_of) == (Status.QUEUED, 0, state.retry_of)
        assert new.spec == spec(state.priority)
        self.model[new.id] = state
        self.ids.append(new.id)

    def claimed(self, owner: str) -> Claim | None:
        """Claim what the model says is next: of highest priority, then the oldest."""
        found = self.write(lambda session: queue.claim(session, owner=owner, lease_seconds=LEASE_SECONDS))
        waiting = [name for name, one in self.model.items() if one.status is Status.QUEUED]
        if not waiting:
            assert found is None
            return None
        first = max(waiting, key=lambda name: self.model[name].priority)  # the first of equals
        one = self.model[first]
        one.start(owner)
        assert found is not None
        assert found.queued_at is not None
        assert replace(found, queued_at=None) == Claim(
            experiment_id=first,
            attempt=one.attempt,
            owner=owner,
            spec=spec(one.priority),
            checkpoint_sha256=one.checkpoint_sha256,
        )
        self.claims.append(found)
        return found

    def owned(self, owner: str, among: Iterable[str]) -> dict[tuple[str, int], Status]:
        mine = {name: self.model[name] for name in among if name in self.model and self.model[name].owner == owner}
        return {(name, one.attempt): one.status for name, one in mine.items()}


def any_claim(machine: Machine) -> st.SearchStrategy[Claim]:
    """A claim that holds, as often as any: most are over, and a worker with these alone would get nowhere."""
    holding = [claim for claim in machine.claims if machine.holds(claim)]
    return st.sampled_from(holding or machine.claims) | st.sampled_from(machine.claims)


IDS = st.runner().flatmap(lambda machine: st.sampled_from(machine.ids))
CLAIMS = st.runner().flatmap(any_claim)
STARTED = CLAIMS.map(lambda claim: claim.experiment_id)
STEPS: st.SearchStrategy[tuple[Any, ...]] = st.sampled_from(
    [
        *[(Machine.train, CLAIMS, st.integers(0, 2), CHECKPOINTS | st.none())] * 3,
        *[(Machine.end, CLAIMS, st.sampled_from(["requeue", "give back", "requeue", "give back", "finish", "fail"]))]
        * 4,
        *[(Machine.claim, OWNERS, st.booleans())] * 4,
        *[(Machine.expire, STARTED, st.booleans())] * 3,
        *[(Machine.heartbeat, CLAIMS, st.lists(IDS, max_size=2))] * 2,
        *[(Machine.cancel, IDS | STARTED)] * 2,
        (Machine.write_for_another, CLAIMS, st.sampled_from(sorted(WRITES))),
        *[(Machine.retry, IDS)] * 2,
        (Machine.delete, IDS),
        (Machine.read, IDS, st.integers(0, 5)),
        (Machine.add, PRIORITIES),
    ]
).flatmap(lambda step: st.tuples(st.just(step[0]), *step[1:]))
"""Weighted so that experiments come far. Hypothesis prefers what comes first."""


@pytest.mark.slow
@pytest.mark.timeout(900)  # Hypothesis takes up to five minutes to shorten what failed
def test_the_store_does_what_the_model_does(database: Database) -> None:
    if database.is_sqlite:  # no example cuts the power
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    for number in range(SEEDS):
        machine = seed(number)(lambda: Machine(database))
        run_state_machine_as_test(machine, settings=SETTINGS)  # type: ignore[arg-type]  # a factory will do
