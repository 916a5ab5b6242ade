"""The process that is part of the Ray cluster: turns jobs into tasks, and what tasks yield into messages.

Run as `python -m service.engines.ray_driver FD MODULE DATA_DIR DEMAND`. It is given a connection for each job through
the socket FD, and ends when that closes: so it never outlives its worker, and the cluster ends its tasks with it.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import orjson
import ray
from ray import exceptions as lost
from ray._private.state import available_resources_per_node  # in public Ray tells the sum of all nodes only
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from service import datasets
from service.domain.events import Alive, Event, Job, Stopped, Stops
from service.engines import ray_tasks
from service.engines.base import TrainerDied
from service.engines.environment import log_format, native_libraries_silenced
from service.engines.far_end import FarEnd
from service.engines.messages import assemble, frames
from service.engines.ray import Demand
from service.engines.ray_tasks import Remote
from service.telemetry import logs

log = logging.getLogger("epochd.ray")

PROBE_SECONDS = 3.0
JOIN_SECONDS = 30.0
BEGIN_SECONDS = 60.0
"""For a process to start that has room: Ray loses tasks at times, while nodes die, and says nothing of it."""
READY_SECONDS = 300.0
"""For that process to have its dataset and TensorFlow, which a busy node or a slow disk may take minutes for."""
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""For a node that could do the work to come back."""
PASSED_OVER_SECONDS = 20.0
"""For room that is there to be reserved."""
ANYWHERE = "DEFAULT"
"""Ray's own way to choose a node, without a reservation."""


class Unusable(Exception):
    """Nothing can be trained on this cluster. The text says why."""


def main(argv: list[str]) -> None:
    """Serve connections until the socket with this file descriptor closes."""
    logs.configure("info", log_format(), who=f"ray driver {os.getpid()}")
    logs.of_process(process="ray driver", pid=os.getpid())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides; Ctrl-C reaches the whole process group
    control = socket.socket(fileno=int(argv[0]))
    cluster: _Cluster | None = None
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            os._exit(0)  # Ray's own farewell may wait for a cluster that is gone
        place = _Place()
        far_end = FarEnd(Connection(descriptors[0]), gone=place.leave)
        if cluster is None:
            with _refusing(far_end):
                cluster = _Cluster(module=argv[1], data_dir=argv[2], demand=Demand(**orjson.loads(argv[3])))
        threading.Thread(target=place.serve, args=(far_end, cluster), daemon=True).start()


@contextlib.contextmanager
def _refusing(far_end: FarEnd) -> Iterator[None]:
    """Tell what keeps us from joining the cluster, and end: what Ray leaves behind then is not fit for a second try."""

    def refuse(reason: str) -> None:
        far_end.refuse(reason)
        os._exit(1)

    watchdog = threading.Timer(
        JOIN_SECONDS, refuse, [f"the Ray cluster at {_address()} did not answer within {JOIN_SECONDS:g} s"]
    )
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    except Unusable as error:
        refuse(str(error))
    finally:
        watchdog.cancel()


