"""The queue's guarantees, on SQLite and PostgreSQL."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy.exc import IntegrityError

from service.domain.events import Trained
from service.domain.experiment import EpochMetrics, Experiment, Spec, Status
from service.errors import ExperimentAlreadyFinished, LeaseLost
from service.store import experiments, queue
from service.store.queue import Claim, ModelFiles
from service.store.session import Database
from service.store.tables import ExperimentRow, database_now
from service.store.transitions import append_event

RELU = Spec(activation="relu", depth=1)
FILES = ModelFiles(keras_sha256="a" * 64, onnx_sha256="b" * 64)
TRAINED = Trained(
    experiment_id="unused",
    test_loss=0.25,
    test_accuracy=0.93,
    evaluation_seconds=0.5,
    parameters=12730,
    weights_sha256="c" * 64,
    keras=b"k",
    onnx=b"oo",
)


def add(database: Database, spec: Spec = RELU) -> Experiment:
    with database.write() as session:
        return experiments.create(session, spec)


def claim(database: Database, owner: str = "one") -> Claim | None:
    with database.write() as session:
        return queue.claim(session, owner=owner, lease_seconds=60)


def claimed(database: Database, owner: str = "one") -> Claim:
    found = claim(database, owner)
    assert found is not None
    return found


def read(database: Database, experiment_id: str) -> Experiment:
    with database.read() as session:
        return experiments.get(session, experiment_id)


def events(database: Database, experiment_id: str) -> list[tuple[int, str, object]]:
    with database.read() as session:
        found = experiments.events_after(session, experiment_id, 0)
    return [(event.sequence, event.type, event.data.get("status", event.data.get("epoch"))) for event in found]


def epoch(number: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        loss=1 / number,
        accuracy=0.5,
        val_loss=float("inf") if number == 2 else 0.5,
        val_accuracy=0.5,
        seconds=0.25,
        gradient_norms=(0.1, float("nan")),
    )


def expire_leases(database: Database) -> int:
    with database.write() as session:
        session.query(ExperimentRow).filter(ExperimentRow.owner.is_not(None)).update(
            {"lease_expires_at": database_now(-1)}, synchronize_session=False
        )
        return queue.release_expired(session, max_attempts=3)


def test_an_empty_queue_gives_nothing(database: Database) -> None:
    with database.read() as session:
        assert not queue.has_work(session)
    assert claim(database) is None


def test_a_claim_starts_the_first_attempt(database: Database) -> None:
    created = add(database)
    with database.read() as session:
        assert queue.has_work(session)
    mine = claimed(database)
    assert (mine.experiment_id, mine.attempt, mine.spec, mine.checkpoint_sha256) == (created.id, 1, RELU, None)
    found = read(database, created.id)
    assert found.status is Status.RUNNING
    assert found.started_at is not None
    assert found.started_at >= found.created_at
    assert claim(database) is None


def test_priority_goes_first_then_age(database: Database) -> None:
    names = [("old", 0), ("new", 0), ("urgent", 5), ("later", -5)]
    for name, priority in names:
        add(database, RELU.model_copy(update={"name": name, "priority": priority}))
    assert [claimed(database).spec.name for _ in names] == ["urgent", "old", "new", "later"]


def claim_group(database: Database, *, most: int = 7, share: int = 1) -> list[Claim]:
    with database.write() as session:
        first = queue.claim(session, owner="one", lease_seconds=60)
        assert first is not None
        return [first, *queue.claim_alike(session, first, lease_seconds=60, most=most, share=share)]


def seeds(database: Database, count: int, spec: Spec = RELU) -> list[str]:
    with database.write() as session:
        return experiments.create_many(session, [spec.model_copy(update={"seed": seed}) for seed in range(count)])


def test_specs_that_differ_by_their_seed_are_claimed_together_oldest_first(database: Database) -> None:
    ids = seeds(database, 3)
    add(database, RELU.model_copy(update={"units": 17}))
    ids += seeds(database, 7)
    found = claim_group(database)
    assert [one.experiment_id for one in found] == ids[:8]
    assert all(read(database, one.experiment_id).status is Status.RUNNING for one in found)
    assert read(database, found[1].experiment_id).started_at is not None
    assert [one.spec.units for one in claim_group(database)] == [17]
    assert [one.experiment_id for one in claim_group(database)] == ids[8:]


def test_every_slot_has_its_part(database: Database) -> None:
    seeds(database, 5)
    assert [len(claim_group(database, share=2)) for _ in range(3)] == [3, 1, 1]


@pytest.mark.parametrize("other", [{"priority": -1}, {"activation": "tanh"}, {"shuffle_seed": 1}, {"epochs": 3}])
def test_specs_that_differ_by_more_are_claimed_apart(database: Database, other: dict[str, object]) -> None:
    add(database)
    add(database, RELU.model_copy(update=other))
    assert len(claim_group(database)) == 1


@pytest.mark.parametrize("other", [{"activation": "softmax"}, {"optimizer": "rmsprop"}])
def test_what_has_other_bits_among_others_is_claimed_alone(database: Database, other: dict[str, object]) -> None:
    seeds(database, 2, RELU.model_copy(update=other))
    assert len(claim_group(database)) == 1


def test_an_attempt_after_a_crash_is_claimed_alone_and_one_after_a_drain_is_not(database: Database) -> None:
    seeds(database, 3)
    for mine in claim_group(database):
        with database.write() as session:
            queue.give_back(session, mine)
    again = claim_group(database)
    assert len(again) == 3
    for mine in again:
        with database.write() as session:
            queue.requeue(session, mine, reason="killed", max_attempts=3)
    assert [len(claim_group(database)) for _ in range(3)] == [1, 1, 1]


def test_only_those_with_the_same_epochs_behind_them_are_claimed_together(database: Database) -> None:
    seeds(database, 3)
    group = claim_group(database)
    for mine, epoch_ in zip(group, (1, 2, 1), strict=True):
        with database.write() as session:
            queue.record_checkpoint(session, mine, epoch=epoch_, sha256="d" * 64)
            queue.give_back(session, mine)
    found = claim_group(database)
    assert [one.experiment_id for one in found] == [group[0].experiment_id, group[2].experiment_id]


def test_workers_that_claim_together_claim_each_experiment_once(database: Database) -> None:
    seeds(database, 40)
    taken: list[str] = []

    def work() -> None:
        while True:
            with database.write() as session:
                first = queue.claim(session, owner="one", lease_seconds=60)
                if first is None:
                    return
                group = queue.claim_alike(session, first, lease_seconds=60, most=4, share=2)
            taken.extend(one.experiment_id for one in [first, *group])

    at_once(work, work, work, work)
    assert len(taken) == 40
    assert max(Counter(taken).values()) == 1


def test_many_workers_claim_each_experiment_once(database: Database) -> None:
    count, workers = 40, 4
    for _ in range(count):
        add(database)
    taken: list[str] = []

    def work(owner: str) -> None:
        while (found := claim(database, owner)) is not None:
            taken.append(found.experiment_id)

    threads = [threading.Thread(target=work, args=(f"worker-{i}",)) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == count
    assert max(Counter(taken).values()) == 1


def test_epochs_become_metrics_and_events_and_infinity_becomes_null(database: Database) -> None:
    created, mine = add(database), claimed(database)
    for number in (1, 2):
        with database.write() as session:
            queue.record_epoch(session, mine, epoch(number))
    with database.read() as session:
        metrics = experiments.metrics(session, created.id)
        later = experiments.metrics(session, created.id, after_epoch=1)
    assert [one.epoch for one in metrics.epochs] == [1, 2]
    assert [one.epoch for one in later.epochs] == [2]
    assert metrics.epochs[1].val_loss is None
    assert metrics.epochs[1].gradient_norms == (0.1, None)
    assert metrics.computation_seconds == pytest.approx(0.5)
    assert read(database, created.id).progress.epoch == 2
    assert events(database, created.id) == [
        (1, "status", "queued"),
        (2, "status", "running"),
        (3, "epoch", 1),
        (4, "epoch", 2),
    ]


def test_an_epoch_that_is_repeated_after_a_resume_is_recorded_once(database: Database) -> None:
    created, mine = add(database), claimed(database)
    for number in (1, 2, 2):
        with database.write() as session:
            queue.record_epoch(session, mine, epoch(number))
    with database.read() as session:
        assert [one.epoch for one in experiments.metrics(session, created.id).epochs] == [1, 2]
    assert [kind for _, kind, _ in events(database, created.id)] == ["status", "status", "epoch", "epoch"]


def test_a_finished_experiment_has_its_result_and_model(database: Database) -> None:
    created, mine = add(database), claimed(database)
    with database.write() as session:
        assert queue.finish(session, mine, TRAINED, FILES) == (Status.SUCCEEDED, None)
    found = read(database, created.id)
    assert found.status is Status.SUCCEEDED
    assert found.result is not None
    assert found.result.test_accuracy == 0.93
    assert found.model is not None
    assert found.model.formats["onnx"].sha256 == "b" * 64
    assert found.model.formats["onnx"].bytes == 2
    assert found.finished_at is not None
    assert events(database, created.id)[-2:] == [(3, "status", "succeeded"), (4, "done", "succeeded")]


WRITES = {
    "epoch": lambda session, mine: queue.record_epoch(session, mine, epoch(1)),
    "checkpoint": lambda session, mine: queue.record_checkpoint(session, mine, epoch=1, sha256="d" * 64),
    "finish": lambda session, mine: queue.finish(session, mine, TRAINED, FILES),
    "fail": lambda session, mine: queue.fail(session, mine, "internal", "no"),
    "requeue": lambda session, mine: queue.requeue(session, mine, reason="died", max_attempts=3),
    "give back": lambda session, mine: queue.give_back(session, mine),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_stale_worker_can_write_nothing(database: Database, write) -> None:
    created, stale = add(database), claimed(database, "stale")
    assert expire_leases(database) == 1
    assert claimed(database, "fresh").attempt == 2
    before = read(database, created.id), events(database, created.id)
    with pytest.raises(LeaseLost), database.write() as session:
        write(session, stale)
    assert (read(database, created.id), events(database, created.id)) == before


def test_an_expired_lease_goes_back_to_the_queue_and_resumes_from_its_checkpoint(database: Database) -> None:
    created, mine = add(database), claimed(database)
    with database.write() as session:
        assert queue.record_checkpoint(session, mine, epoch=1, sha256="d" * 64) is None
    with database.write() as session:
        assert queue.record_checkpoint(session, mine, epoch=2, sha256="e" * 64) == "d" * 64
    expire_leases(database)
    assert read(database, created.id).status is Status.QUEUED
    again = claimed(database)
    assert (again.attempt, again.checkpoint_sha256) == (2, "e" * 64)


def test_a_heartbeat_keeps_the_lease_and_tells_what_is_lost(database: Database) -> None:
    created = add(database)
    mine = claimed(database)
    with database.write() as session:
        session.query(ExperimentRow).update({"lease_expires_at": database_now(-1)}, synchronize_session=False)
        found = queue.heartbeat(session, owner="one", experiment_ids=[created.id, "gone"], lease_seconds=60)
        assert found == {(mine.experiment_id, 1): Status.RUNNING}
        assert queue.release_expired(session, max_attempts=3) == 0
        assert queue.heartbeat(session, owner="two", experiment_ids=[created.id], lease_seconds=60) == {}


def test_attempts_are_exhausted_but_drains_do_not_count(database: Database) -> None:
    created = add(database)
    for _ in range(5):
        mine = claimed(database)
        with database.write() as session:
            assert queue.give_back(session, mine) is Status.QUEUED
    statuses = []
    for _ in range(3):
        mine = claimed(database)
        with database.write() as session:
            statuses.append(queue.requeue(session, mine, reason="killed by signal 9", max_attempts=3))
    assert statuses == [Status.QUEUED, Status.QUEUED, Status.FAILED]
    error = read(database, created.id).error
    assert error is not None
    assert error.code == "attempts_exhausted"
    assert "killed by signal 9" in error.message


def test_cancelling_a_queued_experiment_is_immediate(database: Database) -> None:
    created = add(database)
    with database.write() as session:
        assert experiments.cancel(session, created.id).status is Status.CANCELLED
    assert claim(database) is None
    assert events(database, created.id)[-1] == (3, "done", "cancelled")


@pytest.mark.parametrize("write", [WRITES["finish"], WRITES["fail"], WRITES["requeue"], WRITES["give back"]])
def test_a_cancel_that_came_first_wins_over_every_end(database: Database, write) -> None:
    created, mine = add(database), claimed(database)
    with database.write() as session:
        assert experiments.cancel(session, created.id).status is Status.CANCELLING
        assert experiments.cancel(session, created.id).status is Status.CANCELLING
    with database.write() as session:
        write(session, mine)
    found = read(database, created.id)
    assert found.status is Status.CANCELLED
    assert found.result is None
    assert found.error is None
    with database.write() as session:
        assert experiments.cancel(session, created.id).status is Status.CANCELLED


def test_a_cancelling_experiment_whose_worker_is_gone_ends_cancelled(database: Database) -> None:
    created = add(database)
    claimed(database)
    with database.write() as session:
        experiments.cancel(session, created.id)
    expire_leases(database)
    assert read(database, created.id).status is Status.CANCELLED


def test_a_finished_experiment_cannot_be_cancelled(database: Database) -> None:
    created, mine = add(database), claimed(database)
    with database.write() as session:
        queue.finish(session, mine, TRAINED, FILES)
    with pytest.raises(ExperimentAlreadyFinished, match="succeeded"), database.write() as session:
        experiments.cancel(session, created.id)


def at_once(*acts: Callable[[], object]) -> None:
    """Run each in a thread, all begun at the same moment."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        start.wait()
        act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cancel(database: Database, experiment_id: str) -> Experiment:
    with database.write() as session:
        return experiments.cancel(session, experiment_id)


