"""Everything that should be refused, at a real service: python -m tests.fuzz [--cases N] [--seed S] [--part NAME].

Three parts: `pictures`, damaged pictures and bodies for every way to predict; `requests`, what no client would write;
`contract`, the API held against its own description.
"""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

import psutil

from service import datasets
from tests.acceptance.conftest import serving
from tests.fuzz.contract import explore
from tests.fuzz.run import fuzz
from tests.fuzz.site import keys_of_each_scope, site
from tests.fuzz.tally import Tally
from tests.fuzz.wire import bombard

DATASETS = Path(sys.prefix) / "data" / "datasets"
CASES_A_REQUEST = 5
CASES_AN_EXAMPLE = 2000
"""How the cases that are asked for are shared out: what takes longer gets fewer."""
NOBODY = "nobody"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier run")
    parser.add_argument("--part", choices=PARTS, action="append", help="one of them, or several; all by default")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    datasets.load("mnist", DATASETS)
    wrong = 0
    for name in options.part or PARTS:
        with tempfile.TemporaryDirectory(prefix="epochd-fuzz-") as folder:
            (Path(folder) / "datasets").symlink_to(DATASETS)
            wrong += PARTS[name](Path(folder), options.cases, seed)
    print(f"{wrong} wrong answers")
    sys.exit(1 if wrong else 0)


def _pictures(folder: Path, cases: int, seed: int) -> int:
    with serving(folder) as service:
        service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
        process = psutil.Process(service.process.pid)
        begun = time.monotonic()
        found = fuzz(service.url, cases, seed, lambda: process.memory_info().rss)
        seconds = time.monotonic() - begun
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(found.statuses.items()))
    print(f"pictures: {cases} cases in {seconds:.0f} s: {counts}; {len(found.wrong)} failures")
    print("memory after each tenth, MB:", ", ".join(f"{size / 1e6:.0f}" for size in found.memory))
    for number, complaint in found.wrong:
        print(f"case {number}: {complaint}")
    return len(found.wrong)


def _requests(folder: Path, cases: int, seed: int) -> int:
    with site(folder, _trained(folder)) as (service, known):
        found = bombard(service.url, cases=cases // CASES_A_REQUEST, seed_=seed, known=known)
        service.get(known)
    return _told("requests", found)


def _contract(folder: Path, cases: int, seed: int) -> int:
    examples = max(1, cases // CASES_AN_EXAMPLE)
    with site(folder, _trained(folder)) as (service, _):
        wrong = _told("contract, no keys", explore(service.url, seed=seed, examples=examples, guarded=False))
        tokens: dict[str, str | None] = {NOBODY: None, **keys_of_each_scope(service, folder)}
        for who, token in tokens.items():
            wrong += _told(f"contract, {who}", explore(service.url, seed=seed, examples=examples, token=token))
    return wrong


def _trained(folder: Path) -> bytes:
    """The ONNX file of a model that was just trained."""
    with serving(folder) as service:
        one = service.create(activation="relu", depth=1, epochs=1)["id"]
        service.succeeded(one)
        return service.http.get(f"/experiments/{one}/model", params={"format": "onnx"}).raise_for_status().content


def _told(what: str, found: Tally) -> int:
    print(f"{what}: {found}", flush=True)
    return found.failures.total()


PARTS = {"pictures": _pictures, "requests": _requests, "contract": _contract}


if __name__ == "__main__":
    main()
