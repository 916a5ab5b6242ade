"""Damaged pictures and bodies for every way to predict: python -m tests.fuzz [--cases N] [--seed S]."""

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

import psutil

from service import datasets
from tests.acceptance.conftest import serving
from tests.fuzz.run import fuzz

DATASETS = Path(sys.prefix) / "data" / "datasets"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier run")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    datasets.load("mnist", DATASETS)
    with tempfile.TemporaryDirectory(prefix="epochd-fuzz-") as folder:
        (Path(folder) / "datasets").symlink_to(DATASETS)
        with serving(Path(folder)) as service:
            service.succeeded(service.create(activation="relu", depth=1, epochs=1)["id"])
            process = psutil.Process(service.process.pid)
            begun = time.monotonic()
            found = fuzz(service.url, options.cases, seed, lambda: process.memory_info().rss)
            seconds = time.monotonic() - begun
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(found.statuses.items()))
    print(f"{options.cases} cases in {seconds:.0f} s: {counts}")
    print("memory after each tenth, MB:", ", ".join(f"{size / 1e6:.0f}" for size in found.memory))
    for number, complaint in found.wrong:
        print(f"case {number}: {complaint}")
    print(f"{len(found.wrong)} wrong answers")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
