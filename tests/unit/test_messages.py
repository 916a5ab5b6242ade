"""Messages between a parent and its trainer, over a real pair of sockets."""

import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection

import orjson
import pytest

from service.domain.events import Alive, Checkpoint, EpochEnd, Failed, Job, Member, Stopped, Trained
from service.domain.experiment import EpochMetrics, Spec
from service.engines.messages import Ended, Lost, Message, Ready, Stop, receive, send

EVERY_BYTE = bytes(range(256))
SPEC = Spec(activation="gelu", depth=3, learning_rate=1e-7, name="näme 🙂", tags=("a", "a", "b"))
TRAINED = Trained(
    experiment_id="an id",
    test_loss=0.1 + 0.2,
    test_accuracy=1.0,
    evaluation_seconds=5e-324,
    parameters=7850,
    weights_sha256="0" * 64,
    keras=EVERY_BYTE,
    onnx=b"",
)
MEMBER = Member(experiment_id="an id", attempt=1, spec=SPEC)
JOB = Job(members=(MEMBER,), data_dir="/tmp/ü", checkpoint_seconds=0)
EPOCH = EpochMetrics(
    epoch=1, loss=None, accuracy=0.1, val_loss=1 / 3, val_accuracy=1.0, seconds=2, gradient_norms=(None, 1e-30)
)

MESSAGES: list[Message] = [
    JOB,
    dataclasses.replace(JOB, resume=(b"",)),
    dataclasses.replace(JOB, members=(MEMBER,) * 3, resume=(EVERY_BYTE * 5000, b"", b"x")),
    Stop(experiment_id="an id", attempt=2**31),
    Ready(),
    Ended(),
    Lost(reason="its node died", began=True),
    Alive(),
    EpochEnd(metrics={}),
    EpochEnd(metrics={"an id": EPOCH, "ü": EPOCH}),
    Stopped(experiment_id="an id"),
    Checkpoint(experiment_id="an id", epoch=7, payload=EVERY_BYTE),
    TRAINED,
    dataclasses.replace(TRAINED, onnx=orjson.dumps(["Stop", {}, {}]), keras=b"\n" * 3),
    Failed(experiment_id="an id", code="training_diverged", message='said "no"\n\0🙂'),
    Failed(experiment_id="", code="attempts_exhausted", message=""),
]


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
    with closing(ours), closing(theirs):
        yield ours, theirs


def sent_and_received(ends: tuple[Connection, Connection], messages: list[Message]) -> list[Message]:
    """What arrives; sent from a thread, since large messages do not fit into the sockets' buffers."""

    def send_all() -> None:
        for message in messages:
            send(ends[0], message)

    sender = threading.Thread(target=send_all)
    sender.start()
    received = [receive(ends[1]) for _ in messages]
    sender.join()
    return received


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_arrives_as_it_was_sent(ends: tuple[Connection, Connection], message: Message) -> None:
    assert sent_and_received(ends, [message]) == [message]


def test_every_kind_of_message_is_tested() -> None:
    assert {type(message) for message in MESSAGES} == set(Message.__args__)


def test_messages_arrive_in_order_and_do_not_run_together(ends: tuple[Connection, Connection]) -> None:
    assert sent_and_received(ends, MESSAGES * 3) == MESSAGES * 3


def test_messages_pass_both_ways(ends: tuple[Connection, Connection]) -> None:
    assert sent_and_received(ends, MESSAGES) == MESSAGES
    assert sent_and_received((ends[1], ends[0]), MESSAGES) == MESSAGES


def test_a_closed_end_is_the_end_of_the_messages(ends: tuple[Connection, Connection]) -> None:
    send(ends[0], Ready())
    ends[0].close()
    assert receive(ends[1]) == Ready()
    with pytest.raises(EOFError):
        receive(ends[1])
    with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
        send(ends[1], Checkpoint(experiment_id="an id", epoch=1, payload=EVERY_BYTE * 5000))


def test_what_is_no_message_is_refused(ends: tuple[Connection, Connection]) -> None:
    for name, values in (("Job", {"members": 1}), ("Failed", {"code": "nope", "message": "x"})):
        ends[0].send_bytes(orjson.dumps([name, values, {}]))
        with pytest.raises(ValueError, match="validation error"):
            receive(ends[1])
    ends[0].send_bytes(orjson.dumps(["os.system", {}, {}]))
    with pytest.raises(KeyError):
        receive(ends[1])
