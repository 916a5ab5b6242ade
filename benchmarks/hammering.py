"""A crowd at one service: 500 clients read, predict and submit at once, each with an API key, for two minutes.

The service is `epochd serve`, and its worker is real but for its trainer, which trains nothing: what is asked is
whether the API bears it. Nothing may fail that the service did not refuse on purpose, and its memory may not grow.
"""

import contextlib
import io
import itertools
import json
import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from benchmarks.crowd import Ask, Tally, send
from benchmarks.options import Options
from benchmarks.postgres import postgres
from benchmarks.processes import free_port, running, wait_ready
from benchmarks.report import Line
from service.domain.access import Scope
from service.domain.events import Trained
from service.domain.experiment import Spec
from service.store import experiments, keys, models, queue, schema
from service.store.blobs import Blobs
from service.store.queue import ModelFiles
from service.store.session import Database

__all__ = ["DATABASES", "KINDS", "Hammered", "hammer", "measure"]

KINDS: Mapping[str, int] = {"read": 60, "predict": 35, "submit": 5}
"""Of a hundred requests. So many of them submit that more waits at the end than at the beginning."""
ALIAS = "hammered"
"""Names the one real model: what the trainer leaves that trains nothing cannot be opened."""
REMEMBERED = 1_000
"""Experiments that clients ask for: the newest."""
GROWTH = 1.1
"""Of the API's memory, from the middle to the end."""
STARVED = 5.0
"""Times the mean wait of all requests that no kind's slowest percent may take. How long the mean is says how fast the
machine is, for every client waits for somebody else all the time; a kind that waits far longer than it is starved.
"""


@dataclass(frozen=True, kw_only=True)
class Hammered:
    """What a service bore. Memory is resident, of the API's process, in megabytes."""

    tally: Tally
    seconds: float
    at_start: float
    """When it was ready, before anybody asked."""
    in_the_middle: float
    at_the_end: float
    """Before the crowd has left."""


def measure(options: Options) -> Iterator[Line]:
    """Yield what failed, how long each kind took, and the API's memory, on either kind of database."""
    for database in DATABASES:
        found = hammer(clients=options.clients, seconds=options.hammering_seconds, on=database)
        yield from _lines(found, clients=options.clients, on=database)


def _lines(found: Hammered, *, clients: int, on: str) -> Iterator[Line]:
    tally = found.tally
    crowd = f"{clients} clients for {found.seconds:g} s"
    by_status = ", ".join(f"{many:,} x {status}" for status, many in sorted(tally.statuses.items()))
    yield Line(
        what=f"requests of a crowd that failed, {on}",
        value=tally.faults.total(),
        unit="",
        budget=0,
        detail=f"{crowd}; {by_status}; {_listed(tally.faults)}",
    )
    yield Line(
        what=f"requests of a crowd that were refused on purpose, {on}",
        value=tally.refused.total(),
        unit="",
        detail=_listed(tally.refused),
    )
    yield from _latencies(tally, clients=clients, seconds=found.seconds, on=on)
    yield Line(
        what=f"API resident memory under a crowd, end / middle, {on}",
        value=found.at_the_end / found.in_the_middle,
        unit="",
        budget=GROWTH,
        detail=f"{found.at_start:.0f} MB when ready, {found.in_the_middle:.0f} in the middle, {found.at_the_end:.0f} "
        "at the end",
    )


def hammer(*, clients: int, seconds: float, on: str = "SQLite") -> Hammered:
    """Start a service with keys and a worker on one of DATABASES, let clients ask for so long, and stop it."""
    with tempfile.TemporaryDirectory() as outer, contextlib.ExitStack() as kept:
        Path(outer).chmod(0o755)  # the database's server may run as another user
        data_dir = Path(outer) / "epochd"
        data_dir.mkdir()
        url = kept.enter_context(DATABASES[on](Path(outer)))
        served = _prepare(url, data_dir)
        port = free_port()
        serve = ["-m", "service.cli", "serve", "--no-worker", "--port", str(port), "--database-url", url]
        work = ["-m", "benchmarks.null_worker", url, str(data_dir)]
        with running(serve, data_dir) as process, running(work, data_dir):
            wait_ready(f"http://127.0.0.1:{port}")
            api = psutil.Process(process.pid)
            at_start = _megabytes(api)
            during: list[tuple[float, float]] = []
            tally = send(
                _Mix(port, served).next,
                port=port,
                clients=clients,
                seconds=seconds,
                look=lambda passed: during.append((passed, _megabytes(api))),
            )
    return Hammered(
        tally=tally,
        seconds=seconds,
        at_start=at_start,
        in_the_middle=min(during, key=lambda one: abs(one[0] - 0.5))[1],
        at_the_end=during[-1][1],
    )


@contextlib.contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'epochd' / 'epochd.sqlite3'}"


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    with postgres(folder, {}) as (url, _):
        yield url


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {"SQLite": _sqlite, "PostgreSQL": _postgresql}
"""How to have an empty one of each kind, in a folder: its URL."""


