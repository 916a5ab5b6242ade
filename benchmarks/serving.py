"""epochd against other servers of the same ONNX file: each in an environment of its own, in turns with epochd."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.environments import NotInstallable, installed, python_of
from benchmarks.load import LoadError, Request
from benchmarks.options import Options
from benchmarks.processes import Unserved, free_port, serving
from benchmarks.report import Line, Measured
from benchmarks.turns import Contender, Ours, a_digit, ours, ratio, served, take_turns

__all__ = ["measure"]

ROUNDS = 5
PROGRAMS = Path(__file__).parent / "competitors"
TOLERANCE = 1e-4
"""How far the probabilities of two servers of one file may lie apart."""

Command = Callable[[Path, int, Path], list[str]]
Answer = Mapping[str, Any]


def _of_tensors(answer: Answer) -> list[float]:
    (found,) = [output["data"] for output in answer["outputs"] if output["name"] == "probabilities"]
    return list(found)


def _of_prediction(answer: Answer) -> list[float]:
    return list(answer["predictions"][0]["probabilities"])


def _of_one(answer: Answer) -> list[float]:
    return list(answer["probabilities"])


@dataclass(frozen=True, kw_only=True)
class Job:
    """What both are asked, with the same body."""

    name: str
    path: str
    read: Callable[[Answer], list[float]]
    """Finds the probabilities in epochd's answer."""


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """One of the others."""

    name: str
    package: str
    budget: float
    """How many times its requests a second epochd has to answer."""
    job: Job
    path: str
    command: Command
    """What to run, of the environment's Python, a port, and the ONNX file."""
    read: Callable[[Answer], list[float]]
    """Finds the probabilities in its answer."""


INFER = Job(name="/v2 infer, JSON FP32", path="/v2/models/best/infer", read=_of_tensors)
PREDICT = Job(name="predict, JSON 28x28", path="/predict", read=_of_prediction)


def _mlserver(python: Path, port: int, onnx: Path) -> list[str]:
    return [str(python), str(PROGRAMS / "serve_mlserver.py"), str(port), str(free_port()), str(onnx)]


def _fastest_mlserver(python: Path, port: int, onnx: Path) -> list[str]:
    return [*_mlserver(python, port, onnx), "fastest"]


def _bentoml(python: Path, port: int, _onnx: Path) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(PROGRAMS)]
    return [str(python), "-m", "bentoml", "serve", "serve_bentoml:Digits", *where]


def _litserve(python: Path, port: int, onnx: Path) -> list[str]:
    return [str(python), str(PROGRAMS / "serve_litserve.py"), str(port), str(onnx)]


COMPETITORS = (
    Competitor(
        name="MLServer",
        package="mlserver",
        budget=3,
        job=INFER,
        path="/v2/models/digits/infer",
        command=_mlserver,
        read=_of_tensors,
    ),
    Competitor(
        name="MLServer at its fastest",
        package="mlserver",
        budget=3,
        job=INFER,
        path="/v2/models/digits/infer",
        command=_fastest_mlserver,
        read=_of_tensors,
    ),
    Competitor(
        name="BentoML",
        package="bentoml",
        budget=4,
        job=PREDICT,
        path="/predict",
        command=_bentoml,
        read=_of_one,
    ),
    Competitor(
        name="LitServe",
        package="litserve",
        budget=4,
        job=PREDICT,
        path="/predict",
        command=_litserve,
        read=_of_one,
    ),
)


def measure(options: Options) -> Iterator[Measured]:
    """Yield for each of the others: what it, epochd and the empty endpoint bore, and the ratio of the first two."""
    digit = a_digit(options.datasets)
    fractions = (digit.reshape(784) / np.float32(255)).astype(np.float32).tolist()
    tensor = {"name": "pixels", "shape": [1, 784], "datatype": "FP32", "data": fractions}
    bodies = {
        INFER.name: json.dumps({"inputs": [tensor]}).encode(),
        PREDICT.name: json.dumps({"image": digit.tolist()}).encode(),
    }
    with ours(options.datasets) as epochd:
        for one in COMPETITORS:
            try:
                yield from _against(one, epochd, bodies[one.job.name], options)
            except (NotInstallable, Unserved, LoadError) as error:
                yield _line(one, None, f"{one.name} cannot be measured here: {' '.join(str(error).split())}")


def _against(other: Competitor, epochd: Ours, body: bytes, options: Options) -> Iterator[Measured]:
    python = python_of(other.package)
    version, beside = installed(python, other.package)
    name = f"{other.name} {version}"
    print(f"{name}, with {beside}", flush=True)
    port = free_port()
    kind = "application/json"
    request = Request(port=port, path=other.path, kind=kind, body=body)
    first = httpx.Request("POST", f"http://127.0.0.1:{port}{other.path}", content=body, headers={"Content-Type": kind})
    environment = {"MODEL": str(epochd.onnx), "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True"}
    rounds = options.rounds or ROUNDS
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(other.command(python, port, epochd.onnx), environment, first, Path(folder)) as (process, answer),
    ):
        _require_same(other, answer.json(), epochd, body)
        own, ceiling = epochd.contenders(other.job.path, kind, body)
        theirs = Contender(server=other.name, request=request, process=process)
        loads = take_turns([own, theirs, ceiling], rounds, options.seconds)
        named = ((own, "epochd"), (theirs, name), (ceiling, ceiling.server))
        rows = [served(other.job.name, one, shown, loads) for one, shown in named]
        yield from rows
        against = f"{rows[0].rate:,.0f} against {rows[1].rate:,.0f} requests/s, median of {rounds}"
        yield _line(other, ratio(loads, own.server, other.name), f"{against}; {name}")


def _line(other: Competitor, value: float | None, detail: str) -> Line:
    return Line(
        what=f"{other.job.name}, epochd / {other.name}",
        value=value,
        unit="",
        budget=other.budget,
        at_most=False,
        detail=detail,
    )


def _require_same(other: Competitor, answer: Answer, epochd: Ours, body: bytes) -> None:
    """Both must have done the same work.

    Raises:
        Unserved: they answer differently.
    """
    url = f"http://127.0.0.1:{epochd.port}{other.job.path}"
    response = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, trust_env=False)
    own = other.job.read(response.raise_for_status().json())
    theirs = other.read(answer)
    if len(theirs) != len(own) or not np.allclose(own, theirs, atol=TOLERANCE):
        raise Unserved(f"{other.name} answers {theirs}, and epochd {own}")
