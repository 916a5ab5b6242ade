"""`epochd serve --processes`: many API processes on one port are one service."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import httpx
import psutil

from service.store.blobs import Blobs
from service.store.session import Database
from tests.acceptance.conftest import DEADLINE_SECONDS, serving
from tests.conftest import succeed

IMAGE = {"image": [0] * 300 + [255] * 184 + [0] * 300}


def servers(process: psutil.Process) -> list[psutil.Process]:
    """The further API processes that answer."""
    found = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too, is none
            if "--listener-fd" in child.cmdline():
                found.append(child)
    return found


def until(condition) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answering(url: str, model: str) -> set[str]:
    """Which experiments' models answer to many new connections, each of which any process may take."""
    found = set()
    for _ in range(30):
        answer = httpx.post(f"{url}/predict?model={model}", json=IMAGE, timeout=30).raise_for_status()
        found.add(json.loads(answer.content)["experiment_id"])
    return found


def test_processes_share_the_port_see_moved_aliases_and_are_kept_alive(data_dir: Path, tiny_onnx: bytes) -> None:
    with serving(data_dir, "--no-worker", "--processes", "3") as service:
        top = psutil.Process(service.process.pid)
        until(lambda: len(servers(top)) == 2)
        until(lambda: all(child.net_connections("tcp") for child in servers(top)))
        database, blobs = Database(f"sqlite:///{data_dir / 'epochd.sqlite3'}"), Blobs((data_dir / "blobs").as_uri())
        one, two = (succeed(database, blobs, tiny_onnx, accuracy=accuracy) for accuracy in (0.5, 0.6))
        database.close()

        service.http.put("/models/mine", json={"experiment_id": one.id}).raise_for_status()
        assert answering(service.url, "mine") == {one.id}
        service.http.put("/models/mine", json={"experiment_id": two.id}).raise_for_status()
        until(lambda: answering(service.url, "mine") == {two.id})

        victim = servers(top)[0]
        victim.kill()
        until(lambda: len([child for child in servers(top) if child.pid != victim.pid]) == 2)
        assert answering(service.url, "best") == {two.id}
        everyone = service.processes()
        assert service.stop() == 0
    _, alive = psutil.wait_procs(everyone, timeout=20)
    assert alive == []


def test_when_the_first_process_is_killed_the_others_end_too(data_dir: Path) -> None:
    with serving(data_dir, "--no-worker", "--processes", "2") as service:
        top = psutil.Process(service.process.pid)
        until(lambda: len(servers(top)) == 1)
        others = servers(top)
        os.kill(top.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(others, timeout=30)
        assert alive == []
