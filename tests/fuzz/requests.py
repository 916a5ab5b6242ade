"""Requests as bytes: bodies, numbers, paths and heads that no client would write, and somebody may send."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["KINDS", "Sent", "of_kind"]

KNOWN = "{known}"
"""Stands for the id of an experiment that has succeeded."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request."""

    data: bytes
    whole: bool = True
    """False where its end may be missing, so that there may be no answer either."""


def of_kind(kind: str, known: str) -> SearchStrategy[Sent]:
    """Requests of one of `KINDS` to a service that has an experiment `known` with a model."""
    return KINDS[kind].map(partial(_with_known, known))


def _with_known(known: str, sent: Sent) -> Sent:
    return Sent(data=sent.data.replace(KNOWN.encode(), known.encode()), whole=sent.whole)


def _request(method: str, path: str, body: bytes = b"", *headers: bytes) -> bytes:
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    if body or method in {"POST", "PUT"}:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


# Values.

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from((
        "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202eabc", "\ufeff", "\ufffe", "e\u0301", "\u00e9", "İ", "ß",
        "👩‍👩‍👧‍👦", "ﷺ" * 50, "\u0661\u0662", "\r\nX-Injected: 1", "%0d%0a", "%s%n", "${7*7}", "{{7*7}}",
        "'; DROP TABLE experiments; --",
        "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "A" * 10_000, "null", "NaN", "best", "../../etc/passwd",
    )),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from((0, -1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e308,
        5e-324)),
)  # fmt: skip
LITERALS = ("1e999", "-1e999", "NaN", "Infinity", "-0", "1e-999", "0" * 5000, "9" * 5000, "1" + "0" * 400 + ".5",
    "00", "0x1F", "1_000", "١٢", "+1", ".5", "1.", "true", "")  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES: SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)

ROWS = [[0] * 28] * 28
BODIES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/experiments", {"activation": "relu", "depth": 1, "units": 16, "epochs": 1, "name": "n", "tags": ["a"],
                              "seed": 0, "learning_rate": 0.001, "dataset": "mnist", "priority": 0}),
    ("POST", "/sweeps", {"base": {"epochs": 1, "batch_size": 1000}, "seeds": 2, "name": "n", "tags": ["a"],
                         "grid": {"activation": ["relu"], "depth": {"start": 1, "stop": 3},
                                  "learning_rate": {"start": 0.001, "stop": 0.1, "count": 2, "scale": "log"}}}),
    ("POST", "/sweeps?dry_run=true", {"base": {"activation": "relu"}, "grid": {"depth": [1, 2]}}),
    ("PUT", "/models/moved", {"experiment_id": KNOWN}),
    ("POST", "/session", {"key": "epochd_0_0"}),
    ("POST", "/predict", {"image": ROWS}),
    ("POST", "/v2/models/best/infer", {"id": "1", "parameters": {"range": "0-1"}, "outputs": [{"name": "digit"}],
        "inputs": [
        {"name": "pixels", "shape": [1, 784], "datatype": "FP32", "parameters": {}, "data": [0.5] * 784}]}),
    ("POST", "/v1/models/best:predict", {"signature_name": "serving_default", "instances": [ROWS]}),
    ("POST", "/v2/repository/index", {"ready": True}),
    ("POST", f"/experiments/{KNOWN}/retry", {}),
)  # fmt: skip


