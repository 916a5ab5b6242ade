"""The API held against its own description by Schemathesis: examples, limits, random requests, and chains of them."""

import re
from collections.abc import Collection, Iterator
from typing import Any

import schemathesis
from schemathesis import Config
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.schemas import BaseSchema

from tests.fuzz.tally import Tally

__all__ = ["PHASES", "explore"]

PHASES = ("examples", "coverage", "fuzzing", "stateful")

ANSWER_SECONDS = 10
UNKNOWN_HEADER = "in header - object with unexpected properties"
"""Headers that nobody knows are to be ignored (RFC 9110, 5.1), not refused."""
DIFFERENT = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")
"""In two tellings of the same failure."""


def explore(
    url: str,
    *,
    seed: int,
    examples: int,
    guarded: bool = True,
    token: str | None = None,
    phases: Collection[str] = PHASES,
    only: Collection[str] = (),
) -> Tally:
    """Send what the description at `url` allows, and what it does not, as whoever has the API key `token`. `guarded`
    says whether the service asks for keys at all. `only` names operations, as `POST /sweeps`; empty means all.

    Every answer has to be one that is described, with its schema, and none a server's error. What the description
    forbids has to be refused. What it allows may be refused with 422 all the same: no schema says that a cursor has to
    come from a list, or that a value stands in one of two places.
    """
    schema: BaseSchema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=Config(seed=seed))
    _configure(schema, token, examples, phases)
    schema.config.checks.ignored_auth.enabled = guarded
    if only:
        schema = schema.include(name=list(only))
    tally = Tally()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(tally, event.phase.value, event.recorder)
        elif isinstance(event, events.NonFatalError):
            tally.fail(f"error: {event.value}", event.label)
        elif isinstance(event, events.FatalError):
            raise event.exception
    return tally


def _configure(schema: BaseSchema, token: str | None, examples: int, phases: Collection[str]) -> None:
    config = schema.config
    config.generation.max_examples = examples
    config.generation.database = "none"
    config.request_timeout = ANSWER_SECONDS
    config.max_stream_events = 1  # of an experiment that waits there is no second
    config.continue_on_failure = True
    config.checks.positive_data_acceptance.expected_statuses = [
        *config.checks.positive_data_acceptance.expected_statuses, "422",
    ]  # fmt: skip
    for name in PHASES:
        config.phases.get_by_name(name=name).enabled = name in phases
    if token is not None:
        config.headers = {"Authorization": f"Bearer {token}"}


def _count(tally: Tally, phase: str, recorder: ScenarioRecorder) -> None:
    for identity, interaction in recorder.interactions.items():
        tally.cases[phase] += 1
        if interaction.response is not None:
            tally.statuses[interaction.response.status_code] += 1
        for check, failure, sample in _failures(recorder, identity):
            label = recorder.cases[identity].value.operation.label
            tally.fail(f"{label}: {check}: {DIFFERENT.sub('N', failure)}", sample)


def _failures(recorder: ScenarioRecorder, identity: str) -> Iterator[tuple[str, str, str]]:
    for check in recorder.checks.get(identity, ()):
        found: Any = check.failure_info
        if found is not None and UNKNOWN_HEADER not in found.failure.message:
            yield check.name, " ".join(found.failure.message.split())[:300], found.code_sample[:2000]
