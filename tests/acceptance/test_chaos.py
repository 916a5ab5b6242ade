"""A short form of `make chaos`, as the documentation has it: each kind of fault once, half of them on each database."""

import re

import pytest

from tests.acceptance.documentation import ROOT, SECONDS, apart, ends
from tests.chaos.rounds import FAULTS

ROUNDS = len(FAULTS)
SEED = 20


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "epochd").exists(), reason="make would set up a .venv")
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed() -> None:
    (chaos,) = apart("reliability.md", __file__)
    said = ends(chaos.replace("ROUNDS=20", f"ROUNDS={ROUNDS} SEED={SEED}"), ROOT)
    (told,) = re.findall(rf"^seed {SEED}: .*$", said, re.MULTILINE)
    assert f" {ROUNDS} rounds ({', '.join(f'{fault} 1' for fault in sorted(FAULTS))}); " in told
    assert told.endswith(", 0 lost, 0 doubled")
