"""Logs: the standard library's logging, written as text for people or as JSON lines for machines, without secrets.

Who writes a line needs to know nothing of this: what it is about comes from where it is written.
"""

import logging
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

__all__ = ["REQUEST", "Format", "about", "configure", "of_process", "redact"]

Format = Literal["text", "json"]

REQUEST: ContextVar[MutableMapping[str, Any] | None] = ContextVar("request", default=None)
"""The state of the request that is being served. Its id is looked up when a line is written, and costs nothing else."""

SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # The password of a URL, up to the last @ of the word.
    (re.compile(r"(://[^\s:/@\"']*):[^\s\"']*@"), r"\1:***@"),
    (
        re.compile(
            r"(?i)\b(authorization|cookie|password|passwd|pwd|api[_-]?key|secret[_a-z]*|[_a-z]*token|[_a-z]*secret|"
            r"[_a-z]*access_key|signature|sig)(\\?[\"']?\s*[=:]\s*\\?[\"']?)((?:bearer|basic)\s+)?[^\s\"'&,;\\]+"
        ),
        r"\1\2\3***",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"\bepochd_([a-z0-9]{1,16})_[A-Za-z0-9_-]{20,}"), r"epochd_\1_***"),  # its id is no secret
)

_about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)
_of_process: dict[str, Any] = {}


def configure(level: str, form: Format, *, who: str | None = None) -> None:
    """Write what is logged from this severity on to standard error. `who` stands in lines of text for the logger's
    name, where a process has one purpose.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form, who))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@contextmanager
def about(**values: Any) -> Iterator[None]:  # noqa: ANN401 - whatever is logged
    """What this thread logs inside the block is about these: `experiment_id`, `attempt`."""
    token = _about.set((_about.get() or {}) | values)
    try:
        yield
    finally:
        _about.reset(token)


def of_process(**values: Any) -> None:  # noqa: ANN401 - whatever is logged
    """Everything that this process logs from now on carries these: `worker_id`."""
    _of_process.update(values)


def redact(text: str) -> str:
    """The text without passwords of URLs, without keys and tokens."""
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders each record. Secrets are looked for in the whole line: an error's text may hold one, too."""

    def __init__(self, form: Format, who: str | None) -> None:
        render: Processor = structlog.processors.JSONRenderer(ensure_ascii=False) if form == "json" else _Text(who)
        when = structlog.processors.TimeStamper(fmt="iso", utc=True)
        chain: list[Processor] = [
            _context,
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            *([when] if form == "json" else []),
            structlog.processors.format_exc_info,
        ]
        super().__init__(foreign_pre_chain=chain, processors=[_without_private, render])

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _context(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in (_of_process | (_about.get() or {})).items():
        event.setdefault(key, value)
    request = REQUEST.get()
    if request is not None and "request_id" in request:
        event.setdefault("request_id", request["request_id"])
    return event


def _without_private(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Leave out what libraries put into records for themselves, Ray its own moment, structlog the record."""
    return {key: value for key, value in event.items() if not key.startswith("_")}


class _Text:
    """A line as it always was: what a person reads first, and nothing more than they need."""

    def __init__(self, who: str | None) -> None:
        self._who = who

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        now = time.time()
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f",{int(now % 1 * 1000):03d}"
        level = str(event["level"]).upper()
        whose = f"{self._who} {level}" if self._who else f"{level} {event['logger']}"
        line = f"{moment} {whose} {event['event']}"
        if "request_id" in event:
            line += f" (request {event['request_id']})"
        return f"{line}\n{event['exception']}" if "exception" in event else line
