"""A short form of `make chaos`: each kind of fault once, half of them on each kind of database."""

from pathlib import Path

import pytest

from tests.chaos.rounds import FAULTS, Rounds
from tests.chaos.system import running

OF_THE_SERVER = ("database", "connections", "freeze", "worker")
"""Faults that a server may take otherwise than a file."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed(data_dir: Path, kind: str) -> None:
    faults = [fault for fault in FAULTS if (fault in OF_THE_SERVER) == (kind == "postgresql")]
    with running(data_dir, kind, workers=2) as system:
        rounds = Rounds(system, seed=20)
        for fault in faults:
            rounds.run(fault)
    assert rounds.tally.rounds == len(faults)
    assert (rounds.tally.lost, rounds.tally.doubled) == (0, 0)
