"""The worker on real databases with real trainer processes that behave as they are told."""

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.domain.experiment import Experiment, Metrics, Spec, Status
from service.domain.worker import Worker as WorkerValue
from service.engines.local import LocalEngine
from service.errors import Unavailable
from service.settings import Settings
from service.store import experiments, models, queue, schema, workers
from service.store.blobs import Blobs
from service.store.session import Database
from service.store.tables import ExperimentRow
from service.worker import Worker
from tests.integration.conftest import out_of_reach
from tests.integration.test_engine_local import trainers

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 60


class Running:
    """A worker in a thread, and what a test wants to know of its database."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.database = database
        usual = {
            "slots": 2, "poll_seconds": 0.02, "cancel_grace_seconds": 0.3, "drain_seconds": 5, "lease_seconds": 5,
            "max_stack": 1,
        }  # fmt: skip
        self.settings = Settings(data_dir=folder, **(usual | settings))
        self.blobs = Blobs(self.settings.resolved_blob_url)
        self.worker = self._worker()
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def _worker(self) -> Worker:
        engine = LocalEngine(data_dir=self.settings.data_dir, stall_seconds=600, trainer="tests.trainers")
        return Worker(database=self.database, blobs=self.blobs, engine=engine, settings=self.settings)

    def stop(self) -> None:
        self.worker.drain()
        self.thread.join(DEADLINE_SECONDS)
        assert not self.thread.is_alive()

    def add(self, name: str, *, epochs: int = 3) -> str:
        return self.add_all([name], epochs=epochs)[0]

    def add_all(self, names: Sequence[str], *, epochs: int = 3) -> list[str]:
        """All at once, so that one claim sees them all."""
        specs = [Spec(activation="relu", depth=1, epochs=epochs, name=name, seed=i) for i, name in enumerate(names)]
        with self.database.write() as session:
            return experiments.create_many(session, specs)

    def get(self, experiment_id: str) -> Experiment:
        with self.database.read() as session:
            return experiments.get(session, experiment_id)

    def metrics(self, experiment_id: str) -> Metrics:
        with self.database.read() as session:
            return experiments.metrics(session, experiment_id)

    def until(self, experiment_id: str, wanted: Callable[[Experiment], bool]) -> Experiment:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted(found := self.get(experiment_id)):
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return found

    def ended(self, experiment_id: str) -> Experiment:
        return self.until(experiment_id, lambda experiment: experiment.status.terminal)

    def trains(self, experiment_id: str) -> Experiment:
        return self.until(experiment_id, lambda experiment: experiment.progress.epoch > 0)

    def cancel(self, experiment_id: str) -> Experiment:
        with self.database.write() as session:
            return experiments.cancel(session, experiment_id)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers, which are stopped at the end, however that comes."""
    started = []

    def start(database: Database, folder: str = "data", **settings: Any) -> Running:
        started.append(Running(database, tmp_path / folder, **settings))
        return started[-1]

    with contextlib.ExitStack() as ends:
        yield start
        for running in started:
            ends.callback(running.stop)
    assert trainers() == []


@pytest.fixture
def running(database: Database, start: Start) -> Running:
    return start(database)


def test_an_experiment_is_trained_and_its_files_are_stored(running: Running) -> None:
    found = running.ended(running.add("counts"))
    assert found.status is Status.SUCCEEDED
    assert found.result is not None
    assert found.result.computation_seconds == pytest.approx(3 * 0.25 + 0.125)
    assert [epoch.epoch for epoch in running.metrics(found.id).epochs] == [1, 2, 3]
    assert found.model is not None
    onnx = running.blobs.get(found.id, found.model.formats["onnx"].sha256)
    assert onnx == bytes(range(256)) * 100
    with running.database.read() as session:
        assert models.resolve_alias(session, "best").experiment_id == found.id


def test_many_experiments_each_end_once(running: Running) -> None:
    ids = [running.add("counts", epochs=2) for _ in range(20)]
    for experiment_id in ids:
        found = running.ended(experiment_id)
        assert (found.status, found.attempt) == (Status.SUCCEEDED, 1)


