"""The Ray engine on real clusters: what it refuses, what it waits for, and what dies under it."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.domain.events import Alive, EpochEnd, Event, Failed, Stopped, Trained
from service.engines.base import Slot, TrainerDied
from service.engines.local import LocalEngine
from service.engines.ray import Demand, RayEngine
from tests.jobs import job, kinds, stacked
from tests.ray_cluster import RayCluster, ray_cluster

pytestmark = pytest.mark.slow

STALL_SECONDS = 8
"""More than a busy machine takes from the beginning of a job to its first event."""


def engine(data_dir: Path, *, stall: float = 600, trainer: str = "tests.trainers", **demand: Any) -> RayEngine:
    return RayEngine(data_dir=data_dir, stall_seconds=stall, demand=Demand(**demand), trainer=trainer)


def drivers(of: int | None = None) -> list[psutil.Process]:
    """Drivers that this process has started, or another."""
    return [
        child
        for child in psutil.Process(of).children()
        if child.status() != psutil.STATUS_ZOMBIE and "service.engines.ray_driver" in child.cmdline()
    ]


class Training(threading.Thread):
    """A job in a thread of its own, with what it said."""

    def __init__(self, slot: Slot, name: str) -> None:
        super().__init__(daemon=True)
        self._slot, self._name = slot, name
        self.events: list[Event] = []
        self.died = ""
        self._said = threading.Condition()
        self.start()

    def run(self) -> None:
        try:
            for event in self._slot.train(job(self._name)):
                with self._said:
                    self.events.append(event)
                    self._said.notify_all()
        except TrainerDied as error:
            self.died = str(error)
        with self._said:
            self._said.notify_all()

    def until(self, kind: type, times: int = 1) -> Event:
        """The event of this kind that was said last, once it was said so often."""
        with self._said:
            assert self._said.wait_for(lambda: sum(isinstance(one, kind) for one in self.events) >= times, 60), (
                self.died
            )
            return [one for one in self.events if isinstance(one, kind)][-1]

    def ended(self) -> str:
        """How it died, or nothing."""
        self.join(60)
        assert not self.is_alive()
        return self.died


@pytest.mark.usefixtures("ray_cluster_of_one")
class TestOnOneNode:
    """What is asked of a cluster."""

    @pytest.mark.parametrize(
        ("demand", "message"),
        [
            ({"cpus": 64}, "no node of the Ray cluster has 64 CPU: the most on one of 1 is 2 CPU"),
            ({"gpus": 3}, "has 1 CPU and 3 GPU: the most on one of 1 is 2 CPU and 1 GPU"),
            ({"cpus": 0, "resources": {"tpu": 1}}, "has 1 tpu: the most on one of 1 is 0 tpu"),
            ({"cpus": 0}, "a training has to take something of its node: EPOCHD_RAY_CPUS, for one"),
        ],
        ids=["CPUs", "GPUs", "others", "nothing"],
    )
    def test_what_no_node_has_is_refused_and_not_waited_for(
        self, mnist_dir: Path, demand: dict[str, Any], message: str
    ) -> None:
        with contextlib.closing(engine(mnist_dir, **demand).slot()) as slot:
            with pytest.raises(TrainerDied, match=message) as refused:
                slot.warm_up()
            assert not refused.value.began
        assert drivers() == []

    def test_a_job_has_the_devices_that_it_asks_for(self, mnist_dir: Path) -> None:
        with contextlib.closing(engine(mnist_dir, gpus=1, resources={"highmem": 0.5}).slot()) as slot:
            training = Training(slot, "tells its devices and process")
            told = training.until(Failed)
            assert isinstance(told, Failed)
            devices, process = told.message.split()
            assert devices == "0"
            slot.kill()
            assert training.ended() == "the trainer was killed"
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(int(process)).wait(30)

    def test_waiting_for_room_is_no_stall_and_can_be_stopped_and_killed(self, mnist_dir: Path) -> None:
        patient, strict = engine(mnist_dir, cpus=2), engine(mnist_dir, cpus=2, stall=STALL_SECONDS)
        with contextlib.closing(patient.slot()) as first, contextlib.closing(strict.slot()) as second:
            training = Training(first, "waits")
            training.until(EpochEnd)
            waiting = Training(second, "counts")
            waiting.until(Alive, STALL_SECONDS + 2)
            second.stop()
            waiting.until(Stopped)
            assert waiting.ended() == ""
            waiting = Training(second, "counts")
            waiting.until(Alive)
            second.kill()
            assert waiting.ended() == "the trainer was killed"
            waiting = Training(second, "counts")
            waiting.until(Alive)
            first.stop()
            training.until(Stopped)
            waiting.until(Trained)

    def test_a_stack_is_trained_with_the_same_bits_as_on_this_machine(self, mnist_dir: Path) -> None:
        def weights(slot: Slot) -> dict[str, str]:
            with contextlib.closing(slot):
                events = list(slot.train(stacked(["a", "b", "c"], epochs=1, data_dir=mnist_dir)))
            return {one.experiment_id: one.weights_sha256 for one in events if isinstance(one, Trained)}

        here = weights(LocalEngine(data_dir=mnist_dir, stall_seconds=60).slot())
        assert len(set(here.values())) == 3
        assert weights(engine(mnist_dir, stall=60, trainer="service.training.fit").slot()) == here

    def test_a_driver_that_dies_or_freezes_is_replaced(self, mnist_dir: Path) -> None:
        with contextlib.closing(engine(mnist_dir, stall=STALL_SECONDS).slot()) as slot:
            training = Training(slot, "waits")
            training.until(EpochEnd)
            (driver,) = drivers()
            driver.kill()
            assert training.ended() == "the Ray driver ended with exit code -9"
            training = Training(slot, "waits")
            training.until(EpochEnd)
            (driver,) = drivers()
            driver.suspend()
            assert training.ended() == f"the trainer said nothing for {STALL_SECONDS} s and was killed"
            driver.resume()
            assert kinds(list(slot.train(job("counts"))))[-1] is Trained
        assert drivers() == []

    def test_driver_and_tasks_end_when_the_worker_is_killed(self, mnist_dir: Path) -> None:
        program = (
            "import sys, pathlib\n"
            "from service.engines.ray import Demand, RayEngine\n"
            "from tests.jobs import job\n"
            f"data_dir = pathlib.Path({str(mnist_dir)!r})\n"
            "engine = RayEngine(data_dir=data_dir, stall_seconds=30, demand=Demand(), trainer='tests.trainers')\n"
            "for event in engine.slot().train(job('tells its devices and process')):\n"
            "    print(getattr(event, 'message', ''), flush=True)\n"
        )
        worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        with worker.stdout:
            told = next(line for line in worker.stdout if line.strip())
            task = psutil.Process(int(told.split()[1]))
            (driver,) = drivers(worker.pid)
            worker.kill()
            worker.wait()
            assert psutil.wait_procs([driver, task], timeout=30)[1] == []

    @pytest.mark.parametrize(
        ("module", "limit", "demand", "told"),
        [
            # So does Ray lose tasks while nodes die: no node ever has what this one asks for.
            (
                "tests.trainers",
                "BEGIN_SECONDS",
                "resources={'nowhere': 1}, autoscales=True",
                "the Ray cluster did not begin the work",
            ),
            ("tests.cold_trainers", "READY_SECONDS", "", "the trainer on the Ray cluster was not ready"),
        ],
    )
    def test_work_that_is_given_and_never_begun_is_given_back(
        self, mnist_dir: Path, module: str, limit: str, demand: str, told: str
    ) -> None:
        program = (
            "import pathlib, ray\n"
            "from service.engines import ray_driver\n"
            "from service.engines.base import TrainerDied\n"
            "from service.engines.ray import Demand\n"
            "from tests.jobs import job\n"
            f"ray_driver.{limit} = 3\n"
            f"demand = Demand({demand})\n"
            f"cluster = ray_driver._Cluster(module={module!r}, data_dir={str(mnist_dir)!r}, demand=demand)\n"
            "place = ray_driver._Place()\n"
            "task = place._begin(cluster, ray_driver.ANYWHERE, 'key', job('counts'))\n"
            "try:\n"
            "    list(place._events(cluster, task, reserved=True))\n"
            "except TrainerDied as death:\n"
            "    print(f'{death}, began: {death.began}')\n"
            "try:\n"
            "    ray.get(next(task))\n"
            "except ray.exceptions.TaskCancelledError:\n"
            "    print('it is cancelled')\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=90)
        assert done.stdout == f"{told} within 3 s, began: False\nit is cancelled\n", done.stderr

    def test_a_process_tells_that_it_is_there_before_it_reads_tensorflow(self, mnist_dir: Path) -> None:
        """Which takes longer on a busy node than a task may go unheard of, and is no reason to give it again."""
        program = (
            "import ray\n"
            "from service.engines import ray_driver\n"
            "from service.engines.ray import Demand\n"
            "from tests.jobs import job\n"
            "module = 'tests.cold_trainers'\n"
            f"cluster = ray_driver._Cluster(module=module, data_dir={str(mnist_dir)!r}, demand=Demand())\n"
            "place = ray_driver._Place()\n"
            "task = place._begin(cluster, ray_driver.ANYWHERE, 'key', job('counts'))\n"
            "print(ray.get(next(task)))\n"
            "place.leave()\n"
            "try:\n"
            "    ray.get(next(task))\n"
            "except ray.exceptions.RayError as error:\n"
            "    print(ray_driver._how(error))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=90)
        assert done.stdout == "b''\nthe trainer was killed\n", done.stderr

    def test_a_driver_knows_no_secrets(self, mnist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secrets = {"EPOCHD_DATABASE_URL": "postgresql://a:b@c/d", "PGPASSWORD": "b", "AWS_SECRET_ACCESS_KEY": "e"}
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(engine(mnist_dir).slot()) as slot:
            slot.warm_up()
            (driver,) = drivers()
            assert not secrets.keys() & driver.environ().keys()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "the Ray cluster at 127.0.0.1:1 cannot be reached: .*refused"),
        ("no-such-host.invalid:6379", "the Ray cluster at no-such-host.invalid:6379 cannot be reached"),
        ("127.0.0.1:x", "cannot be reached: invalid literal"),
        ("ray://127.0.0.1:10001", "it has to be host:port, and this machine a node of the cluster"),
    ],
)
def test_an_address_without_a_cluster_is_told(
    mnist_dir: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with contextlib.closing(engine(mnist_dir).slot()) as slot, pytest.raises(TrainerDied, match=message):
        slot.warm_up()


def test_a_token_that_is_missing_or_wrong_is_told(
    ray_cluster_of_one: RayCluster, mnist_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another" * 6)
    with (
        contextlib.closing(engine(mnist_dir).slot()) as slot,
        pytest.raises(TrainerDied, match="It answers: has it another RAY_AUTH_TOKEN"),
    ):
        slot.warm_up()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with contextlib.closing(engine(mnist_dir).slot()) as slot, pytest.raises(TrainerDied, match="no authentication"):
        slot.warm_up()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[RayCluster]:
    """A head that trains nothing, and further nodes as a test adds them."""
    with ray_cluster(num_cpus=0) as cluster:
        yield cluster


@pytest.fixture
def nodes(two_nodes: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Adds nodes of the test's own, which it may hurt."""
    for name, value in two_nodes.environment.items():
        monkeypatch.setenv(name, value)
    numbers: list[int] = []

    def add(**options: Any) -> int:
        numbers.append(two_nodes.add(**options))
        return numbers[-1]

    yield add
    for number in numbers:
        two_nodes.kill(number)


