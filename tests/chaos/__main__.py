"""Chaos on both databases: python -m tests.chaos [--rounds N] [--seed S] [--workers W]."""

import argparse
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from service import datasets
from tests.chaos.rounds import Rounds
from tests.chaos.system import running

DATASETS = Path(sys.prefix) / "data" / "datasets"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--rounds", type=int, default=20, help="rounds in all, half of them on each database")
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of an earlier run")
    parser.add_argument("--workers", type=int, default=None, help="workers, 1 to 3; drawn by the seed when not given")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    datasets.load("mnist", DATASETS)
    rng = random.Random(seed)
    for kind in ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory(prefix="epochd-chaos-") as folder:
            (Path(folder) / "datasets").symlink_to(DATASETS)
            workers = options.workers or rng.randint(1, 3)
            begun = time.monotonic()
            with running(Path(folder), kind, workers) as system:
                rounds = Rounds(system, rng.getrandbits(32))
                for number in range(1, options.rounds // 2 + 1):
                    rounds.run()
                    if number % 5 == 0:
                        print(f"  {kind}: {rounds.tally.line()}", flush=True)
            seconds = time.monotonic() - begun
            print(f"{kind}, {workers} workers, {seconds:.0f} s: {rounds.tally.line()}, no process left", flush=True)


if __name__ == "__main__":
    main()