def test_a_cancel_stops_a_trainer_that_heeds_it_and_keeps_its_metrics(running: Running) -> None:
    experiment_id = running.add("waits")
    running.trains(experiment_id)
    (before, other) = sorted(trainers(), key=lambda process: process.pid)
    assert running.cancel(experiment_id).status is Status.CANCELLING
    assert running.ended(experiment_id).status is Status.CANCELLED
    assert len(running.metrics(experiment_id).epochs) == 1
    assert {before, other} == set(trainers())


def test_a_cancel_kills_a_trainer_that_does_not_heed_it(running: Running) -> None:
    experiment_id = running.add("deaf")
    running.trains(experiment_id)
    running.cancel(experiment_id)
    assert running.ended(experiment_id).status is Status.CANCELLED
    assert running.ended(running.add("counts")).status is Status.SUCCEEDED


def test_a_trainer_that_dies_is_replaced_and_training_resumes_from_the_checkpoint(running: Running) -> None:
    found = running.ended(running.add("dies once"))
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)
    assert [epoch.epoch for epoch in running.metrics(found.id).epochs] == [1, 2, 3]
    with running.database.read() as session:
        reasons = [event.data.get("reason") for event in experiments.events_after(session, found.id, 0)]
    assert "the trainer ended by signal 9" in reasons


def test_poison_work_fails_in_the_end_and_holds_up_nobody(running: Running) -> None:
    poison = running.add("dies")
    fine = running.add("counts")
    assert running.ended(fine).status is Status.SUCCEEDED
    found = running.ended(poison)
    assert (found.status, found.attempt) == (Status.FAILED, 3)
    assert found.error is not None
    assert found.error.code == "attempts_exhausted"


def test_divergence_fails_at_once_with_the_epoch(running: Running) -> None:
    found = running.ended(running.add("diverges"))
    assert (found.status, found.attempt) == (Status.FAILED, 1)
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("training_diverged", "the loss became nan in epoch 1")


def test_a_worker_that_lost_its_lease_stops_its_trainer_and_writes_nothing(running: Running) -> None:
    experiment_id = running.add("waits")
    running.trains(experiment_id)
    with running.database.write() as session:
        session.query(ExperimentRow).filter_by(id=experiment_id).update(
            {"owner": "another", "attempt": 7}, synchronize_session=False
        )
    assert running.ended(running.add("counts")).status is Status.SUCCEEDED
    found = running.get(experiment_id)
    assert (found.status, found.attempt) == (Status.RUNNING, 7)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(postgres_url)) as database:
        schema.upgrade(database)
        yield database


def test_an_outage_longer_than_the_lease_costs_no_attempt(
    postgres_database: Database, postgres_url: str, start: Start
) -> None:
    workers = [start(postgres_database, name, slots=1, lease_seconds=1) for name in ("one", "two")]
    ids = [workers[0].add("waits", epochs=1) for _ in workers]
    for experiment_id in ids:
        workers[0].trains(experiment_id)
    with out_of_reach(postgres_url):
        threading.Event().wait(1.5)  # the leases run out, and there is nothing that could tell so
    for experiment_id in ids:
        workers[0].cancel(experiment_id)
        workers[0].ended(experiment_id)
        with postgres_database.read() as session:
            told = [event.data.get("status") for event in experiments.events_after(session, experiment_id, 0)]
        assert [status for status in told if status] == ["queued", "running", "cancelling", "cancelled", "cancelled"]


@pytest.fixture
def patient(database: Database, start: Start) -> Running:
    """A worker with a lease that no test outlasts."""
    return start(database, lease_seconds=600)


def leave_behind(running: Running, *, cancelling: bool = False) -> str:
    """An experiment whose worker is gone."""
    with running.database.write() as session:
        experiment_id = experiments.create(session, Spec(activation="relu", depth=1, epochs=1)).id
        assert queue.claim(session, owner="another", lease_seconds=-1) is not None
        if cancelling:
            experiments.cancel(session, experiment_id)
    return experiment_id


def test_after_an_outage_others_may_renew_their_leases_first(patient: Running) -> None:
    patient.worker._cut_off(Unavailable("the database was away"))
    of_another = leave_behind(patient)
    assert patient.ended(patient.add("counts")).status is Status.SUCCEEDED  # so the worker has looked for work
    assert patient.get(of_another).status is Status.RUNNING
    patient.worker._cut_off_at = -math.inf
    assert patient.ended(of_another).attempt == 2


