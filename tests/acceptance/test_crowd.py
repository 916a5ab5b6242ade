"""A crowd of clients at a whole service, in short: `python -m benchmarks hammering` is the long form."""

import pytest

from benchmarks.hammering import DATABASES, KINDS, hammer

CLIENTS = 50


@pytest.mark.parametrize("on", DATABASES)
def test_nothing_fails_when_many_clients_read_predict_and_submit_at_once(on: str) -> None:
    found = hammer(clients=CLIENTS, seconds=3, on=on)
    assert found.tally.faults == {}
    assert found.tally.seconds.keys() == KINDS.keys()
    assert found.tally.statuses[200] >= CLIENTS
    assert found.tally.statuses[202] == len(found.tally.seconds["submit"]) > 0
    assert 0 < found.at_start <= found.in_the_middle