@pytest.fixture
def node(nodes: Callable[..., int]) -> int:
    """One of them, with one CPU."""
    return nodes(num_cpus=1)


def test_a_nodes_death_is_told_and_another_node_goes_on(
    two_nodes: RayCluster, nodes: Callable[..., int], node: int, mnist_dir: Path
) -> None:
    with contextlib.closing(engine(mnist_dir).slot()) as slot:
        training = Training(slot, "waits")
        training.until(EpochEnd)
        two_nodes.kill(node)
        assert training.ended() in {
            "the trainer's node of the Ray cluster died",
            "the trainer's process on the Ray cluster died",
        }
        nodes(num_cpus=1)
        assert kinds(list(slot.train(job("counts"))))[-1] is Trained


def test_a_node_that_freezes_ends_as_a_stall(
    two_nodes: RayCluster, nodes: Callable[..., int], node: int, mnist_dir: Path
) -> None:
    with contextlib.closing(engine(mnist_dir, stall=3).slot()) as slot:  # sooner than the cluster notices
        training = Training(slot, "waits")
        training.until(EpochEnd)
        two_nodes.signal(node, signal.SIGSTOP)
        assert training.ended() == "the trainer said nothing for 3 s and was killed"
        nodes(num_cpus=1)
        for _ in range(10):  # until the cluster has noticed
            with contextlib.suppress(TrainerDied):
                if kinds(list(slot.train(job("counts"))))[-1] is Trained:
                    break
        else:
            pytest.fail("nothing was trained on the other node")