def test_a_worker_that_slept_lets_others_renew_before_it_takes_their_work(patient: Running) -> None:
    worker = patient._worker()  # one that does not run: its clock is ours
    worker._saw()
    assert worker._others_could_renew()
    worker._seen_at -= 300  # as after a pause of the machine
    worker._saw()
    assert not worker._others_could_renew()
    worker._saw()
    assert not worker._others_could_renew()
    worker._cut_off_at -= 300
    assert worker._others_could_renew()


def test_what_is_too_large_for_a_stack_is_trained_alone(database: Database, start: Start) -> None:
    running = start(database, slots=1, max_stack=8, stack_bytes=2**20)
    specs = [Spec(activation="relu", depth=1, units=1024, epochs=1, name="counts", seed=seed) for seed in (0, 1)]
    assert specs[0].training_bytes > running.settings.stack_bytes
    with database.write() as session:
        ids = experiments.create_many(session, specs)
    for experiment_id in ids:
        assert running.ended(experiment_id).status is Status.SUCCEEDED


def test_expired_leases_are_noticed_while_every_slot_is_busy(database: Database, start: Start) -> None:
    busy = start(database, slots=1, lease_seconds=2)
    waits = busy.add("waits")
    busy.trains(waits)
    cancelled, interrupted = leave_behind(busy, cancelling=True), leave_behind(busy)
    assert busy.ended(cancelled).status is Status.CANCELLED
    assert busy.until(interrupted, lambda one: one.status is Status.QUEUED).attempt == 1
    assert busy.get(waits).status is Status.RUNNING


def test_a_checkpoint_that_cannot_be_read_is_waited_for(database: Database, start: Start, tmp_path: Path) -> None:
    first = start(database, slots=1)
    experiment_id = first.add("waits", epochs=2)
    first.trains(experiment_id)
    first.stop()
    with database.write() as session:
        row = session.get_one(ExperimentRow, experiment_id)
        row.spec = row.spec | {"name": "counts"}
    blobs, away = tmp_path / "data" / "blobs", tmp_path / "away"
    blobs.rename(away)
    blobs.mkdir()
    (blobs / experiment_id).write_text("in the way of the folder")
    second = start(database, slots=1, lease_seconds=2)
    second.until(experiment_id, lambda one: one.status is Status.RUNNING)
    threading.Event().wait(3)  # longer than the lease: nothing tells that the worker waits on
    assert second.get(experiment_id).attempt == 2
    (blobs / experiment_id).unlink()
    (away / experiment_id).rename(blobs / experiment_id)
    found = second.ended(experiment_id)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)


@pytest.mark.parametrize("name", ["waits", "deaf"])
def test_draining_gives_work_back_and_another_worker_goes_on_at_once(
    database: Database, start: Start, name: str
) -> None:
    first = start(database)
    experiment_id = first.add(name, epochs=2)
    first.trains(experiment_id)
    if name == "deaf":  # it will be killed in the end: no need to wait long for that
        first.worker._settings = first.settings.model_copy(update={"drain_seconds": 0.5})
    first.stop()
    assert trainers() == []
    found = first.get(experiment_id)
    assert found.status is Status.QUEUED
    assert found.progress.epoch == 1
    with database.write() as session:
        row = session.get_one(ExperimentRow, experiment_id)
        assert (row.checkpoint_epoch == 1) == (name == "waits")
        row.spec = row.spec | {"name": "counts"}
    second = start(database)
    found = second.ended(experiment_id)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)
    assert [epoch.epoch for epoch in second.metrics(experiment_id).epochs] == [1, 2]


@pytest.fixture
def stacking(database: Database, start: Start) -> Running:
    """One slot that trains as one what it can."""
    return start(database, slots=1, max_stack=8, checkpoint_seconds=0)


def test_experiments_that_differ_by_their_seed_are_trained_as_one_and_each_ends_by_itself(stacking: Running) -> None:
    counts, diverges, other = stacking.add_all(["counts", "diverges", "counts"])
    for experiment_id in (counts, other):
        found = stacking.ended(experiment_id)
        assert (found.status, found.attempt) == (Status.SUCCEEDED, 1)
        assert [epoch.epoch for epoch in stacking.metrics(experiment_id).epochs] == [1, 2, 3]
    failed = stacking.ended(diverges)
    assert failed.error is not None
    assert (failed.error.code, failed.attempt) == ("training_diverged", 1)


