"""What was measured: ratios beside their budgets, and what servers bore, as text and as Markdown."""

import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

__all__ = ["Line", "Measured", "Served", "machine", "markdown", "median", "show", "versions"]

VERSIONS = (
    "fastapi",
    "uvicorn",
    "httptools",
    "uvloop",
    "onnxruntime",
    "numpy",
    "tensorflow-cpu",
    "keras",
    "sqlalchemy",
)
HEADINGS = ("server", "job", "requests/s", "p50 ms", "p99 ms", "CPU ms", "of the ceiling", "memory MB", "processes")


BEGINNING = """\
Written by `make bench`. Every ratio is of figures that were measured in turns, in one run, on one machine; seconds and
megabytes are that machine's."""
SERVERS = """\
The ceiling is the empty endpoint: epochd's own server, which reads the same body and answers one number. Every server
has the same ONNX file, uvloop, httptools, one worker, and a session of ONNX Runtime with one thread. Figures are
medians over the rounds. CPU is what all of the server's processes computed for one request. Memory is resident and
summed over them after the load, so what they share counts once for each."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure and its bound, if it has one: `at_most` says on which side. A value of None was not measured, and
    `detail` says why.
    """

    what: str
    value: float | None
    unit: str
    budget: float | None = None
    at_most: bool = True
    detail: str

    @property
    def verdict(self) -> str:
        """Whether the budget holds."""
        if self.value is None:
            return "NOT MEASURED"
        if self.budget is None:
            return "measured"
        return "met" if (self.value <= self.budget if self.at_most else self.value >= self.budget) else "MISSED"

    @property
    def bound(self) -> str:
        """The budget as text."""
        if self.budget is None:
            return "-"
        return f"{'<=' if self.at_most else '>='} {self.budget:g} {self.unit}".rstrip()

    @property
    def found(self) -> str:
        """The figure as text."""
        return "-" if self.value is None else f"{self.value:.3g} {self.unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Served:
    """What one server bore of one job: medians over the rounds. Seconds and megabytes."""

    server: str
    job: str
    rate: float
    p50: float
    p99: float
    cpu: float
    """Of all its processes, for one request: hardly disturbed by what else the machine does."""
    of_ceiling: float
    megabytes: float
    processes: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The table's row."""
        return (
            self.server,
            self.job,
            f"{self.rate:,.0f}",
            f"{1000 * self.p50:.2f}",
            f"{1000 * self.p99:.2f}",
            f"{1000 * self.cpu:.3f}",
            f"{self.of_ceiling:.2f}",
            f"{self.megabytes:.0f}",
            str(self.processes),
        )


Measured = Line | Served


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def show(measured: Measured) -> None:
    """Print a figure at once: a benchmark takes minutes."""
    if isinstance(measured, Line):
        what = f"{measured.what:<62} {measured.found:>9}  {measured.bound:>9}  {measured.verdict:<6}"
        print(f"{what}  {measured.detail}", flush=True)
        return
    server, job, rate, p50, p99, cpu, of_ceiling, megabytes, processes = measured.cells
    print(
        f"  {server:<20} {job:<22} {rate:>7} requests/s  p50 {p50:>6} ms  p99 {p99:>6} ms  CPU {cpu} ms  "
        f"{of_ceiling:>5} of the ceiling  {megabytes:>5} MB in {processes}",
        flush=True,
    )


def machine() -> Iterator[tuple[str, str]]:
    """What it was measured on."""
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "processor", f"{_processor()}, {os.cpu_count()} cores, {platform.machine()}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "memory", f"{memory:.0f} GiB"
    yield "system", f"{platform.system()} {platform.release()}"
    yield "load average at the start", ", ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "Python", platform.python_version()


def markdown(facts: Sequence[tuple[str, str]], measured: Sequence[Measured]) -> str:
    """The whole report."""
    lines = [one for one in measured if isinstance(one, Line)]
    served = [one for one in measured if isinstance(one, Served)]
    budgets = [line for line in lines if line.budget is not None]
    missed = [line for line in lines if line.verdict not in {"met", "measured"}]
    parts = [
        "# Benchmarks",
        BEGINNING,
        _table(("", ""), facts, right=0),
        "## Budgets",
        f"{len(budgets) - len(missed)} of {len(budgets)} are met.",
        _table(
            ("what", "measured", "budget", "", "detail"),
            [
                (
                    line.what,
                    line.found,
                    line.bound,
                    f"**{line.verdict}**" if line in missed else line.verdict,
                    line.detail,
                )
                for line in lines
            ],
            right=0,
        ),
    ]
    if served:
        parts += [
            "## Servers",
            SERVERS,
            _table(HEADINGS, [one.cells for one in served], right=2),
        ]
    return "\n\n".join(parts) + "\n"


def versions() -> str:
    """What epochd itself ran with."""
    return ", ".join(f"{name} {version(name)}" for name in VERSIONS)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: int) -> str:
    """A Markdown table; columns from `right` on are numbers, if it is not 0."""
    rule = ["---:" if right and column >= right else "---" for column in range(len(headings))]
    cells = [headings, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