@st.composite
def _changed(draw: DrawFn, value: Any) -> Any:
    """The value with one part, somewhere inside it, made another."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    if isinstance(value, dict):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()):
            return value | {key: draw(_changed(value[key]))}
        return value | {draw(TEXTS): draw(VALUES)}
    place = draw(st.integers(0, min(len(value), 3) - 1))
    return [*value[:place], draw(_changed(value[place])), *value[place + 1 :]]


@st.composite
def _values(draw: DrawFn) -> Sent:
    """A body whose parts are odd."""
    method, path, value = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(1, 2))):
        value = draw(_changed(value))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return Sent(data=_request(method, path, text.encode("utf-8", "surrogatepass"), b"Content-Type: application/json"))


@st.composite
def _nesting(draw: DrawFn) -> Sent:
    """A body that is deep, or written as JSON is not."""
    method, path, value = draw(st.sampled_from(BODIES))
    text = json.dumps(value)
    deep = draw(st.sampled_from((1, 30, 200, 1000, 5000, 100_000)))
    opened, closed = draw(
        st.sampled_from((("[", "]"), ('{"a":', "}"), ('{"image":', "}"), ('{"base":', "}"), ('[{"":', "}]")))
    )
    how = draw(st.integers(0, 6))
    if how == 0:
        text = opened * deep + text + closed * deep
    elif how == 1:
        text = opened * deep
    elif how == 2:  # the same member twice
        text = text[:-1] + "," + text[1:] if value else '{"a":1,"a":2}'
    elif how == 3:
        text = text.replace(
            draw(st.sampled_from(("0", "1", '"', ":", ","))), draw(st.sampled_from(LITERALS)), draw(st.integers(1, 3))
        )
    elif how == 4:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(TEXTS) + text[place:]
    elif how == 5:
        text = text[: draw(st.integers(0, len(text)))]
    codec = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7")))
    body = text.encode(codec, "surrogatepass" if codec != "utf-7" else "replace")
    if draw(st.integers(0, 5)) == 0:
        body += draw(st.binary(max_size=8))
    kind = draw(st.sampled_from((b"application/json", b"application/json; charset=utf-16", b"APPLICATION/JSON",
        b"text/json",
                                 b"application/problem+json", b"application/x-www-form-urlencoded", b"")))  # fmt: skip
    return Sent(data=_request(method, path, body, b"Content-Type: " + kind))


@st.composite
def _forms(draw: DrawFn) -> Sent:
    """A form that is damaged, or names what it should not."""
    boundary = draw(st.sampled_from(("x", "x", "x", "-" * 70, "x" * 200, "a b", '"', "é", "")))
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.one_of(st.just("image"), st.just("image"), TEXTS))
        filename = draw(
            st.one_of(
                st.sampled_from(("a.png", "../../../tmp/owned", "/etc/passwd", "C:\\x", "a\0b", 'a"b', "")), TEXTS
            )
        )
        heads = [f'Content-Disposition: form-data; name="{name}"; filename="{filename}"']
        heads += draw(st.lists(st.sampled_from((
            "Content-Type: image/png", "Content-Type: multipart/mixed; boundary=y", "Content-Type: \0",
            "Content-Length: -1",
            "Content-Transfer-Encoding: base64", "Content-Disposition: form-data", "X" * 20_000 + ": 1",
            ": nothing", "no colon",
            "Content-Disposition: form-data; name*=utf-8''image; filename*=utf-8''%2e%2e%2f", " folded",
        )), max_size=3))  # fmt: skip
        content = draw(
            st.one_of(st.binary(max_size=40), st.just(b"\x89PNG\r\n\x1a\n" + b"\0" * 20), st.just(b"--x--\r\n"))
        )
        head = "\r\n".join(heads).encode("utf-8", "surrogatepass")
        parts.append(b"--" + boundary.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n")
    end = draw(st.sampled_from((b"--" + boundary.encode() + b"--\r\n", b"", b"--", b"--" + boundary.encode())))
    body = draw(st.sampled_from((b"", b"", b"preamble\r\n", b"\r\n" * 1000))) + b"".join(parts) + end
    if draw(st.integers(0, 20)) == 0:
        body = parts[0] * 3000 + end if parts else body
    kind = draw(st.sampled_from((b"multipart/form-data; boundary=", b"multipart/form-data;boundary=\"",
        b"multipart/mixed; boundary=",
                                 b"multipart/form-data; charset=utf-16; boundary=",
                                 b"multipart/form-data;;;boundary=")))  # fmt: skip
    return Sent(data=_request("POST", "/predict", body, b"Content-Type: " + kind + boundary.encode()))


# Paths and queries.

CLIMBS = ("..", "../..", "%2e%2e", "%2e%2e%2f%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "..%5c..%5c",
    "%252e%252e%252f", "....//", ".",
          "%c0%ae%c0%ae/", "..;/", "%00", "a%00.png", "%0d%0aX-Injected:%201", "//etc/passwd", "/etc/passwd",
          "file:%2f%2f%2fetc%2fpasswd",
          "epochd.sqlite3", "..%2fepochd.sqlite3", "..%2f..%2f..%2f..%2fepochd.sqlite3", "%ff%fe", "%zz", "%", "*",
          "~root", "CON", "a" * 300)  # fmt: skip
PLACES = ("/experiments/{}", "/experiments/{}/metrics", "/experiments/{}/events", "/experiments/{}/model",
    "/experiments/{}/figures/gallery",
          "/experiments/" + KNOWN + "/figures/{}", "/experiments/" + KNOWN + "/model?format={}",
          "/experiments/" + KNOWN + "/{}",
          "/experiments/" + KNOWN + "/figures/learning-curves?format={}", "/sweeps/{}", "/sweeps/{}/comparison",
          "/sweeps/{}/figures/{}",
          "/models/{}", "/predict?model={}", "/v1/models/{}", "/v1/models/{}/metadata", "/v1/models/{}/versions/{}",
          "/v1/models/{}:predict",
          "/v2/models/{}", "/v2/models/{}/infer", "/v2/models/{}/versions/{}/ready", "/assets/web/{}",
          "/assets/docs/{}", "/assets/web/i18n/{}",
          "/{}", "/audit?target={}", "/audit?cursor={}", "/experiments?tag={}", "/experiments?cursor={}",
          "/experiments?{}")  # fmt: skip
COUNTS = ("/experiments?limit={}", "/experiments?depth={}", "/sweeps?limit={}", "/audit?limit={}",
    "/experiments/" + KNOWN + "/metrics?after_epoch={}",
          "/experiments/" + KNOWN + "/figures/learning-curves?width={}", "/predict?range={}", "/predict?explain={}",
          "/predict?experiment_id={}")  # fmt: skip
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")


@st.composite
def _paths(draw: DrawFn) -> Sent:
    """An id, an alias, a name or a format that climbs, hides or is no text."""
    place = draw(st.sampled_from(PLACES))
    piece = st.sampled_from(CLIMBS) | TEXTS.map(
        lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="/:@!$,")
    )
    while "{}" in place:
        place = place.replace("{}", draw(piece), 1)
    return Sent(data=_request(draw(st.sampled_from(METHODS)), place))


@st.composite
def _counts(draw: DrawFn) -> Sent:
    """A number in a query that is none, or too large."""
    piece = st.one_of(st.sampled_from(LITERALS), NUMBERS.map(str), TEXTS)
    value = quote(draw(piece).encode("utf-8", "surrogatepass"))
    return Sent(
        data=_request(draw(st.sampled_from(("GET", "GET", "POST"))), draw(st.sampled_from(COUNTS)).replace("{}", value))
    )


# Heads.

ODD = ("", " ", "\0", "\x7f", "\t", "é", "\xff" * 50, "A" * 9000, "A" * 40_000, "a, b, , c", "*", '"', "\\", "=",
    ";", ";q=", "0", "-1",
       "9" * 400, "1e9", "bytes=0-", "bytes=-0", "bytes=9-1", "bytes=0-0,2-2", "bytes=" + "9" * 30 + "-",
       "bytes=a-b", "application/json;q=2",
       "text/csv;q=0.0001,*/*", "text/csv, application/json", "Bearer ", "Bearer", "Bearer \xff", "Basic Og==",
       "bearer epochd_a_b", "epochd_session=",
       "epochd_session=\xff; epochd_session=a", "null", "http://evil.example", "evil.example", "localhost:99999",
       "[::1", "[::1]:x", "localhost@evil.example",
       "100-continue", "gzip", "gzip, gzip, gzip", "chunked", "identity", "h2c", "close", "../..", "W/\"a\"",
       "\"" + "0" * 64 + "\"")  # fmt: skip
NAMES = ("Accept", "Authorization", "Cookie", "Origin", "Sec-Fetch-Site", "Host", "Range", "If-Range",
    "If-None-Match", "Last-Event-ID",
         "Idempotency-Key", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding",
         "Inference-Header-Content-Length",
         "Expect", "Upgrade", "Connection", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID", "traceparent",
         "Accept-Encoding", "TE",
         "X-HTTP-Method-Override", "Forwarded", "\0", "a b", "", "é", "Content-Length ", " Host",
         "A" * 9000)  # fmt: skip
ASKED = (("GET", "/experiments", b""), ("GET", f"/experiments/{KNOWN}/model", b""), ("GET",
    f"/experiments/{KNOWN}/events", b""),
         ("GET", f"/experiments/{KNOWN}/metrics", b""), ("POST", "/experiments",
             b'{"activation": "relu", "depth": 1}'), ("GET", "/session", b""),
         ("POST", "/predict", b"{}"), ("POST", "/v2/models/best/infer", b"{}"), ("GET", "/assets/web/app.js", b""),
         ("HEAD", "/", b""))  # fmt: skip
HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A second request, inside the first."""