def test_cancelling_one_of_a_stack_leaves_the_others(stacking: Running) -> None:
    waits, counts = stacking.add_all(["waits", "counts"])
    stacking.trains(waits)
    assert stacking.get(counts).status is Status.RUNNING
    stacking.cancel(waits)
    assert stacking.ended(waits).status is Status.CANCELLED
    found = stacking.ended(counts)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 1)


def test_a_cancel_that_needs_a_kill_costs_the_others_no_attempt(stacking: Running) -> None:
    deaf, counts = stacking.add_all(["deaf", "counts"])
    stacking.trains(deaf)
    stacking.cancel(deaf)
    assert stacking.ended(deaf).status is Status.CANCELLED
    found = stacking.ended(counts)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)
    with stacking.database.read() as session:
        assert session.get_one(ExperimentRow, counts).drains == 1
    assert [epoch.epoch for epoch in stacking.metrics(counts).epochs] == [1, 2, 3]


def test_poison_in_a_stack_fails_alone_in_the_end(stacking: Running) -> None:
    first, poison, last = stacking.add_all(["counts", "dies", "counts"])
    for experiment_id in (first, last):
        assert stacking.ended(experiment_id).status is Status.SUCCEEDED
    failed = stacking.ended(poison)
    assert failed.error is not None
    assert (failed.error.code, failed.attempt) == ("attempts_exhausted", 3)


def test_what_is_too_large_together_is_trained_alone(stacking: Running) -> None:
    for experiment_id in stacking.add_all(["too large together", "counts"]):
        assert stacking.ended(experiment_id).status is Status.SUCCEEDED


def test_one_of_a_stack_that_is_lost_does_not_stop_the_others(stacking: Running) -> None:
    waits, lost, counts = stacking.add_all(["waits", "waits", "counts"])
    stacking.trains(counts)
    with stacking.database.write() as session:
        session.query(ExperimentRow).filter_by(id=lost).update(
            {"owner": "another", "attempt": 7}, synchronize_session=False
        )
    stacking.cancel(waits)
    assert stacking.ended(waits).status is Status.CANCELLED
    assert stacking.ended(counts).status is Status.SUCCEEDED
    found = stacking.get(lost)
    assert (found.status, found.attempt) == (Status.RUNNING, 7)


def test_a_drained_stack_goes_on_as_one(database: Database, start: Start) -> None:
    first = start(database, slots=1, max_stack=8)
    ids = first.add_all(["waits", "waits"], epochs=2)
    first.trains(ids[1])
    first.stop()
    with database.write() as session:
        for experiment_id in ids:
            row = session.get_one(ExperimentRow, experiment_id)
            assert (row.status, row.checkpoint_epoch) == ("queued", 1)
            row.spec = row.spec | {"name": "counts"}
    second = start(database, slots=1, max_stack=8)
    found = [second.ended(experiment_id) for experiment_id in ids]
    assert [(one.status, one.attempt) for one in found] == [(Status.SUCCEEDED, 2)] * 2
    assert len({one.model.weights_sha256 for one in found if one.model}) == 1
    assert [epoch.epoch for epoch in second.metrics(ids[0]).epochs] == [1, 2]


def workers_of(database: Database) -> list[WorkerValue]:
    with database.read() as session:
        return workers.every(session)


def test_a_worker_tells_of_itself_and_leaves_when_it_stops(running: Running, database: Database) -> None:
    experiment_id = running.add("waits")
    running.trains(experiment_id)
    (found,) = workers_of(database)
    assert (found.engine, found.slots, found.running, found.status) == ("local", 2, 1, "active")
    assert found.trouble is None
    assert (found.host, found.process) == (socket.gethostname(), os.getpid())
    running.stop()
    assert workers_of(database) == []


def test_what_keeps_a_worker_from_training_is_told(database: Database, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, slots=1, lease_seconds=1)
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=600, trainer="tests.no_such_module")
    worker = Worker(database=database, blobs=Blobs(settings.resolved_blob_url), engine=engine, settings=settings)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not [one for one in workers_of(database) if one.trouble == "the trainer ended with exit code 1"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        worker.drain()
        thread.join()


def test_a_worker_that_listens_begins_at_once_though_it_polls_rarely(postgres_database: Database, start: Start) -> None:
    running = start(postgres_database, poll_seconds=60)
    for _ in range(3):  # the first may come before it listens
        running.ended(running.add("counts"))
