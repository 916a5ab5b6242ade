"""Sweeps in the store, on SQLite and PostgreSQL: whole or not at all, and legal whatever workers do meanwhile."""

import contextlib
import threading
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from service.domain.experiment import TRANSITIONS, Experiment, Status
from service.domain.sweep import Sweep, SweepSpec, SweepStatus
from service.errors import (
    ExperimentHasAlias,
    ExperimentNotFound,
    InvalidCursor,
    LeaseLost,
    QueueFull,
    SweepAlreadyFinished,
    SweepNotFinished,
    SweepNotFound,
)
from service.store import experiments, listing, models, queue, sweeps
from service.store.listing import Filter
from service.store.queue import Claim
from service.store.session import Database
from service.store.tables import Base, EventRow, ExperimentRow, TagRow
from service.store.transitions import move, move_all

NOBODY = "019304a2-7b1c-7d3e-8f00-0123456789ab"
GRID = {"activation": ["sigmoid", "relu"], "depth": [1, 2]}


def add(database: Database, **values: Any) -> Sweep:
    spec = SweepSpec.model_validate({"grid": GRID} | values)
    with database.write() as session:
        return sweeps.create(session, spec)


def read(database: Database, sweep_id: str) -> Sweep:
    with database.read() as session:
        return sweeps.get(session, sweep_id)


def cancel(database: Database, sweep_id: str) -> Sweep:
    with database.write() as session:
        return sweeps.cancel(session, sweep_id)


def delete(database: Database, sweep_id: str) -> list[tuple[str, str]]:
    with database.write() as session:
        return sweeps.delete_finished(session, sweep_id)


def members(database: Database, sweep_id: str) -> list[Experiment]:
    wanted = Filter(sweep_id=sweep_id)
    with database.read() as session:
        return listing.page(session, wanted, sort="created_at", cursor=None, limit=100_000).experiments


def claim(database: Database, owner: str = "one") -> Claim | None:
    with database.write() as session:
        return queue.claim(session, owner=owner, lease_seconds=60)


def claimed(database: Database) -> Claim:
    found = claim(database)
    assert found is not None
    return found


def end(database: Database, taken: Claim, status: Status, **values: Any) -> None:
    with database.write() as session:
        assert move(session, status, ExperimentRow.id == taken.experiment_id, **values) is not None


def succeed(database: Database, taken: Claim) -> None:
    files = {"keras_sha256": "a" * 64, "keras_bytes": 1, "onnx_sha256": "b" * 64, "onnx_bytes": 2}
    result = {"test_loss": 0.25, "test_accuracy": 0.93, "parameters": 9, "weights_sha256": "c" * 64}
    end(database, taken, Status.SUCCEEDED, **files, **result)


def events(database: Database, experiment_id: str) -> list[tuple[int, str, object]]:
    with database.read() as session:
        found = experiments.events_after(session, experiment_id, 0)
    return [(one.sequence, one.type, one.data["status"]) for one in found]


def assert_legal(database: Database, sweep_id: str) -> None:
    """Every experiment's events: without gaps, in an order that is allowed, and with one end."""
    with database.read() as session:
        rows = session.scalars(select(ExperimentRow).where(ExperimentRow.sweep_id == sweep_id)).all()
        for row in rows:
            told = experiments.events_after(session, row.id, 0)
            assert [one.sequence for one in told] == list(range(1, row.last_event + 1))
            statuses = [Status(one.data["status"]) for one in told if one.type == "status"]
            assert (statuses[0], statuses[-1]) == (Status.QUEUED, row.status)
            assert all(after in TRANSITIONS[before] for before, after in pairwise(statuses)), statuses
            terminal = Status(row.status).terminal
            assert [one.sequence for one in told if one.type == "done"] == [row.last_event] * terminal
            assert (row.finished_at is not None) == terminal
            assert (row.owner is not None) == (row.lease_expires_at is not None) == (row.status in queue.OWNED)


