"""The far end of a connection whose other end is closed, over a real pair of sockets."""

import socket
import threading
from collections.abc import Iterable
from contextlib import closing
from multiprocessing.connection import Connection

import pytest

from service.domain.events import Event, Job, Stops
from service.engines.far_end import FarEnd
from service.engines.messages import Ready, receive


def nothing(job: Job, stops: Stops) -> Iterable[Event]:
    return ()


def test_it_serves_until_who_is_told_that_the_parent_is_gone_has_cleared_up() -> None:
    """A trainer whose main thread returns first would end in the middle of that."""
    served = threading.Event()
    early: list[bool] = []
    cleared = threading.Event()

    def gone() -> None:
        early.append(served.wait(timeout=0.2))
        cleared.set()

    ours, theirs = socket.socketpair()
    far_end = FarEnd(Connection(theirs.detach()), gone=gone)

    def serve() -> None:
        far_end.serve(nothing)
        served.set()

    serving = threading.Thread(target=serve)
    serving.start()
    with closing(Connection(ours.detach())) as near_end:
        assert receive(near_end) == Ready()
    assert cleared.wait(timeout=30)
    serving.join()
    assert early == [False]


def test_it_ends_also_when_who_is_told_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: failed.set())

    def gone() -> None:
        raise RuntimeError

    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=FarEnd(Connection(theirs.detach()), gone=gone).serve, args=(nothing,))
    serving.start()
    with closing(Connection(ours.detach())) as near_end:
        assert receive(near_end) == Ready()  # else who serves would tell, too, and fail when this test has ended
    serving.join(timeout=30)
    assert not serving.is_alive()
    assert failed.wait(timeout=30)
