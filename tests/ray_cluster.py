"""A real Ray cluster of several nodes on this machine, which can be hurt."""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

__all__ = ["RayCluster", "ray_cluster"]

TOKEN = "t" * 40
SYSTEM = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 1000}
"""A cluster that notices a dead node in seconds, as its defaults do in half a minute."""


class RayCluster:
    """A head and further nodes, each known by the number that `add` gave."""

    def __init__(self, **head: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._folder = tempfile.mkdtemp(prefix="r-", dir="/tmp")  # sockets lie in it, whose paths may not be long
        self._head = {
            "include_dashboard": False,
            "temp_dir": self._folder,
            "gcs_server_port": port,
            "_system_config": SYSTEM,
        } | head
        self.start()
        self.environment = {"RAY_ADDRESS": self._cluster.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        """How to be part of it."""

    def start(self) -> None:
        """A head, at the address that every head of this cluster has."""
        import ray  # which reads the environment only once: not before the token is in it
        from ray._private.utils import get_ray_address_file
        from ray.cluster_utils import Cluster

        ray.shutdown()
        # Only a head in the default folder makes it, and every head writes its address there.
        Path(get_ray_address_file(None)).parent.mkdir(exist_ok=True)
        self._cluster = Cluster(initialize_head=True, head_node_args=self._head)
        self._nodes: list[Any] = [self._cluster.head_node]

    def add(self, **options: Any) -> int:
        """Another node; its number. The head's is 0."""
        self._nodes.append(self._cluster.add_node(**options))
        return len(self._nodes) - 1

    def processes(self, number: int) -> list[psutil.Process]:
        """All of a node's, with its workers'."""
        found = []
        for kind in self._nodes[number].all_processes.values():
            for info in kind:
                with contextlib.suppress(psutil.NoSuchProcess):
                    top = psutil.Process(info.process.pid)
                    found += [top, *top.children(recursive=True)]
        return found

    def tasks(self) -> list[psutil.Process]:
        """Those that train, on any node."""
        found = []
        for number in range(len(self._nodes)):
            for process in self.processes(number):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.cmdline()[:1] == ["ray::train"]:
                        found.append(process)
        return found

    def signal(self, number: int, what: int) -> None:
        """Send a signal to every process of a node."""
        for process in self.processes(number):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def kill(self, number: int) -> None:
        """End a node as a power cut does."""
        self.signal(number, signal.SIGKILL)

    def kill_all(self) -> None:
        """End every node, the head too."""
        for number in range(len(self._nodes)):
            self.kill(number)
        self._cluster.shutdown()

    def close(self) -> None:
        """Leave no process and no file behind, also of nodes that `ray start` added."""
        self.kill_all()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(self._folder in argument for argument in process.cmdline()):
                    process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def ray_cluster(**head: Any) -> Iterator[RayCluster]:
    """A cluster with a token, and a head with these options."""
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    with mock.patch.dict(os.environ, environment):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # training that was imported here has set it, and nodes inherit it
        with contextlib.closing(RayCluster(**head)) as cluster:
            yield cluster
