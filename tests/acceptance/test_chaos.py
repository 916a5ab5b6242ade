"""A short form of `make chaos`: each kind of fault once, on each kind of database."""

from pathlib import Path

import pytest

from tests.chaos.rounds import FAULTS, Rounds
from tests.chaos.system import running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed(data_dir: Path, kind: str) -> None:
    with running(data_dir, kind, workers=2) as system:
        rounds = Rounds(system, seed=20)
        for fault in FAULTS:
            rounds.run(fault)
    assert rounds.tally.rounds == len(FAULTS)
    assert (rounds.tally.lost, rounds.tally.doubled) == (0, 0)
