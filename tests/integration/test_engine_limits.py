"""What trainers may take of their machine, and that they need no network: real processes."""

import contextlib
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service import datasets
from service.domain.events import Failed, Job, Member, Trained
from service.domain.experiment import Spec
from service.engines.limits import Limits
from service.engines.local import LocalEngine
from service.errors import DatasetUnavailable
from service.settings import Settings
from service.worker import process
from tests.integration.test_engine_local import trainers
from tests.jobs import job, kinds, stacked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
]

GIB = 2**30


def engine(folder: Path, limits: Limits) -> LocalEngine:
    return LocalEngine(data_dir=folder, stall_seconds=60, trainer="tests.trainers", limits=limits)


def test_memory_that_is_not_given_fails_the_job_and_not_the_trainer(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, Limits(memory_bytes=GIB)).slot()) as slot:
        *_, end = slot.train(job("eats memory"))
        assert isinstance(end, Failed)
        assert (end.code, end.message) == ("out_of_memory", "the trainer was given no more memory")
        (before,) = trainers()
        assert isinstance(list(slot.train(job("counts")))[-1], Trained)
        assert trainers() == [before]


def test_a_network_that_cannot_fit_fails_before_it_begins(tmp_path: Path) -> None:
    large = Spec(activation="relu", depth=8, units=1024, batch_size=60_000, name="counts")
    order = Job(
        members=(Member(experiment_id="large", attempt=1, spec=large),), data_dir=str(tmp_path), checkpoint_seconds=5
    )
    with contextlib.closing(engine(tmp_path, Limits(memory_bytes=4 * GIB)).slot()) as slot:
        (only,) = slot.train(order)
        assert isinstance(only, Failed)
        assert only.code == "out_of_memory"
        assert "takes about 7.5 GiB to train, and a trainer has 4.0 GiB in all" in only.message
        assert isinstance(list(slot.train(job("counts")))[-1], Trained)


def test_a_job_that_computes_for_too_long_fails_with_what_it_has_measured(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, Limits(cpu_seconds=0.1)).slot()) as slot:
        *said, end = slot.train(job("computes", epochs=1000))
        assert kinds(said)
        assert isinstance(end, Failed)
        assert end.code == "cpu_time_exceeded"
        assert "more than 0.1 seconds of processor time" in end.message
        assert isinstance(list(slot.train(job("counts")))[-1], Trained)


def test_what_is_trained_to_its_end_is_not_thrown_away(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, Limits(cpu_seconds=0.1)).slot()) as slot:
        assert isinstance(list(slot.train(job("computes", epochs=2)))[-1], Trained)


def test_members_of_a_stack_have_their_time_together(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, Limits(cpu_seconds=3600)).slot()) as slot:
        assert kinds(list(slot.train(stacked(["computes", "counts"]))))[-2:] == [Trained, Trained]


def test_a_trainer_has_few_files_and_leaves_no_core(tmp_path: Path) -> None:
    with contextlib.closing(engine(tmp_path, Limits(memory_bytes=3 * GIB)).slot()) as slot:
        slot.warm_up()
        (trainer,) = trainers()
        assert trainer.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert trainer.rlimit(psutil.RLIMIT_NOFILE)[1] <= 1024
        assert trainer.rlimit(psutil.RLIMIT_DATA) == (3 * GIB, 3 * GIB)


def test_datasets_are_provided_once_and_before_the_trainer_reads_them(tmp_path: Path) -> None:
    provided: list[str] = []

    def provide(name: str) -> None:
        provided.append(name)
        (tmp_path / f"{name}.npz").touch()

    kept = LocalEngine(data_dir=tmp_path, stall_seconds=60, trainer="tests.trainers", provide=provide)
    with contextlib.closing(kept.slot()) as one, contextlib.closing(kept.slot()) as other:
        one.warm_up()
        assert provided == ["mnist"]
        for slot in (one, other):
            list(slot.train(job("counts")))
    assert provided == ["mnist"]


def test_a_dataset_that_is_deleted_or_changed_is_had_again_before_the_next_job(mnist_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    provide = functools.partial(datasets.load, folder=folder, path=mnist_dir / "mnist.npz")
    kept = LocalEngine(data_dir=folder, stall_seconds=60, trainer="tests.trainers", provide=provide)
    order = stacked(["reads its dataset"], epochs=1, data_dir=folder)
    file = folder / "mnist.npz"
    with contextlib.closing(kept.slot()) as slot:
        for harm in (folder.exists, file.unlink, lambda: file.write_bytes(b"none"), lambda: shutil.rmtree(folder)):
            harm()
            assert isinstance(list(slot.train(order))[-1], Trained)


def test_a_new_trainer_of_a_worker_has_its_dataset_again_from_where_the_operator_keeps_it(
    mnist_dir: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, mnist_path=mnist_dir / "mnist.npz")
    order = stacked(["a"], epochs=1, data_dir=settings.datasets_dir)
    kept = process._engine(settings)
    with contextlib.closing(kept.slot()) as first:
        first.warm_up()
    shutil.rmtree(settings.datasets_dir)
    with contextlib.closing(kept.slot()) as second:  # its trainer has nothing in memory
        assert isinstance(list(second.train(order))[-1], Trained)


def test_a_dataset_that_cannot_be_had_fails_the_job_and_is_tried_again_for_the_next(tmp_path: Path) -> None:
    tried: list[str] = []

    def provide(name: str) -> None:
        tried.append(name)
        raise DatasetUnavailable("nobody has it")

    lost = LocalEngine(data_dir=tmp_path, stall_seconds=60, trainer="tests.trainers", provide=provide)
    with contextlib.closing(lost.slot()) as slot:
        for _ in range(2):
            (first, second) = slot.train(stacked(["a", "b"]))
            assert first == Failed(experiment_id="a", code="dataset_unavailable", message="nobody has it")
            assert second == Failed(experiment_id="b", code="dataset_unavailable", message="nobody has it")
    assert len(tried) >= 2


WITHOUT_NETWORK = """
import contextlib, pathlib, socket, sys
from service.domain.events import Job, Member
from service.domain.experiment import Spec
from service.engines.limits import Limits
from service.engines.local import LocalEngine
from tests.jobs import kinds, stacked
with socket.socket() as probe:
    assert probe.connect_ex(("192.0.2.1", 80)) != 0
folder = pathlib.Path(sys.argv[1])
engine = LocalEngine(data_dir=folder, stall_seconds=120, limits=Limits(memory_bytes=2 * 2**30, cpu_seconds=600))
large = Member(experiment_id="b", attempt=1, spec=Spec(activation="relu", depth=8, units=1024, batch_size=60_000))
with contextlib.closing(engine.slot()) as slot:
    (failed,) = slot.train(Job(members=(large,), data_dir=str(folder), checkpoint_seconds=60))
    print(failed.code)
    print(*[kind.__name__ for kind in kinds(list(slot.train(stacked(["a"], epochs=1, data_dir=folder))))])
"""


def isolating() -> bool:
    """Whether this machine lets us have a network of nothing."""
    command = shutil.which("unshare")
    return (
        command is not None
        and subprocess.run([command, "-n", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not isolating(), reason="a network namespace needs root on Linux, and util-linux")
def test_a_trainer_of_tensorflow_trains_within_its_limits_without_any_network(mnist_dir: Path) -> None:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", WITHOUT_NETWORK, str(mnist_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.stdout.split() == ["out_of_memory", "EpochEnd", "Trained"], done.stderr
