"""What a worker's threads wait on."""

import threading

from service.worker.bell import Bell

PATIENCE_SECONDS = 30


def test_a_ring_wakes_everybody_who_waits() -> None:
    bell = Bell()
    woken: list[int] = []
    waiting = [threading.Thread(target=lambda: woken.append(bell.wait(PATIENCE_SECONDS, 0))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    bell.ring()
    for thread in waiting:
        thread.join()
    assert woken == [1, 1, 1]


def test_a_ring_that_was_not_heard_yet_is_not_waited_for() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert bell.wait(PATIENCE_SECONDS, 0) == 2
    assert bell.wait(0.01, 2) == 2