def _latencies(tally: Tally, *, clients: int, seconds: float, on: str) -> Iterator[Line]:
    mean = clients * seconds / max(tally.statuses.total(), 1)  # Little's law
    for kind in KINDS:
        what = f"{kind} in a crowd, p99 / mean wait of all, {on}"
        many = len(tally.seconds[kind])
        if not many:
            yield Line(what=what, value=None, unit="", budget=STARVED, detail="nothing was answered")
            continue
        p50, p95, p99 = (tally.percentile(kind, percent) for percent in (50, 95, 99))
        yield Line(
            what=what,
            value=p99 / mean,
            unit="",
            budget=STARVED,
            detail=f"p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s; {many:,} answers, {many / seconds:,.0f}/s",
        )


def _listed(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{many:,} x {what}" for what, many in counted.items()) or "none"


def _megabytes(process: psutil.Process) -> float:
    held: int = process.memory_info().rss
    return held / 1e6


@dataclass(frozen=True, kw_only=True)
class _Served:
    """What there is before anybody asks."""

    experiment_id: str
    keys: Mapping[str, str]
    """A key of each kind of request, which allows no other."""


class _Mix:
    """What clients ask for, one after another. Safe for one thread."""

    def __init__(self, port: int, served: _Served) -> None:
        self._heads = {
            kind: f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n" for kind, key in served.keys.items()
        }
        self._known = deque([served.experiment_id], maxlen=REMEMBERED)
        self._random = random.Random(0)
        self._seeds = itertools.count()
        self._pictures = [
            self._post("predict", f"/predict?model={ALIAS}", kind, body)
            for kind, body in (("application/json", _json(_stroke())), ("image/png", _png(_stroke())))
        ]

    def next(self) -> Ask:
        """The next of them."""
        (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
        if kind == "read":
            return Ask(kind=kind, message=self._get(self._path()))
        if kind == "predict":
            return Ask(kind=kind, message=self._random.choice(self._pictures))
        spec = {"activation": "relu", "depth": 1, "epochs": 3, "seed": next(self._seeds)}
        message = self._post("submit", "/experiments", "application/json", json.dumps(spec).encode())
        return Ask(kind=kind, message=message, learn=lambda body: self._known.append(json.loads(body)["id"]))

    def _path(self) -> str:
        one = self._random.choice(self._known)
        return self._random.choice(
            (
                "/experiments?limit=20",
                "/experiments?status=succeeded&sort=-test_accuracy&limit=20",
                f"/experiments/{one}",
                f"/experiments/{one}/metrics",
            )
        )

    def _get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{self._heads['read']}\r\n".encode()

    def _post(self, of: str, path: str, kind: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\n{self._heads[of]}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def _prepare(url: str, data_dir: Path) -> _Served:
    """Make the database, a model that has a name, and a key for each kind of request."""
    with contextlib.closing(Database(url)) as database:
        schema.initialise(database)
        blobs = Blobs((data_dir / "blobs").as_uri())
        experiment_id = _model(database, blobs)
        scopes = {"read": Scope.READ, "predict": Scope.PREDICT, "submit": Scope.WRITE}
        with database.write() as session:
            models.set_alias(session, ALIAS, experiment_id)
            made = {
                kind: keys.create(session, name=kind, scopes=[scope], expires_at=None)[1]
                for kind, scope in scopes.items()
            }
    return _Served(experiment_id=experiment_id, keys=made)


def _model(database: Database, blobs: Blobs) -> str:
    """Take an experiment through the queue to success."""
    with database.write() as session:
        experiments.create(session, Spec(activation="relu", depth=1))
        claimed = queue.claim(session, owner="hammering", lease_seconds=60)
    assert claimed is not None
    trained = Trained(
        experiment_id=claimed.experiment_id,
        test_loss=0.5,
        test_accuracy=0.5,
        evaluation_seconds=0.1,
        parameters=claimed.spec.parameters,
        weights_sha256="0" * 64,
        keras=b"keras",
        onnx=_network(),
    )
    one = claimed.experiment_id
    files = ModelFiles(keras_sha256=blobs.put(one, trained.keras), onnx_sha256=blobs.put(one, trained.onnx))
    with database.write() as session:
        queue.finish(session, claimed, trained, files)
    return one


def _network() -> bytes:
    """A network with one hidden layer of 16 units, as ONNX: random weights cost as much to ask as trained ones."""
    from onnx import TensorProto, helper, numpy_helper

    drawn = np.random.default_rng(0)
    layers: Sequence[tuple[str, npt.NDArray[np.float32]]] = (
        ("hidden", drawn.normal(size=(784, 16)).astype(np.float32)),
        ("output", drawn.normal(size=(16, 10)).astype(np.float32)),
    )
    nodes = [
        helper.make_node("MatMul", ["pixels", "hidden"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["active"]),
        helper.make_node("MatMul", ["active", "output"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "hammered",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 784])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, name) for name, weights in layers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def _stroke() -> npt.NDArray[np.uint8]:
    """A one: uint8 (28, 28)."""
    digit = np.zeros((28, 28), dtype=np.uint8)
    digit[4:24, 13:15] = 255
    return digit


def _json(digit: npt.NDArray[np.uint8]) -> bytes:
    return json.dumps({"image": digit.tolist()}).encode()


def _png(digit: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "png")
    return file.getvalue()
