"""What every engine must do: the local one with real trainer processes, Ray's with a real cluster."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.domain.events import Alive, Checkpoint, EpochEnd, Event, Failed, Stopped, Trained
from service.engines.base import Engine, Slot, TrainerDied
from service.engines.local import LocalEngine
from service.engines.ray import Demand, RayEngine
from tests.jobs import job, kinds, stacked

pytestmark = pytest.mark.slow

MakeEngine = Callable[[float], Engine]


@pytest.fixture(scope="module", params=["local", "ray"])
def make_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeEngine:
    """Engines of each kind in turn, with a limit in seconds to a trainer's silence."""
    if request.param == "local":
        folder = tmp_path_factory.mktemp("local")
        return lambda stall: LocalEngine(data_dir=folder, stall_seconds=stall, trainer="tests.trainers")
    request.getfixturevalue("ray_cluster_of_one")
    mnist: Path = request.getfixturevalue("mnist_dir")
    return lambda stall: RayEngine(data_dir=mnist, stall_seconds=stall, demand=Demand(), trainer="tests.trainers")


@pytest.fixture(scope="module")
def engine(make_engine: MakeEngine) -> Iterator[Engine]:
    """One with a slot that stays open: else Ray's driver would be started for every test."""
    engine = make_engine(600)
    with contextlib.closing(engine.slot()):
        yield engine


@pytest.fixture
def slot(engine: Engine) -> Iterator[Slot]:
    with contextlib.closing(engine.slot()) as slot:
        yield slot


def test_events_come_in_order_with_their_bytes_whole(slot: Slot) -> None:
    slot.warm_up()
    # Where a cluster is busy, a job may wait for room first, and says that it is alive.
    events: list[Event] = [event for event in slot.train(job("counts")) if not isinstance(event, Alive)]
    assert kinds(events) == [EpochEnd, EpochEnd, Trained]
    assert isinstance(events[0], EpochEnd)
    assert events[0].metrics["counts"].gradient_norms == (0.1, 0.2)
    assert isinstance(events[-1], Trained)
    assert events[-1].onnx == bytes(range(256)) * 100


def test_a_job_begins_after_the_epoch_it_resumes_from(slot: Slot) -> None:
    events = list(slot.train(job("counts", epochs=5, resume=b"3")))
    assert [event.metrics["counts"].epoch for event in events if isinstance(event, EpochEnd)] == [4, 5]


def test_stop_ends_a_job_with_a_checkpoint(slot: Slot) -> None:
    events: list[Event] = []
    for event in slot.train(job("waits")):
        events.append(event)
        if not isinstance(event, Alive):
            slot.stop()
    assert kinds(events) == [EpochEnd, Checkpoint, Stopped]
    slot.stop()  # nothing is under way: the next job must not feel it
    assert kinds(list(slot.train(job("counts"))))[-1] is Trained


@pytest.mark.parametrize("name", ["deaf", "waits"])
def test_kill_ends_a_job_at_once(slot: Slot, name: str) -> None:
    def train() -> None:
        for _ in slot.train(job(name)):
            slot.kill()

    with pytest.raises(TrainerDied, match=r"signal 9|was killed$"):
        train()


def test_a_trainer_that_dies_is_told_and_another_is_started(slot: Slot) -> None:
    with pytest.raises(TrainerDied, match=r"signal 9|process on the Ray cluster died$"):
        list(slot.train(job("dies")))
    assert kinds(list(slot.train(job("counts"))))[-1] is Trained


def test_a_trainer_that_says_nothing_for_too_long_is_killed(make_engine: MakeEngine) -> None:
    with contextlib.closing(make_engine(0.75).slot()) as slot:
        with pytest.raises(TrainerDied, match=r"nothing for 0\.75 s"):
            list(slot.train(job("deaf")))
        slot.warm_up()


def test_a_known_failure_has_its_code(slot: Slot) -> None:
    events = list(slot.train(job("diverges")))
    assert events[-1] == Failed(
        experiment_id="diverges", code="training_diverged", message="the loss became nan in epoch 1"
    )


def test_members_of_one_job_end_each_in_their_own_way(slot: Slot) -> None:
    ended: dict[str, type] = {}
    for event in slot.train(stacked(["counts", "diverges", "waits"], epochs=3)):
        if isinstance(event, EpochEnd):
            slot.stop("waits")
        elif isinstance(event, (Trained, Failed, Stopped)):
            ended[event.experiment_id] = type(event)
    assert ended == {"counts": Trained, "diverges": Failed, "waits": Stopped}


def test_every_member_is_told_of_a_failure_of_the_whole_job(slot: Slot) -> None:
    events = list(slot.train(stacked(["counts", "raises"])))
    assert {(e.experiment_id, e.code) for e in events if isinstance(e, Failed)} == {
        ("counts", "internal"),
        ("raises", "internal"),
    }


def test_each_member_resumes_from_its_own_checkpoint(slot: Slot) -> None:
    events = list(slot.train(stacked(["one", "two"], epochs=4, resume=(b"2", b"2"))))
    assert [sorted(event.metrics) for event in events if isinstance(event, EpochEnd)] == [["one", "two"]] * 2


def test_an_unexpected_failure_leaks_nothing_and_the_trainer_lives_on(slot: Slot) -> None:
    last = list(slot.train(job("raises")))[-1]
    assert isinstance(last, Failed)
    assert last.code == "internal"
    assert "secret" not in last.message
    assert kinds(list(slot.train(job("counts"))))[-1] is Trained


def test_events_nobody_wants_do_not_reach_the_next_job(slot: Slot) -> None:
    with contextlib.closing(slot.train(job("counts", epochs=50))) as events:
        next(events)
    events = slot.train(job("counts", epochs=1))
    assert kinds(list(events)) == [EpochEnd, Trained]


def test_stop_may_come_at_any_moment(slot: Slot) -> None:
    slot.warm_up()
    for _ in range(20):
        stopper = threading.Thread(target=slot.stop)
        stopper.start()
        events = list(slot.train(job("counts", epochs=3)))
        stopper.join()
        assert kinds(events)[-1] in {Trained, Stopped}
