"""Chaos on both databases: python -m tests.chaos [--rounds N] [--seed S] [--workers W] [--engine ray]."""

import argparse
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from service import datasets
from tests.chaos.rounds import Faults, Rounds, Tally
from tests.chaos.system import running

RESIZE_EVERY = 5
"""Rounds with one number of workers."""
SIZES = (2, 1, 3)
"""Numbers of workers, in turn."""

DATASETS = Path(sys.prefix) / "data" / "datasets"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--rounds", type=int, default=20, help="rounds in all, half of them on each database")
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of an earlier run")
    parser.add_argument("--workers", type=int, default=None, help="workers; 2, 1 and 3 in turn when not given")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="where training runs")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    datasets.load("mnist", DATASETS)
    rng = random.Random(seed)
    faults = Faults(rng.getrandbits(32), ray=options.engine == "ray")
    total = Tally()
    expected = None
    for kind, count in (("sqlite", options.rounds // 2), ("postgresql", (options.rounds + 1) // 2)):
        with tempfile.TemporaryDirectory(prefix="epochd-chaos-") as folder:
            (Path(folder) / "datasets").symlink_to(DATASETS)
            begun = time.monotonic()
            with running(Path(folder), kind, options.workers or SIZES[0], options.engine) as system:
                rounds = Rounds(system, rng.getrandbits(32), faults, expected)
                expected = rounds.expected  # one database gives what another does, bit for bit
                for number in range(count):
                    if number % RESIZE_EVERY == 0 and not options.workers:
                        system.resize(SIZES[number // RESIZE_EVERY % len(SIZES)])
                    rounds.run()
                    if number % 5 == 4:
                        print(f"  {kind}: {rounds.tally.line()}", flush=True)
            seconds = time.monotonic() - begun
            print(f"{kind}, {seconds:.0f} s: {rounds.tally.line()}, no process left", flush=True)
            total.add(rounds.tally)
    print(f"seed {seed}: {total.line()}", flush=True)


if __name__ == "__main__":
    main()