def test_a_new_sweep_is_queued_whole_in_the_order_of_its_arms(database: Database) -> None:
    sweep = add(database, base={"priority": 3, "tags": ["a"]}, seeds=3, name="all", tags=["b"])
    assert (sweep.name, sweep.size, sweep.status, sweep.finished_at) == ("all", 12, SweepStatus.QUEUED, None)
    assert (sweep.progress.queued, sweep.progress.done, sweep.progress.total) == (12, 0, 12)
    assert read(database, sweep.id) == sweep
    found = members(database, sweep.id)
    assert [one.spec for one in found] == list(sweep.spec.specs())
    assert {one.created_at for one in found} == {found[0].created_at}
    for one in found:
        assert (one.sweep_id, one.status, one.attempt) == (sweep.id, Status.QUEUED, 0)
        assert events(database, one.id) == [(1, "status", "queued")]
    with database.read() as session:
        tagged = listing.page(session, Filter(tag=["a", "b"]), sort="created_at", cursor=None, limit=200)
    assert tagged.experiments == found
    assert [claimed(database).experiment_id for _ in found] == [one.id for one in found]


def test_a_single_experiment_that_was_queued_before_goes_first(database: Database) -> None:
    spec = next(SweepSpec.model_validate({"grid": GRID}).specs())
    with database.write() as session:
        before = experiments.create(session, spec)
    sweep = add(database)
    with database.write() as session:
        after = experiments.create(session, spec)
    taken = [claimed(database).experiment_id for _ in range(6)]
    assert taken == [before.id, *(one.id for one in members(database, sweep.id)), after.id]
    assert (before.sweep_id, after.sweep_id) == (None, None)


def test_a_sweep_that_fails_inside_leaves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("after everything was written")

    monkeypatch.setattr("service.store.sweeps.get", fail)
    with pytest.raises(RuntimeError):
        add(database, tags=["a"])
    with database.read() as session:
        for table in Base.metadata.sorted_tables:
            assert session.scalar(select(func.count()).select_from(table)) == 0, table


def test_a_queue_without_room_for_all_takes_none(database: Database) -> None:
    spec = SweepSpec.model_validate({"grid": GRID})
    with pytest.raises(QueueFull, match="no room for 4 more"), database.write() as session:
        sweeps.create(session, spec, max_queued=3)
    with database.write() as session:
        first = sweeps.create(session, spec, max_queued=4)
    with pytest.raises(QueueFull, match="4 experiments wait already"), database.write() as session:
        sweeps.create(session, spec, max_queued=7)
    claimed(database)
    with database.write() as session:
        sweeps.create(session, spec, max_queued=7)
    assert read(database, first.id).progress.queued == 3


def test_the_statements_do_not_grow_with_the_sweep(database: Database) -> None:
    told: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    counts = []
    for seeds in (2, 20):
        sweep = add(database, seeds=seeds, tags=["a"])
        taken = claimed(database)
        marks = [len(told)]
        for act in (read, members, cancel):
            act(database, sweep.id)
            marks.append(len(told))
        end(database, taken, Status.CANCELLED)
        delete(database, sweep.id)
        counts.append([len(told), *marks])
        told.clear()
    assert counts[0] == counts[1]


def test_the_status_and_the_end_follow_the_experiments(database: Database) -> None:
    sweep = add(database)
    first = claimed(database)
    assert read(database, sweep.id).status is SweepStatus.RUNNING
    succeed(database, first)
    assert read(database, sweep.id).status is SweepStatus.RUNNING
    end(database, claimed(database), Status.FAILED, error_code="internal")
    for _ in range(2):
        assert read(database, sweep.id).finished_at is None
        succeed(database, claimed(database))
    ended = read(database, sweep.id)
    assert (ended.status, ended.progress.succeeded, ended.progress.failed) == (SweepStatus.FINISHED, 3, 1)
    assert ended.finished_at == max(one.finished_at for one in members(database, sweep.id) if one.finished_at)
    with pytest.raises(SweepAlreadyFinished):
        cancel(database, sweep.id)


def test_a_cancel_ends_the_queued_at_once_and_the_running_when_they_have_stopped(database: Database) -> None:
    other = add(database)
    with database.write() as session:
        sweeps.cancel(session, other.id)
    sweep, bystander = add(database), add(database)
    first, second = claimed(database), claimed(database)
    succeed(database, first)
    cancelled = cancel(database, sweep.id)
    assert cancelled.status is SweepStatus.CANCELLING
    assert (cancelled.progress.succeeded, cancelled.progress.cancelling, cancelled.progress.cancelled) == (1, 1, 2)
    assert cancel(database, sweep.id) == cancelled
    assert [events(database, one.id)[1:] for one in members(database, sweep.id)[2:]] == [
        [(2, "status", "cancelled"), (3, "done", "cancelled")]
    ] * 2
    with database.write() as session:
        assert queue.give_back(session, second) is Status.CANCELLED
    ended = read(database, sweep.id)
    assert (ended.status, ended.progress.cancelled) == (SweepStatus.FINISHED, 3)
    assert ended.finished_at is not None
    assert cancel(database, sweep.id) == ended
    assert_legal(database, sweep.id)
    assert read(database, bystander.id).progress.queued == 4


