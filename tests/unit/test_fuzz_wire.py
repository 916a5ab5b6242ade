"""What `make fuzz` calls a wrong answer."""

import json

import pytest

from tests.fuzz.requests import Sent
from tests.fuzz.wire import CANARY, complaint

WHOLE = Sent(data=b"GET / HTTP/1.1\r\n\r\n")
PART = Sent(data=b"GET /", whole=False)


def answer(status: int, body: bytes = b"", kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nx-content-type-options: nosniff\r\n{more}\r\n"
    return head.encode() + body


def problem(answered: int, kind: str = "not-found", **changes: object) -> bytes:
    body = {
        "type": f"urn:epochd:problem:{kind}",
        "title": "t",
        "status": answered,
        "detail": "d",
        "instance": "/",
        "error": "d",
    }
    return answer(answered, json.dumps(body | changes).encode(), "application/problem+json")


@pytest.mark.parametrize(
    "right",
    [
        answer(200, b"[1]"),
        answer(204),
        problem(404),
        problem(422),
        problem(503, "overloaded"),
        answer(200, b"x", "text/html"),
    ],
)
def test_a_right_answer_is_no_complaint(right: bytes) -> None:
    assert complaint(right, WHOLE) is None


def test_only_a_request_without_an_end_may_stay_without_an_answer() -> None:
    assert complaint(b"", PART) is None
    assert complaint(b"", WHOLE) == "no answer"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (b"silence", "no HTTP"),
        (problem(500, "internal"), "500"),
        (problem(503, "unavailable"), "503"),
        (problem(404, status=422), "incomplete problem"),
        (answer(404, b"{}", "application/problem+json"), "incomplete problem"),
        (answer(404, b"not here", "text/plain"), "text/plain"),
        (answer(200, b'{"loss": NaN}'), "no JSON"),
        (answer(200, more="x-injected: 1\r\n"), "the request's"),
        (answer(200, b"[]") + answer(200, b"[]"), "two answers"),
        (answer(200, CANARY.encode(), "text/html"), "tells"),
        (problem(422, detail="Traceback (most recent call last)"), "tells"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n", "without the headers"),
    ],
)
def test_a_wrong_answer_is_told_of(wrong: bytes, why: str) -> None:
    assert why in str(complaint(wrong, WHOLE))