def _address() -> str:
    return os.environ.get("RAY_ADDRESS") or "auto"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _Cluster:
    """The cluster, once we are part of it."""

    def __init__(self, *, module: str, data_dir: str, demand: Demand) -> None:
        self.module = module
        self.demand = demand
        self.reserves = True
        """Whether the head has reserved room when it was asked last. Where it has not, nobody waits long for it."""
        self._data_dir = Path(data_dir)
        self._put: dict[str, Remote] = {}
        self._lock = threading.Lock()
        self._join()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.relay = ray_tasks.Relay.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        log.info("joined the Ray cluster at %s", _address())

    def _join(self) -> None:
        address = _address()
        if "://" in address:
            raise Unusable(f"RAY_ADDRESS is {address}: it has to be host:port, and this machine a node of the cluster")
        host, _, port = address.rpartition(":")
        if host:
            try:
                socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
            except (OSError, ValueError) as error:
                raise Unusable(f"the Ray cluster at {address} cannot be reached: {error}") from None
        try:
            with native_libraries_silenced():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            answers = "It answers" if host else "If it answers"
            hint = f". {answers}: has it another RAY_AUTH_TOKEN, or another version of Ray?"
            raise Unusable(f"{_first_line(error)}{hint}") from None
        except Exception as error:  # noqa: BLE001 - of many kinds, and each is for the operator to read
            raise Unusable(f"the Ray cluster at {address} does not take this machine: {_first_line(error)}") from None

    @property
    def bundle(self) -> dict[str, float]:
        """What a job takes, in Ray's words."""
        wanted = {"CPU": self.demand.cpus, "GPU": self.demand.gpus, **self.demand.resources}
        return {name: amount for name, amount in wanted.items() if amount}

    def require_feasible(self) -> None:
        """Refuse what no node could do, however long it waited.

        Raises:
            Unusable: no node has what a job takes, or it takes nothing.
        """
        if not self.bundle:
            raise Unusable("a training has to take something of its node: EPOCHD_RAY_CPUS, for one, is 0")
        if self.demand.autoscales:
            return
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        except Exception as error:  # noqa: BLE001 - the head may be away
            raise Unusable(f"the Ray cluster does not answer: {_first_line(error)}") from None
        if not any(all(node.get(name, 0) >= amount for name, amount in self.bundle.items()) for node in nodes):
            wanted = _listed(self.bundle)
            largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in self.bundle}
            raise Unusable(
                f"no node of the Ray cluster has {wanted}: the most on one of {len(nodes)} is {_listed(largest)}"
            )

    def has_room(self) -> bool:
        """Whether a node has so much free as a job takes. False where the head does not say."""
        try:
            nodes = available_resources_per_node().values()
        except Exception:  # noqa: BLE001 - the head may be away
            return False
        return any(all(node.get(name, 0) >= amount for name, amount in self.bundle.items()) for node in nodes)

    def dataset(self, name: str) -> Remote:
        """The file of a dataset in the cluster's object store.

        Raises:
            DatasetUnavailable: there is none.
        """
        with self._lock:
            if name not in self._put:
                self._put[name] = ray.put(datasets.packed(name, self._data_dir))
            return self._put[name]


def _listed(amounts: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items())