def test_cancel_against_claim_ends_in_one_legal_state(database: Database) -> None:
    for _ in range(20):
        created = add(database)
        got: list[Claim | None] = []
        at_once(lambda: got.append(claim(database)), lambda: cancel(database, created.id))  # noqa: B023 - at once
        (mine,) = got
        found = read(database, created.id)
        if mine is None:
            assert (found.status, found.attempt) == (Status.CANCELLED, 0)
        else:
            assert (found.status, found.attempt) == (Status.CANCELLING, 1)
            with database.write() as session:
                assert queue.give_back(session, mine) is Status.CANCELLED
        statuses = [status for _, kind, status in events(database, created.id) if kind == "status"]
        between = [] if mine is None else ["running", "cancelling"]
        assert statuses == ["queued", *between, "cancelled"]


def test_cancel_against_the_end_of_a_lease_ends_in_one_legal_state(database: Database) -> None:
    for _ in range(20):
        created, stale = add(database), claimed(database)
        at_once(lambda: expire_leases(database), lambda: cancel(database, created.id))  # noqa: B023 - at once
        expire_leases(database)  # the cancel may have come behind the first look
        assert read(database, created.id).status is Status.CANCELLED
        ends = [kind for _, kind, _ in events(database, created.id)].count("done")
        assert ends == 1
        with pytest.raises(LeaseLost), database.write() as session:
            queue.finish(session, stale, TRAINED, FILES)


