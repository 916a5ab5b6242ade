"""What `epochd db prune` deletes and what it keeps, on SQLite and PostgreSQL."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from service.domain.experiment import EpochMetrics, Experiment, Spec, Status
from service.domain.sweep import SweepSpec
from service.errors import SweepNotFound
from service.store import experiments, models, queue, retention, sweeps
from service.store.audit import audit
from service.store.blobs import Blobs
from service.store.queue import Claim
from service.store.retention import Policy, Pruned, prune, prune_events
from service.store.session import Database
from service.store.tables import EpochRow, EventRow, ExperimentRow, SweepRow, TagRow
from tests.conftest import succeed

SPEC = Spec(activation="relu", depth=1, priority=1000, tags=["old"])
AGE = timedelta(days=90)
POLICY = Policy(older_than=AGE)
EPOCH = EpochMetrics(epoch=1, loss=1, accuracy=0.5, val_loss=1, val_accuracy=0.5, seconds=1, gradient_norms=(1, 1))


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs((tmp_path / "blobs").as_uri())


def no_pause(_seconds: float) -> None:
    """For tests that watch something else."""


def claim(database: Database) -> Claim:
    with database.write() as session:
        claimed = queue.claim(session, owner="one", lease_seconds=60)
    assert claimed is not None
    return claimed


def fail(database: Database, *, epochs: int = 1) -> Experiment:
    """A new experiment that has failed after so many epochs."""
    with database.write() as session:
        made = experiments.create(session, SPEC)
    claimed = claim(database)
    assert claimed.experiment_id == made.id
    with database.write() as session:
        for epoch in range(1, epochs + 1):
            queue.record_epoch(session, claimed, EPOCH.model_copy(update={"epoch": epoch}))
        queue.fail(session, claimed, "training_diverged", "the loss is no finite number")
        return experiments.get(session, made.id)


def age(database: Database, *ids: str, days: float = 100) -> None:
    """Let experiments, and their sweeps, have been made and ended so long ago."""
    ended = datetime.now(UTC) - timedelta(days=days)
    begun = ended - timedelta(hours=1)
    with database.write() as session:
        these = ExperimentRow.id.in_(ids)
        session.execute(update(ExperimentRow).where(these).values(created_at=begun, finished_at=ended))
        of_these = select(ExperimentRow.sweep_id).where(these)
        session.execute(update(SweepRow).where(SweepRow.id.in_(of_these)).values(created_at=begun))


def left(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(ExperimentRow.id)))


def run(database: Database, blobs: Blobs, policy: Policy = POLICY, *, dry_run: bool = False) -> Pruned:
    return sum(prune(database, blobs, policy, dry_run=dry_run, pause=no_pause), Pruned())


def a_sweep(database: Database, blobs: Blobs, onnx: bytes, *, seeds: int = 3) -> tuple[str, list[str]]:
    """A sweep of which every experiment has failed, and the ids of these."""
    spec = SweepSpec.model_validate({"base": {"activation": "relu", "depth": 1, "priority": 1000}, "seeds": seeds})
    with database.write() as session:
        sweep = sweeps.create(session, spec)
    for _ in range(seeds):
        claimed = claim(database)
        with database.write() as session:
            queue.fail(session, claimed, "training_diverged", "the loss is no finite number")
    with database.read() as session:
        return sweep.id, [one.id for one in sweeps.members(session, sweep.id)]


def test_what_ended_long_ago_goes_with_all_that_belongs_to_it(
    database: Database, blobs: Blobs, tiny_onnx: bytes
) -> None:
    old = [fail(database), succeed(database, blobs, tiny_onnx, accuracy=0.1, spec=SPEC)]
    young = [fail(database), succeed(database, blobs, tiny_onnx, accuracy=0.2, spec=SPEC)]
    age(database, *(one.id for one in old))
    age(database, *(one.id for one in young), days=89)
    assert run(database, blobs) == Pruned(experiments=2, files=2)
    assert left(database) == {one.id for one in young}
    with database.read() as session:
        for table in (EpochRow, EventRow, TagRow):
            assert not set(session.scalars(select(table.experiment_id))) & {one.id for one in old}
    assert {blob.key[0] for blob in blobs.list()} == {young[1].id}
    assert audit(database, blobs).sound
    assert run(database, blobs) == Pruned()


def test_what_has_not_ended_stays_however_old_it_is(database: Database, blobs: Blobs) -> None:
    ended = fail(database)
    with database.write() as session:
        made = [experiments.create(session, SPEC).id for _ in range(3)]
    claim(database)
    claim(database)
    with database.write() as session:
        experiments.cancel(session, made[1])
        age_of_all = datetime.now(UTC) - timedelta(days=1000)
        session.execute(update(ExperimentRow).values(created_at=age_of_all, started_at=age_of_all))
    age(database, ended.id)
    assert run(database, blobs, Policy(older_than=timedelta())) == Pruned(experiments=1)
    assert left(database) == set(made)


def test_what_an_alias_names_stays_and_so_do_the_best_and_the_newest(
    database: Database, blobs: Blobs, tiny_onnx: bytes
) -> None:
    best, named, other = (succeed(database, blobs, tiny_onnx, accuracy=accuracy) for accuracy in (0.9, 0.5, 0.4))
    newest = fail(database)
    with database.write() as session:
        models.set_alias(session, "champion", named.id)
    age(database, best.id, named.id, other.id, newest.id)
    assert run(database, blobs).experiments == 1
    assert left(database) == {best.id, named.id, newest.id}


def test_a_sweep_goes_as_one_or_not_at_all(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    gone, of_gone = a_sweep(database, blobs, tiny_onnx)
    kept, of_kept = a_sweep(database, blobs, tiny_onnx)
    newest = fail(database)
    age(database, *of_gone, *of_kept)
    age(database, of_kept[1], days=10)
    age(database, of_kept[0])
    assert run(database, blobs) == Pruned(experiments=3, sweeps=1)
    assert left(database) == {*of_kept, newest.id}
    with database.read() as session:
        assert sweeps.get(session, kept).progress.failed == 3
        with pytest.raises(SweepNotFound):
            sweeps.get(session, gone)


def test_a_sweep_stays_whole_when_other_ends_are_asked_for(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    _, members = a_sweep(database, blobs, tiny_onnx)
    newest = fail(database)
    with database.write() as session:
        session.execute(update(ExperimentRow).where(ExperimentRow.id == members[0]).values(status="cancelled"))
    age(database, *members)
    assert run(database, blobs, Policy(older_than=AGE, statuses=[Status.FAILED])) == Pruned()
    assert left(database) == {*members, newest.id}


def test_ends_and_models_narrow_what_goes(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    best, model = (succeed(database, blobs, tiny_onnx, accuracy=accuracy) for accuracy in (0.9, 0.5))
    failed, newest = fail(database), fail(database)
    age(database, best.id, model.id, failed.id)
    cancelled_only = Policy(older_than=AGE, statuses=[Status.CANCELLED])
    assert run(database, blobs, cancelled_only) == Pruned()
    assert run(database, blobs, Policy(older_than=AGE, keep_models=True)) == Pruned(experiments=1)
    assert left(database) == {best.id, model.id, newest.id}


def test_a_dry_run_counts_the_same_and_deletes_nothing(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    old = [succeed(database, blobs, tiny_onnx, accuracy=accuracy).id for accuracy in (0.1, 0.2)]
    _, members = a_sweep(database, blobs, tiny_onnx)
    succeed(database, blobs, tiny_onnx, accuracy=0.9)
    age(database, *old, *members)
    before = left(database), {blob.key for blob in blobs.list()}
    would = run(database, blobs, dry_run=True)
    assert (left(database), {blob.key for blob in blobs.list()}) == before
    assert run(database, blobs) == would == Pruned(experiments=5, sweeps=1, files=4)


def test_one_that_was_interrupted_goes_on_where_it_was(
    database: Database, blobs: Blobs, tiny_onnx: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PART", 2)
    _, members = a_sweep(database, blobs, tiny_onnx, seeds=5)
    singles = [fail(database).id for _ in range(3)]
    newest = fail(database)
    age(database, *members, *singles)
    parts = prune(database, blobs, POLICY, pause=no_pause)
    assert next(parts) == Pruned(experiments=2)
    del parts
    assert len(left(database)) == 7
    assert run(database, blobs) == Pruned(experiments=6, sweeps=1)
    assert left(database) == {newest.id}


def test_others_write_between_its_transactions(
    database: Database, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PART", 1)
    old = [fail(database).id for _ in range(3)]
    age(database, *old)
    written: list[str] = []

    def write(seconds: float) -> None:
        assert seconds > 0
        with database.write() as session:
            written.append(experiments.create(session, SPEC).id)

    newest = fail(database)
    list(prune(database, blobs, POLICY, pause=write))
    assert len(written) == 3
    assert left(database) == {*written, newest.id}


def test_an_alias_that_is_just_being_made_keeps_its_experiment(
    database: Database, blobs: Blobs, tiny_onnx: bytes
) -> None:
    named, best = (succeed(database, blobs, tiny_onnx, accuracy=accuracy) for accuracy in (0.5, 0.9))
    age(database, named.id, best.id)
    # PostgreSQL passes over the row that is locked; SQLite waits for the one writer.
    pruning = threading.Thread(target=run, args=(database, blobs))
    with database.write() as session:
        models.set_alias(session, "champion", named.id)
        pruning.start()
    pruning.join()
    assert left(database) == {named.id, best.id}


def test_only_events_go_where_that_is_wanted(database: Database, blobs: Blobs, tiny_onnx: bytes) -> None:
    old, young = fail(database, epochs=3), fail(database, epochs=3)
    age(database, old.id)
    counted = sum(prune_events(database, POLICY, dry_run=True, pause=no_pause), Pruned())
    assert sum(prune_events(database, POLICY, pause=no_pause), Pruned()) == counted
    assert counted == Pruned(experiments=1, events=6)  # queued, running, three epochs, failed
    with database.read() as session:
        assert [one.type for one in experiments.events_after(session, old.id, 0)] == ["done"]
        assert len(experiments.metrics(session, old.id).epochs) == 3
        assert len(experiments.events_after(session, young.id, 0)) == 7
    assert sum(prune_events(database, POLICY, pause=no_pause), Pruned()) == Pruned()


def test_an_age_is_by_the_end_and_not_by_the_beginning(database: Database, blobs: Blobs) -> None:
    long = fail(database)
    newest = fail(database)
    age(database, long.id)
    with database.write() as session:
        session.execute(update(ExperimentRow).where(ExperimentRow.id == long.id).values(finished_at=func.now()))
    assert run(database, blobs) == Pruned()
    assert left(database) == {long.id, newest.id}


@pytest.mark.parametrize("wrong", [{"statuses": [Status.RUNNING]}, {"older_than": timedelta(days=-1)}])
def test_a_policy_that_could_name_what_runs_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="have ended"):
        Policy(**({"older_than": AGE} | wrong))  # type: ignore[arg-type]
