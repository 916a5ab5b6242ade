"""Run the benchmarks, or those that are named: `python -m benchmarks starting training sweeping predicting`."""

import os
import platform
import sys
from pathlib import Path

from benchmarks import predicting, starting, sweeping, training
from benchmarks.report import show

DATASETS = Path(sys.prefix) / "data" / "datasets"
ALL = {
    "starting": starting.measure,
    "training": training.measure,
    "sweeping": sweeping.measure,
    "predicting": predicting.measure,
}


def main(wanted: list[str]) -> None:
    """Print every line as it is measured."""
    unknown = set(wanted) - ALL.keys()
    if unknown:
        sys.exit(f"no benchmark is named {', '.join(sorted(unknown))}: there are {', '.join(ALL)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in wanted or ALL:
        for line in ALL[name](DATASETS):
            show(line)


if __name__ == "__main__":
    main(sys.argv[1:])