def test_a_cancel_keeps_what_an_experiment_came_back_with(database: Database) -> None:
    sweep = add(database, grid={"activation": ["relu"]}, base={"depth": 1})
    taken = claimed(database)
    with database.write() as session:
        queue.record_checkpoint(session, taken, epoch=1, sha256="d" * 64)
        queue.give_back(session, taken)
    cancel(database, sweep.id)
    assert events(database, taken.experiment_id)[-2:] == [(4, "status", "cancelled"), (5, "done", "cancelled")]
    with database.read() as session:
        told = experiments.events_after(session, taken.experiment_id, 3)
    assert [one.data for one in told] == [
        {"status": "cancelled", "attempt": 1},
        {"status": "cancelled", "result": None, "error": None},
    ]
    assert delete(database, sweep.id) == [(taken.experiment_id, "d" * 64)]


def work(database: Database, owner: str, stop: threading.Event) -> None:
    """Take experiments until `stop`, and give two of three back."""
    turn = 0
    while not stop.is_set():
        turn += 1
        taken = claim(database, owner)
        if taken is None:
            continue
        with contextlib.suppress(LeaseLost), database.write() as session:
            queue.heartbeat(session, owner=owner, experiment_ids=[taken.experiment_id], lease_seconds=60)
            queue.record_checkpoint(session, taken, epoch=1, sha256="d" * 64)
        with database.write() as session:
            if turn % 3:
                queue.give_back(session, taken)
            else:
                queue.fail(session, taken, "internal", "x")