def test_work_that_is_given_up_while_its_room_is_reserved_on_a_frozen_node_holds_up_nobody(
    two_nodes: RayCluster, nodes: Callable[..., int], node: int, mnist_dir: Path
) -> None:
    """Ray's head may wait for that node's answer for ever, and reserve nothing for anybody else meanwhile."""
    with contextlib.closing(engine(mnist_dir).slot()) as slot:
        slot.warm_up()
        two_nodes.signal(node, signal.SIGSTOP)
        training = Training(slot, "waits")
        training.until(Alive)
        slot.kill()
        assert training.ended() == "the trainer was killed"
        nodes(num_cpus=1)
        assert kinds(list(slot.train(job("counts"))))[-1] is Trained


def test_room_that_is_in_pieces_on_several_nodes_is_waited_for(
    nodes: Callable[..., int], mnist_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        nodes(num_cpus=2, resources={name: 1})
    with contextlib.ExitStack() as slots:
        holders = []
        for name in ("a", "b"):
            slot = slots.enter_context(contextlib.closing(engine(mnist_dir, cpus=1, resources={name: 1}).slot()))
            Training(slot, "waits").until(EpochEnd)
            holders.append(slot)
        wide = slots.enter_context(contextlib.closing(engine(mnist_dir, cpus=2).slot()))
        waiting = Training(wide, "counts")
        waiting.until(Alive, 25)  # longer than room that is there may be passed over
        holders[0].kill()
        waiting.until(Trained)
    assert "without a reservation" not in capfd.readouterr().err


def test_the_heads_death_is_told(mnist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    with ray_cluster(num_cpus=1) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(engine(mnist_dir).slot()) as slot:
            training = Training(slot, "waits")
            training.until(EpochEnd)
            cluster.kill(0)
            assert training.ended() != ""
            with pytest.raises(TrainerDied, match="cannot be reached"):
                slot.warm_up()
