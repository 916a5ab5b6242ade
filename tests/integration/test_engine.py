"""What every engine must do, shown on the local one with real trainer processes."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.domain.events import Alive, Checkpoint, EpochEnd, Event, Failed, Job, Member, Stopped, Trained
from service.domain.experiment import Spec
from service.engines.base import Slot, TrainerDied
from service.engines.local import LocalEngine


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=30, trainer="tests.trainers")
    with contextlib.closing(engine.slot()) as slot:
        yield slot


def job(name: str, *, epochs: int = 2, attempt: int = 1, resume: bytes | None = None) -> Job:
    return stacked([name], epochs=epochs, attempt=attempt, resume=() if resume is None else (resume,))


def stacked(names: list[str], *, epochs: int = 2, attempt: int = 1, resume: tuple[bytes, ...] = ()) -> Job:
    return Job(
        members=tuple(
            Member(experiment_id=name, attempt=attempt, spec=Spec(activation="relu", depth=1, epochs=epochs, name=name))
            for name in names
        ),
        data_dir="unused",
        checkpoint_seconds=5,
        resume=resume,
    )


def trainers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "service.engines.trainer" in child.cmdline()
    ]


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def test_events_come_in_order_with_their_bytes_whole(slot: Slot) -> None:
    slot.warm_up()
    events = list(slot.train(job("counts")))
    assert kinds(events) == [EpochEnd, Alive, EpochEnd, Alive, Trained]
    assert isinstance(events[0], EpochEnd)
    assert events[0].metrics["counts"].gradient_norms == (0.1, 0.2)
    assert isinstance(events[-1], Trained)
    assert events[-1].onnx == bytes(range(256)) * 100


def test_one_warm_trainer_does_one_job_after_another(slot: Slot) -> None:
    slot.warm_up()
    (before,) = trainers()
    for _ in range(3):
        list(slot.train(job("counts")))
        slot.warm_up()
    assert trainers() == [before]


def test_a_job_begins_after_the_epoch_it_resumes_from(slot: Slot) -> None:
    events = list(slot.train(job("counts", epochs=5, resume=b"3")))
    assert [event.metrics["counts"].epoch for event in events if isinstance(event, EpochEnd)] == [4, 5]


def test_stop_ends_a_job_with_a_checkpoint_and_keeps_the_trainer(slot: Slot) -> None:
    slot.warm_up()
    (before,) = trainers()
    events = []
    for event in slot.train(job("waits")):
        events.append(event)
        slot.stop()
    assert kinds(events) == [EpochEnd, Checkpoint, Stopped]
    slot.stop()  # nothing is under way: the next job must not feel it
    assert kinds(list(slot.train(job("counts"))))[-1] is Trained
    assert trainers() == [before]


@pytest.mark.parametrize("name", ["deaf", "waits"])
def test_kill_ends_a_job_at_once(slot: Slot, name: str) -> None:
    def train() -> None:
        for _ in slot.train(job(name)):
            slot.kill()

    with pytest.raises(TrainerDied, match="signal 9"):
        train()
    assert trainers() == []


def test_a_trainer_that_dies_is_told_and_another_is_started(slot: Slot) -> None:
    with pytest.raises(TrainerDied, match="signal 9"):
        list(slot.train(job("dies")))
    assert kinds(list(slot.train(job("counts"))))[-1] is Trained


def test_a_trainer_that_says_nothing_for_too_long_is_killed(tmp_path: Path) -> None:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=0.2, trainer="tests.trainers")
    with contextlib.closing(engine.slot()) as slot, pytest.raises(TrainerDied, match=r"nothing for 0\.2 s"):
        list(slot.train(job("deaf")))
    assert trainers() == []


def test_a_trainer_that_does_not_read_its_job_is_killed_and_holds_up_nobody(tmp_path: Path) -> None:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=1.5, trainer="tests.trainers")
    with contextlib.closing(engine.slot()) as slot:
        slot.warm_up()
        (frozen,) = trainers()
        frozen.suspend()
        told: list[str] = []

        def train() -> None:
            try:
                list(slot.train(job("counts", resume=b"0" * 10_000_000)))
            except TrainerDied as error:
                told.append(str(error))

        training = threading.Thread(target=train)
        training.start()
        while training.is_alive():
            slot.stop()  # comes back at once, or the thread that supervises would be held up
            training.join(0.01)
        assert told == ["the trainer said nothing for 1.5 s and was killed"]
        assert trainers() == []


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
    assert kinds(list(events)) == [EpochEnd, Alive, Trained]


def test_a_trainer_that_cannot_start_is_told(tmp_path: Path) -> None:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=30, trainer="tests.no_such_module")
    with contextlib.closing(engine.slot()) as slot, pytest.raises(TrainerDied, match="exit code 1"):
        slot.warm_up()


def folder_of(trainer: psutil.Process) -> Path:
    """Where its temporary files are."""
    folder = Path(trainer.environ()["TMPDIR"])
    assert folder.is_dir()
    (folder / "left behind").touch()
    return folder


def test_close_leaves_no_process_and_no_file(slot: Slot) -> None:
    slot.warm_up()
    (trainer,) = trainers()
    folder = folder_of(trainer)
    slot.close()
    assert trainers() == []
    assert not folder.exists()


def test_a_trainer_that_was_killed_leaves_no_file(slot: Slot) -> None:
    slot.warm_up()
    (trainer,) = trainers()
    folder = folder_of(trainer)
    trainer.kill()
    with contextlib.suppress(TrainerDied):  # unless the death was noticed before, and another was started
        list(slot.train(job("counts")))
    assert not folder.exists()


def test_a_trainer_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from service.engines.local import LocalEngine\n"
        "slot = LocalEngine(data_dir=pathlib.Path('.'), stall_seconds=30, trainer='tests.trainers').slot()\n"
        "slot.warm_up()\n"
        "print('warm', flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline() == b"warm\n"
    (child,) = trainers()
    folder = folder_of(child)
    parent.kill()
    parent.wait()
    child.wait(timeout=30)
    assert not folder.exists()
    parent.stdin.close()
    parent.stdout.close()


def test_stop_may_come_at_any_moment(slot: Slot) -> None:
    slot.warm_up()
    for _ in range(20):
        stopper = threading.Thread(target=slot.stop)
        stopper.start()
        events = list(slot.train(job("counts", epochs=3)))
        stopper.join()
        assert kinds(events)[-1] in {Trained, Stopped}


def test_a_trainer_holds_no_credentials(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"EPOCHD_DATABASE_URL": "postgresql://a:b@c/d", "PGPASSWORD": "b", "AWS_SECRET_ACCESS_KEY": "e"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    slot.warm_up()
    (trainer,) = trainers()
    assert not secrets.keys() & trainer.environ().keys()