def test_whatever_workers_do_during_a_cancel_every_log_is_legal(database: Database) -> None:
    """Workers take, renew, fail and give back while sweeps are cancelled: nothing slips through."""
    stop = threading.Event()
    faults: list[Exception] = []

    def run(number: int) -> None:
        try:
            work(database, f"worker {number}", stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            faults.append(error)

    workers = [threading.Thread(target=run, args=[number]) for number in range(3)]
    for worker in workers:
        worker.start()
    made = []
    try:
        for _ in range(6):
            sweep = add(database, seeds=25)
            made.append(sweep.id)
            cancelled = cancel(database, sweep.id)
            assert cancelled.progress.queued == cancelled.progress.running == 0
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert faults == []
    for sweep_id in made:
        found = read(database, sweep_id)
        assert (found.status, found.progress.total) == (SweepStatus.FINISHED, 100)
        assert_legal(database, sweep_id)


def test_work_that_comes_back_in_the_middle_of_a_cancel_is_cancelled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the queued were moved and before the running are, a worker gives back: it must wait for the cancel."""
    sweep = add(database)
    taken = claimed(database)
    given: list[Status] = []

    def give_back() -> None:
        with database.write() as session:
            given.append(queue.give_back(session, taken))

    worker = threading.Thread(target=give_back)

    def interrupted(session: Session, target: Status, *where: Any) -> int:
        moved = move_all(session, target, *where)
        if target is Status.CANCELLED:
            worker.start()
            worker.join(0.5)
        return moved

    monkeypatch.setattr(sweeps, "move_all", interrupted)
    cancelled = cancel(database, sweep.id)
    worker.join()
    assert (cancelled.progress.cancelled, cancelled.progress.cancelling) == (3, 1)
    assert given == [Status.CANCELLED]
    assert_legal(database, sweep.id)


def test_deleting_a_sweep_leaves_nothing_of_it_and_names_its_files(database: Database) -> None:
    sweep, other = add(database, tags=["a"]), add(database, tags=["a"])
    taken = claimed(database)
    with pytest.raises(SweepNotFinished, match="4 of its 4 experiments have not ended"):
        delete(database, sweep.id)
    succeed(database, taken)
    cancel(database, sweep.id)
    gone = [one.id for one in members(database, sweep.id)]
    assert delete(database, sweep.id) == [
        (taken.experiment_id, "a" * 64), (taken.experiment_id, "b" * 64),
    ]  # fmt: skip
    for act in (read, cancel, delete):
        with pytest.raises(SweepNotFound):
            act(database, sweep.id)
    with database.read() as session:
        for table in (TagRow, EventRow):
            left = set(session.scalars(select(table.experiment_id)))
            assert not left & set(gone), table
    assert len(members(database, other.id)) == 4


def test_a_sweep_with_an_alias_is_kept(database: Database) -> None:
    sweep = add(database, grid={"activation": ["relu"]}, base={"depth": 1})
    taken = claimed(database)
    succeed(database, taken)
    with database.write() as session:
        for number in range(7):
            models.set_alias(session, f"mine-{number}", taken.experiment_id)
    with pytest.raises(ExperimentHasAlias, match="mine-0, mine-1, mine-2, mine-3, mine-4 and more"):
        delete(database, sweep.id)
    with database.write() as session:
        for number in range(7):
            models.delete_alias(session, f"mine-{number}")
    delete(database, sweep.id)


def test_single_experiments_may_be_deleted_and_are_not_counted_any_more(database: Database) -> None:
    sweep = add(database)
    cancel(database, sweep.id)
    found = members(database, sweep.id)
    for left, one in zip((3, 2, 1, 0), found, strict=True):
        with database.write() as session:
            experiments.delete_finished(session, one.id)
        now = read(database, sweep.id)
        assert (now.size, now.progress.total, now.status) == (4, left, SweepStatus.FINISHED)
    assert delete(database, sweep.id) == []


def test_a_repeated_experiment_stays_in_its_sweep(database: Database) -> None:
    sweep = add(database)
    end(database, claimed(database), Status.FAILED, error_code="internal")
    for _ in range(3):
        succeed(database, claimed(database))
    failed = members(database, sweep.id)[0]
    with database.write() as session:
        again = experiments.retry(session, failed.id)
    assert (again.sweep_id, again.retry_of) == (sweep.id, failed.id)
    assert read(database, sweep.id).finished_at is None
    succeed(database, claimed(database))
    now = read(database, sweep.id)
    assert (now.size, now.progress.total, now.progress.succeeded, now.progress.failed) == (4, 5, 4, 1)
    assert now.status is SweepStatus.FINISHED


def test_a_repeat_waits_for_a_deletion_of_its_sweep_and_finds_nothing(database: Database) -> None:
    sweep = add(database)
    cancel(database, sweep.id)
    one = members(database, sweep.id)[0]
    told: list[str] = []

    def repeat() -> None:
        with database.write() as session, contextlib.suppress(ExperimentNotFound):
            told.append(experiments.retry(session, one.id).id)

    other = threading.Thread(target=repeat)
    with database.write() as session:
        sweeps.delete_finished(session, sweep.id)
        other.start()
        other.join(0.5)
    other.join()
    assert not told
    assert not members(database, sweep.id)


def test_pages_are_the_whole_newest_first(database: Database) -> None:
    made = [add(database, name=str(number)).id for number in range(5)]
    for limit in (1, 2, 4, 5, 6):
        found, cursor = [], None
        while True:
            with database.read() as session:
                page = sweeps.page(session, cursor=cursor, limit=limit)
            found += [one.id for one in page.sweeps]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == made[::-1]
    with database.read() as session, pytest.raises(InvalidCursor):
        sweeps.page(session, cursor="x", limit=1)


def test_each_sweep_of_a_page_has_its_own_progress(database: Database) -> None:
    first, second, third = add(database), add(database, seeds=2), add(database)
    claimed(database)
    cancel(database, second.id)
    with database.read() as session:
        page = sweeps.page(session, cursor=None, limit=10)
    told = {one.id: (one.status.value, one.progress.total) for one in page.sweeps}
    assert told == {third.id: ("queued", 4), second.id: ("finished", 8), first.id: ("running", 4)}


@pytest.mark.slow
def test_five_thousand_experiments_are_queued_cancelled_and_deleted(database: Database) -> None:
    spec = {"activation": ["relu", "tanh"], "depth": {"start": 1, "stop": 10}, "units": [8, 16, 32, 64, 128]}
    sweep = add(database, grid=spec, seeds=50, tags=["many"])
    found = members(database, sweep.id)
    assert [one.spec for one in found] == list(sweep.spec.specs())
    assert [one.id for one in found] == sorted({one.id for one in found})
    assert claimed(database).experiment_id == found[0].id
    cancelled = cancel(database, sweep.id)
    assert (cancelled.progress.cancelled, cancelled.progress.cancelling) == (4999, 1)
    assert_legal(database, sweep.id)
    with database.write() as session:
        move(session, Status.CANCELLED, ExperimentRow.id == found[0].id)
    assert delete(database, sweep.id) == []
    assert members(database, sweep.id) == []