def test_the_database_refuses_a_second_end(database: Database) -> None:
    created = add(database)
    cancel(database, created.id)
    with pytest.raises(IntegrityError), database.write() as session:
        append_event(session, session.get_one(ExperimentRow, created.id), "done", {})


def test_cancel_against_finish_ends_in_one_legal_state(database: Database) -> None:
    outcomes = set()
    for _ in range(10):
        created, mine = add(database), claimed(database)

        def finish(mine: Claim = mine) -> None:
            with database.write() as session:
                queue.finish(session, mine, TRAINED, FILES)

        def give_up(experiment_id: str = created.id) -> None:
            with contextlib.suppress(ExperimentAlreadyFinished):
                cancel(database, experiment_id)

        at_once(finish, give_up)
        found = read(database, created.id)
        assert found.status in {Status.SUCCEEDED, Status.CANCELLED}
        assert (found.result is not None) == (found.status is Status.SUCCEEDED)
        numbers = [number for number, _, _ in events(database, created.id)]
        assert numbers == list(range(1, len(numbers) + 1))
        outcomes.add(found.status)
    assert outcomes


def test_a_cancel_that_wins_over_the_end_leaves_no_row_that_names_the_discarded_checkpoint(database: Database) -> None:
    created, mine = add(database), claimed(database)
    with database.write() as session:
        queue.record_checkpoint(session, mine, epoch=1, sha256="d" * 64)
    cancel(database, created.id)
    with database.write() as session:
        assert queue.finish(session, mine, TRAINED, FILES) == (Status.CANCELLED, "d" * 64)
    with database.write() as session:
        assert experiments.delete_finished(session, created.id) == []
