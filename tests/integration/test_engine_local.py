"""The processes of the local engine."""

import contextlib
import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.engines.base import Slot, TrainerDied
from service.engines.local import LocalEngine
from tests.jobs import job

pytestmark = pytest.mark.slow


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=600, trainer="tests.trainers")
    with contextlib.closing(engine.slot()) as slot:
        yield slot


def trainers(of: int | None = None) -> list[psutil.Process]:
    """Trainers that this process has started, or another."""
    return [
        child
        for child in psutil.Process(of).children()
        if child.status() != psutil.STATUS_ZOMBIE and "service.engines.trainer" in child.cmdline()
    ]


def test_one_warm_trainer_does_one_job_after_another(slot: Slot) -> None:
    slot.warm_up()
    (before,) = trainers()
    for name in ("counts", "waits", "counts"):
        for _ in slot.train(job(name)):
            slot.stop()
        slot.warm_up()
    assert trainers() == [before]


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


def test_a_trainer_that_cannot_start_is_told(tmp_path: Path) -> None:
    engine = LocalEngine(data_dir=tmp_path, stall_seconds=600, trainer="tests.no_such_module")
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
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"warm\n"
        (child,) = trainers(parent.pid)
        folder = folder_of(child)
        parent.kill()
    child.wait(timeout=30)
    assert not folder.exists()


def test_trainers_that_cannot_be_started_leave_nothing(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    for _ in range(3):
        with pytest.raises(OSError, match="no-python"):
            slot.warm_up()
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    held = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert [path for path in held if str(tmp_path) in path] == []


def test_a_trainer_holds_no_credentials(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"EPOCHD_DATABASE_URL": "postgresql://a:b@c/d", "PGPASSWORD": "b", "AWS_SECRET_ACCESS_KEY": "e"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    slot.warm_up()
    (trainer,) = trainers()
    assert not secrets.keys() & trainer.environ().keys()


def test_kill_leaves_no_process(slot: Slot) -> None:
    def train() -> None:
        for _ in slot.train(job("deaf")):
            slot.kill()

    with pytest.raises(TrainerDied, match="signal 9"):
        train()
    assert trainers() == []
