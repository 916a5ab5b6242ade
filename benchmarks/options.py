"""How long to measure, and with which data."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a benchmark is told."""

    datasets: Path
    """The folder with MNIST."""
    rounds: int | None = None
    """How often everything is measured in turn. None: as often as the benchmark finds right."""
    seconds: float = 3.0
    """How long a server is loaded at a time."""
    experiments: int = 1_000_000
    """How many experiments the large database has."""
    clients: int = 500
    """How many clients a crowd has."""
    hammering_seconds: float = 120.0
    """How long a crowd asks."""