class _Place:
    """Where the job of one connection is."""

    def __init__(self) -> None:
        self._gone = threading.Event()
        self._task: Remote = None
        self._lock = threading.Lock()

    def leave(self) -> None:
        """Nobody wants the job any more: end its task."""
        with self._lock:
            self._gone.set()
            task = self._task
        if task is not None:
            _cancel(task)

    def serve(self, far_end: FarEnd, cluster: _Cluster) -> None:
        try:
            cluster.require_feasible()
        except Unusable as error:
            far_end.refuse(str(error))
        else:
            far_end.serve(lambda job, stops: self._train(cluster, job, stops))

    def _train(self, cluster: _Cluster, job: Job, stops: Stops) -> Iterator[Event]:
        key = uuid.uuid4().hex
        group = None
        try:
            group = placement_group([cluster.bundle])
            place = yield from self._reserve(cluster, group, job, stops)
            if place is not None:
                cluster.relay.begin.remote(key)
                stops.tell(lambda experiment_id: cluster.relay.stop.remote(key, experiment_id))
                yield from self._events(cluster, self._begin(cluster, place, key, job), reserved=place != ANYWHERE)
        except lost.RayError as error:
            raise TrainerDied(_how(error)) from None
        finally:
            with contextlib.suppress(lost.RayError):
                cluster.relay.end.remote(key)
                if group is not None:
                    remove_placement_group(group)

    def _reserve(self, cluster: _Cluster, group: Remote, job: Job, stops: Stops) -> Generator[Event, None, Remote]:
        """Wait for a node with room: that is no stall. Returns where to train, or None if there is nothing to train any
        more.
        """
        impossible_since: float | None = None
        passed_over_since: float | None = None
        while not group.wait(LOOK_SECONDS):
            if self._gone.is_set():
                return None
            if all(member.experiment_id in stops for member in job.members):
                for member in job.members:
                    yield Stopped(experiment_id=member.experiment_id)
                return None
            try:
                cluster.require_feasible()
                impossible_since = None
            except Unusable as error:
                impossible_since = impossible_since or time.monotonic()
                if time.monotonic() - impossible_since > PATIENCE_SECONDS:
                    raise TrainerDied(str(error), began=False) from None
            # A head that was reserving room on a node when that froze may never reserve any again.
            passed_over_since = (passed_over_since or time.monotonic()) if cluster.has_room() else None
            patience = PASSED_OVER_SECONDS if cluster.reserves else LOOK_SECONDS
            if passed_over_since is not None and time.monotonic() - passed_over_since > patience:
                cluster.reserves = False
                log.warning("the Ray cluster has room and reserves none: the work is given to it without a reservation")
                remove_placement_group(group)
                return ANYWHERE
            yield Alive()
        cluster.reserves = True
        return PlacementGroupSchedulingStrategy(group)

    def _begin(self, cluster: _Cluster, place: Remote, key: str, job: Job) -> Remote:
        name = job.members[0].spec.dataset
        task = ray_tasks.train.options(
            num_cpus=cluster.demand.cpus,
            num_gpus=cluster.demand.gpus,
            resources=cluster.demand.resources or None,
            scheduling_strategy=place,
        ).remote(cluster.module, cluster.relay, key, name, [cluster.dataset(name)], *frames(job))
        with self._lock:
            self._task = task
        if self._gone.is_set():  # since before there was a task to end
            self.leave()
        return task

    def _events(self, cluster: _Cluster, task: Remote, *, reserved: bool) -> Iterator[Event]:
        """What the task yields, as it comes. A process that starts, and imports TensorFlow, is no stall either; nor is
        waiting for room that is not reserved.
        """

        def next_frame() -> bytes:
            frame: bytes = ray.get(next(task))
            return frame

        yield from _within(
            BEGIN_SECONDS,
            task,
            "the Ray cluster did not begin the work",
            excused=lambda: not reserved and not cluster.has_room(),
        )
        next_frame()
        yield from _within(READY_SECONDS, task, "the trainer on the Ray cluster was not ready")
        next_frame()
        with contextlib.suppress(StopIteration):
            while True:
                yield assemble(next_frame)  # type: ignore[misc]  # tasks yield events


def _within(
    seconds: float, task: Remote, otherwise: str, excused: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """Wait for what the task yields next, so long at most while that is not excused.

    Raises:
        TrainerDied: nothing came, and the task is cancelled.
    """
    limit = time.monotonic() + seconds
    while not ray.wait([task], timeout=LOOK_SECONDS)[0]:
        if excused():
            limit = time.monotonic() + seconds
        if time.monotonic() > limit:
            _cancel(task)
            raise TrainerDied(f"{otherwise} within {seconds:g} s", began=False)
        yield Alive()


def _cancel(task: Remote) -> None:
    """End a task, if there is a cluster that can."""
    with contextlib.suppress(lost.RayError):
        ray.cancel(task, force=True)


def _how(error: lost.RayError) -> str:
    """A death in a few words."""
    if isinstance(error, lost.TaskCancelledError):
        return "the trainer was killed"
    if isinstance(error, lost.NodeDiedError):
        return "the trainer's node of the Ray cluster died"
    if isinstance(error, lost.WorkerCrashedError):
        return "the trainer's process on the Ray cluster died"
    if isinstance(error, lost.RayTaskError):
        log.warning("%s", error)
        return f"the trainer ended with {type(error.cause).__name__}"
    return f"Ray lost the trainer: {type(error).__name__}: {_first_line(error)}"


if __name__ == "__main__":
    main(sys.argv[1:])
