"""A real object store that speaks S3 over HTTP: a SeaweedFS server, with its files in a folder of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import SystemRandom
from typing import Literal

import httpx
import obstore
from obstore.store import S3Store

WEED = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
SECRET = "never-to-be-shown"
BUCKET = "models"
DEADLINE_SECONDS = 120


class ObjectServer:
    """One server, which keeps what it has when it is killed. `epochd` may do all, `reader` may only read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir()
        identities = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
            for name, actions in (("epochd", ["Admin"]), ("reader", [f"Read:{BUCKET}", f"List:{BUCKET}"]))
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        self._ports = free_ports(8)
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "epochd",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
        self.start()
        self.bucket("PUT", BUCKET)
        self._write()

    def start(self) -> None:
        assert WEED is not None
        names = ("s3", "s3.port.grpc", "master", "master.port.grpc", "volume", "volume.port.grpc", "filer",
                 "filer.port.grpc")  # fmt: skip
        ports = [
            f"-{name if 'port' in name else f'{name}.port'}={port}"
            for name, port in zip(names, self._ports, strict=True)
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [WEED, "-logtostderr=true", "server", "-s3", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports,
                 "-s3.config=s3.json", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                 "-s3.autoCreateBucket=false", "-master.peers=none", "-master.telemetry=false",
                 "-master.volumeSizeLimitMB=64", "-volume.max=50"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", timeout=1).is_success:
                    return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """There is no server, until there is one again."""
        self.kill()
        try:
            yield
        finally:
            self.start()
            self._write()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server takes connections and answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while {one.read_text().rsplit(")", 1)[1].split()[0] for one in self._threads()} != {"T"}:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def _threads(self) -> list[Path]:
        """Where the system tells how each of its threads is."""
        return list(Path(f"/proc/{self.process.pid}/task").glob("*/stat"))

    def size(self) -> int:
        """How many bytes its files have."""
        return sum(path.stat().st_size for path in (self.folder / "data").glob("*.dat"))

    def bucket(self, method: Literal["PUT", "DELETE"], name: str) -> None:
        """Make or delete a bucket."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        signed = obstore.sign(self._whole(name), method, "", timedelta(minutes=5))
        while not (answer := httpx.request(method, signed, timeout=30)).is_success:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)

    def _write(self) -> None:
        """A server that has just started is healthy before it has found its own volumes: only then it can write. The
        client tries again for minutes.
        """
        obstore.put(self._whole(BUCKET), "begun", b"")
        obstore.delete(self._whole(BUCKET), "begun")

    def _whole(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=self.url,
            access_key_id="epochd",
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )


def free_ports(count: int) -> list[int]:
    """Free ones that the system gives to nobody while the server is down: below those for outgoing connections."""
    found: list[int] = []
    for port in SystemRandom().sample(range(10_000, 32_000), 1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            break
    return found


@contextlib.contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    server = ObjectServer(folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
