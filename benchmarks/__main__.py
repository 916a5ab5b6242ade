"""Run the benchmarks, or those that are named: `python -m benchmarks serving predicting`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import cold, hammering, load, predicting, scale, serving, starting, sweeping, training, workers
from benchmarks.options import Options
from benchmarks.report import Measured, machine, markdown, show, versions

DATASETS = Path(sys.prefix) / "data" / "datasets"
RESULTS = Path(__file__).parent / "results.md"
ALL: Mapping[str, Callable[[Options], Iterator[Measured]]] = {
    "starting": starting.measure,
    "training": training.measure,
    "sweeping": sweeping.measure,
    "predicting": predicting.measure,
    "cold": cold.measure,
    "serving": serving.measure,
    "hammering": hammering.measure,
    "workers": workers.measure,
    "scale": scale.measure,
}
WHEN_NAMED = {"scale"}
"""Takes half an hour and 30 GB of disk."""


def main() -> None:
    """Print everything as it is measured; write it all at the end where that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the budgets, as ratios.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(ALL)}; default: all but {', '.join(WHEN_NAMED)}"
    )
    parser.add_argument("--rounds", type=_at_least_one, help="how often everything is measured in turn")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a server is loaded at a time (3)")
    parser.add_argument("--datasets", type=Path, default=DATASETS, help="the folder with MNIST")
    parser.add_argument("--experiments", type=_at_least_one, default=1_000_000, help="in the large database (1000000)")
    parser.add_argument("--clients", type=_at_least_one, default=500, help="in the crowd (500)")
    parser.add_argument("--hammering-seconds", type=float, default=120.0, help="how long the crowd asks (120)")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} beside the benchmarks, too")
    parser.add_argument("--output", type=Path, help="write it there instead")
    given = parser.parse_args()
    if unknown := set(given.names) - ALL.keys():
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}: there are {', '.join(ALL)}")
    options = Options(
        datasets=given.datasets.absolute(),
        rounds=given.rounds,
        seconds=given.seconds,
        experiments=given.experiments,
        clients=given.clients,
        hammering_seconds=given.hammering_seconds,
    )
    facts = [*machine(), ("load generator", f"{load.name()}, {load.CONNECTIONS} connections"), ("epochd's", versions())]
    for name, value in facts:
        print(f"{name}: {value}")
    measured: list[Measured] = []
    for name in given.names or [name for name in ALL if name not in WHEN_NAMED]:
        for one in ALL[name](options):
            measured.append(one)
            show(one)
    path = given.output or (RESULTS if given.write else None)
    if path is not None:
        path.write_text(markdown(facts, measured), encoding="utf-8")
        print(f"written: {path}")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    main()
