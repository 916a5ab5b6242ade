"""`POST /predict` against the empty endpoint of the same server: 8 connections, one server process."""

import asyncio
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line, median
from service import datasets as sources
from service.client import Client
from service.domain.experiment import Spec

__all__ = ["measure"]

CONNECTIONS = 8
SECONDS = 3.0
ROUNDS = 5


def measure(datasets: Path) -> Iterator[Line]:
    """Yield the ratio of requests a second for a JSON and a PNG body."""
    digit = sources.load("mnist", datasets).x_test[0]
    png = io.BytesIO()
    Image.fromarray(digit).save(png, "PNG")
    bodies = {
        "JSON 28x28": ("application/json", json.dumps({"image": digit.tolist()}).encode()),
        "PNG": ("image/png", png.getvalue()),
    }
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        (data_dir / "datasets").symlink_to(datasets)
        _train(data_dir)
        port = free_port()
        with running(["-m", "benchmarks.server", str(port)], data_dir):
            wait_ready(f"http://127.0.0.1:{port}")
            for name, (kind, body) in bodies.items():
                rates: dict[str, list[float]] = {"/predict": [], "/empty": []}
                for _ in range(ROUNDS):
                    for path, found in rates.items():
                        found.append(asyncio.run(_rate(port, path, kind, body)))
                yield Line(
                    what=f"POST /predict / empty endpoint, {name}",
                    value=median([a / b for a, b in zip(rates["/predict"], rates["/empty"], strict=True)]),
                    unit="",
                    budget=0.6,
                    at_most=False,
                    detail=f"{median(rates['/predict']):,.0f} against {median(rates['/empty']):,.0f} requests/s",
                )


def _train(data_dir: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(["-m", "service.cli", "serve", "--port", str(port), "--slots", "1"], data_dir), Client(url) as api:
        wait_ready(url)
        created = api.create(Spec(activation="relu", depth=2, epochs=1))
        while not api.get(created.id).status.terminal:
            time.sleep(0.1)


async def _rate(port: int, path: str, kind: str, body: bytes) -> float:
    """Requests a second over all connections, each sending the next request when the answer to the last has come."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    until = time.perf_counter() + SECONDS

    async def connection() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.perf_counter() < until:
            writer.write(request)
            header = await reader.readuntil(b"\r\n\r\n")
            if not header.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(header.decode())
            length = next(line for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            answered += 1
        writer.close()
        return answered

    counts = await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return sum(counts) / SECONDS