@st.composite
def _heads(draw: DrawFn) -> Sent:
    """Headers that are odd, doubled, or none."""
    method, path, body = draw(st.sampled_from(ASKED))
    pairs = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(ODD) | st.text(max_size=10)), min_size=1, max_size=4)
    )
    separator = draw(st.sampled_from((": ", ": ", ": ", ":", " : ", ":\r\n ")))
    lines = [f"{name}{separator}{value}".encode("latin-1", "replace").replace(b"\n", b"") for name, value in pairs]
    if draw(st.integers(0, 20)) == 0:
        lines *= 60
    return Sent(data=_request(method, path, body, *lines), whole=False)


@st.composite
def _lines(draw: DrawFn) -> Sent:
    """What is hardly a request: its first line, its length, or its end is wrong."""
    method = draw(st.sampled_from((*METHODS, "get", "G\0T", "", "A" * 9000, "PRI", "CONNECT", "GET\t")))
    path = draw(st.sampled_from(("/", "*", "", "http://localhost/experiments", "http://evil.example/",
        "//evil.example/", "/experiments#a", "/ x",
                                 "/\xff", "/" + "a" * 9000, "/" + "a" * 70_000, "?",
                                 "/experiments?" + "a=1&" * 2000)))  # fmt: skip
    proto = draw(
        st.sampled_from(("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 x", "http/1.1", "ICAP/1.0", ""))
    )
    length = draw(st.sampled_from((b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -5",
        b"Content-Length: 5\r\nContent-Length: 6",
                                   b"Content-Length: 5, 5", b"Content-Length: 0x5",
                                   b"Transfer-Encoding: chunked\r\nContent-Length: 4",
                                   b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity",
                                   b"Transfer-Encoding : chunked",
                                   b"Transfer-Encoding: chunked", b"Content-Length: " + b"9" * 30)))  # fmt: skip
    body = draw(st.sampled_from((b"", b"{}", b"0\r\n\r\n" + HIDDEN, b"5\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n", b"-1\r\n", b"5;a=" + b"b" * 9000 + b"\r\nhello\r\n0\r\n\r\n",
                                 b"0\r\nX-Injected: 1\r\n\r\n", HIDDEN)) | st.binary(max_size=40))  # fmt: skip
    host = draw(st.sampled_from((b"Host: localhost", b"Host: localhost\r\nHost: evil.example", b"", b"Host:")))
    end = draw(st.sampled_from((b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\r", b"")))
    head = f"{method} {path} {proto}".encode("latin-1")
    return Sent(data=b"\r\n".join(filter(None, (head, host, b"Connection: close", length))) + end + body, whole=False)


KINDS: dict[str, SearchStrategy[Sent]] = {
    "values": _values(),
    "nesting": _nesting(),
    "forms": _forms(),
    "paths": _paths(),
    "counts": _counts(),
    "heads": _heads(),
    "lines": _lines(),
}
