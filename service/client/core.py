"""What a client can ask, and how the answers are read: for both kinds of client, as flows."""

import functools
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ApiError, IdempotencyKeyInFlight, NoAnswer, NotFound, problem
from service.client.flow import Close, Emit, Flow, Items, Next, Pause, Read, Retries, Send, Stream
from service.client.values import Alias, Figure, Page, Plan, Prediction, Seen
from service.domain.comparison import Comparison
from service.domain.experiment import Experiment, Metrics
from service.domain.sweep import Sweep

__all__ = ["SERVICE", "Core", "Format", "Kind", "Noun", "options", "passes"]

Value = TypeVar("Value", bound=BaseModel)
Noun = Literal["experiments", "sweeps"]
Format = Literal["keras", "onnx"]
Kind = Literal["json", "svg", "png", "html"]

SERVICE = "http://127.0.0.1:8000"
"""Where a service listens that was started without a word about it."""
TIMEOUT_SECONDS = 30.0
PAGE = 200

AGAIN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""What is answered when something is away that may come back."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

VALUES: dict[str, type[Experiment] | type[Sweep]] = {"experiments": Experiment, "sweeps": Sweep}

quoted = functools.partial(quote, safe="")
"""What somebody wrote, as one part of a path."""

SHORT = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}", re.IGNORECASE)
"""The beginning of an id that has 36 characters."""
SHORT_LOOKS = 20
"""Pages that are looked through for the beginning of an id."""


def options(url: str | None, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    """What httpx takes for a client of a service. `EPOCHD_URL` and `EPOCHD_API_KEY` stand in for what is None.

    Raises:
        ApiError: the address is none.
    """
    url = url or os.environ.get("EPOCHD_URL") or SERVICE
    key = api_key or os.environ.get("EPOCHD_API_KEY")
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ApiError(f"{url} is no address of a service: {error}") from error
    if base.scheme not in {"http", "https"}:
        raise ApiError(f"{url} is no address of a service: it begins with http:// or https://")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": base, "headers": headers, "timeout": timeout_seconds}


class Core:
    """The conversations with one service."""

    def __init__(self, http: httpx.Client | httpx.AsyncClient, retries: Retries) -> None:
        self._http = http
        self.retries = retries

    @property
    def url(self) -> str:
        """The service's address."""
        return str(self._http.base_url)

    # One request.

    def exchange(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        stream: bool = False,
        retries: Retries | None = None,
        **request: Any,  # noqa: ANN401 - httpx's
    ) -> Flow[httpx.Response]:
        """Send a request until it is answered, as often as `retries` or the client's own allow. One that is not
        `repeatable` is sent again only when it was surely not acted on. Whoever asks for a stream closes it.

        Raises:
            ApiError: the answer is a problem, or there is none.
        """
        repeats, retries = 0, retries or self.retries
        while True:
            try:
                response: httpx.Response = yield Send(self._http.build_request(method, path, **request), stream=stream)
                if stream and not response.is_success:
                    try:
                        yield Read(response)
                    finally:
                        yield Close(response)
            except httpx.RequestError as error:
                wait = retries.seconds(repeats) if repeatable or isinstance(error, NEVER_SENT) else None
                if wait is None:
                    raise self.no_answer(error) from error
            else:
                if response.is_success:
                    return response
                found = self._problem(response)
                if method == "DELETE" and repeats and isinstance(found, NotFound):
                    return response  # an earlier one arrived, and its answer did not
                wait = retries.seconds(repeats, response) if passes(found, repeatable) else None
                if wait is None:
                    raise found
            repeats += 1
            yield Pause(wait)

    def ask(self, method: str, path: str, **request: Any) -> Flow[Any]:  # noqa: ANN401 - httpx's
        """The JSON that answers a request; None when the answer has no body.

        Raises:
            ApiError: the answer is a problem, no JSON, or there is none.
        """
        response = yield from self.exchange(method, path, **request)
        if not response.content:
            return None
        try:
            answer = response.json()
        except ValueError as error:
            raise self.no_answer(error) from error
        if not isinstance(answer, dict):
            raise ApiError(f"{self.url} is no epochd")
        return answer

    def no_answer(self, error: Exception) -> NoAnswer:
        """The error that says that there was no answer."""
        return NoAnswer(f"no answer from {self.url}: {type(error).__name__}")

    def _problem(self, response: httpx.Response) -> ApiError:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        return problem(
            response.status_code,
            answer if isinstance(answer, dict) else {},
            f"{self.url} answers {response.status_code} {response.reason_phrase}",
        )

    def value(self, kind: type[Value], answer: object) -> Value:
        """The value that an answer is.

        Raises:
            ApiError: it is none.
        """
        try:
            return kind.model_validate({name: answer[name] for name in kind.model_fields if name in answer})  # type: ignore[index, operator]
        except (TypeError, ValidationError) as error:  # no object, or no such one
            what = kind.__name__.lower()
            raise ApiError(f"{self.url} answers with no {what} of this version of epochd") from error

    def _part(self, answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """A list in an answer.

        Raises:
            ApiError: it has none of this name.
        """
        part = answer.get(name)
        if not isinstance(part, list) or not all(isinstance(one, dict) for one in part):
            raise ApiError(f"{self.url} answers without {name}: it is no epochd of this version")
        return part

    def _seen(self, kind: type[Value], method: str, path: str, **request: Any) -> Flow[Seen[Value]]:  # noqa: ANN401 - httpx's
        answer = yield from self.ask(method, path, **request)
        return Seen(self.value(kind, answer), answer)

    def _read(self, kind: type[Value], method: str, path: str, **request: Any) -> Flow[Value]:  # noqa: ANN401 - httpx's
        seen = yield from self._seen(kind, method, path, **request)
        return seen.value

    # Experiments and sweeps.

    def ready(self) -> Flow[bool]:
        """Whether the service answers and can serve."""
        try:
            response = yield Send(self._http.build_request("GET", "/health/ready"))
        except httpx.RequestError:
            return False
        return bool(response.is_success)

    def create(self, spec: Mapping[str, Any]) -> Flow[Seen[Experiment]]:
        """Queue an experiment, once however often the request is sent."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return self._seen(Experiment, "POST", "/experiments", json=spec, headers=key)

    def create_sweep(self, spec: Mapping[str, Any]) -> Flow[Seen[Sweep]]:
        """Queue a sweep, once however often the request is sent."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return self._seen(Sweep, "POST", "/sweeps", json=spec, headers=key)

    def plan(self, spec: Mapping[str, Any]) -> Flow[Plan]:
        """What a sweep would be."""
        return self._read(Plan, "POST", "/sweeps", json=spec, params={"dry_run": True})

    def seen(self, noun: Noun, text: str) -> Flow[Seen[Any]]:
        """Read an experiment or a sweep, by its id or by the beginning of it."""
        identity = yield from self.whole_id(noun, text)
        return (yield from self._seen(VALUES[noun], "GET", f"/{noun}/{quoted(identity)}"))

    def cancel(self, noun: Noun, identity: str) -> Flow[Seen[Any]]:
        """Cancel an experiment or a sweep. Asking again is no error."""
        return self._seen(VALUES[noun], "POST", f"/{noun}/{identity}/cancel")

    def retry(self, experiment_id: str) -> Flow[Seen[Experiment]]:
        """Queue the same again."""
        return self._seen(Experiment, "POST", f"/experiments/{experiment_id}/retry", repeatable=False)

    def delete(self, noun: Noun, identity: str) -> Flow[None]:
        """Delete an experiment or a sweep that has ended."""
        return self.ask("DELETE", f"/{noun}/{identity}")

    def page(self, noun: Noun, query: Mapping[str, Any]) -> Flow[Page[Seen[Any]]]:
        """Some experiments or sweeps."""
        asked = {name: value for name, value in query.items() if value is not None}
        answer = yield from self.ask("GET", f"/{noun}", params=asked)
        seen = tuple(Seen(self.value(VALUES[noun], one), one) for one in self._part(answer, "data"))
        return Page(seen, answer.get("next_cursor"), answer)

    def pages(self, noun: Noun, query: Mapping[str, Any]) -> Stream[Seen[Any]]:
        """All of them, one emitted after the other. A page is asked for when the one before is used up."""
        query = {"limit": PAGE, **query}
        while True:
            page = yield from self.page(noun, query)
            for one in page.data:
                yield Emit(one)
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def whole_id(self, noun: Noun, text: str) -> Flow[str]:
        """The id that begins so. A whole one is returned as it is, and nothing is asked.

        Raises:
            ApiError: none of the newest, or more than one, begins so.
        """
        if not SHORT.fullmatch(text):
            return text
        found: list[str] = []
        query: dict[str, Any] = {"limit": PAGE, "sort": "-created_at"} if noun == "experiments" else {"limit": PAGE}
        for _ in range(SHORT_LOOKS):
            page = yield from self.page(noun, query)
            ids = [one.value.id for one in page.data]
            found += [one for one in ids if one.startswith(text.lower())]
            # Ids are ordered by time: what begins alike stands together.
            if page.next_cursor is None or ids[-1] < text.lower():
                break
            query["cursor"] = page.next_cursor
        what = noun.removesuffix("s")
        if not found:
            raise NotFound(f"no {what} of the newest has an id that begins with {text}", status=HTTPStatus.NOT_FOUND)
        if len(found) > 1:
            raise ApiError(f"{len(found)} {noun} have an id that begins with {text}: give more of it")
        return found[0]

    def metrics(self, experiment_id: str, after_epoch: int) -> Flow[Metrics]:
        """What was measured after an epoch."""
        path = f"/experiments/{quoted(experiment_id)}/metrics"
        return self._read(Metrics, "GET", path, params={"after_epoch": after_epoch})

    def comparison(self, sweep_id: str, reference: str | None) -> Flow[Comparison]:
        """The arms of a sweep, as far as it has come."""
        params = {} if reference is None else {"reference": reference}
        return self._read(Comparison, "GET", f"/sweeps/{sweep_id}/comparison", params=params)

    # Files.

    def download(self, experiment_id: str, kind: Format, path: Path) -> Flow[None]:
        """Write a model to a file, without holding all of it in memory. The file appears when it is whole."""
        url = f"/experiments/{quoted(experiment_id)}/model"
        response = yield from self.exchange("GET", url, params={"format": kind}, stream=True)
        sha256, partial = hashlib.sha256(), path.with_name(f".{path.name}.part")
        parts = Items(response.iter_bytes, response.aiter_bytes)
        try:
            with partial.open("wb") as file:
                while (part := (yield Next(parts))) is not None:
                    sha256.update(part)
                    file.write(part)
            if response.headers.get("ETag") != f'"{sha256.hexdigest()}"':
                what = f"the {kind} file of experiment {experiment_id}"
                raise ApiError(f"{what} came damaged: its SHA-256 is not its ETag")
            partial.replace(path)
        except httpx.RequestError as error:
            raise self.no_answer(error) from error
        finally:
            partial.unlink(missing_ok=True)
            yield Close(response)

    def draw(self, noun: Noun, identity: str, name: str, kind: Kind, width: int) -> Flow[bytes]:
        """A figure as a file."""
        params = {"format": kind, "width": width}
        response = yield from self.exchange("GET", f"/{noun}/{identity}/figures/{quoted(name)}", params=params)
        return bytes(response.content)

    def figure(self, noun: Noun, identity: str, name: str) -> Flow[Figure]:
        """A figure to look at."""
        spec = json.loads((yield from self.draw(noun, identity, name, "json", 900)))
        try:
            svg = (yield from self.draw(noun, identity, name, "svg", 900)).decode()
        except ApiError as error:
            if error.status != HTTPStatus.NOT_IMPLEMENTED:
                raise
            svg = None
        return Figure(name, spec, svg)

    # Models.

    def predict(
        self, request: Mapping[str, Any], models: Sequence[str], *, explain: bool
    ) -> Flow[dict[str, list[Prediction]]]:
        """What each of the models sees in the pictures of a request."""
        params = {"model": ",".join(models)} | ({"explain": True} if explain else {})
        answer = yield from self.ask("POST", "/predict", params=params, **request)
        own = dict(zip(models, answer.get("answers", [answer]), strict=True))
        return {
            model: [
                self.value(Prediction, one | {"experiment_id": of.get("experiment_id")})
                for one in self._part(of, "predictions")
            ]
            for model, of in own.items()
        }

    def aliases(self) -> Flow[list[Alias]]:
        """Every name a model has."""
        answer = yield from self.ask("GET", "/models")
        return [self.value(Alias, one) for one in self._part(answer, "data")]

    def alias(self, name: str) -> Flow[Alias]:
        """Which model a name means now."""
        return self._read(Alias, "GET", f"/models/{quoted(name)}")

    def set_alias(self, name: str, experiment_id: str) -> Flow[Alias]:
        """Name a model, or move the name to it."""
        return self._read(Alias, "PUT", f"/models/{quoted(name)}", json={"experiment_id": experiment_id})

    def delete_alias(self, name: str) -> Flow[None]:
        """Forget a name."""
        return self.ask("DELETE", f"/models/{quoted(name)}")


def passes(found: ApiError, repeatable: bool = True) -> bool:
    """Whether a problem may be gone when the request is sent again, and no harm is in sending it."""
    if isinstance(found, IdempotencyKeyInFlight) or found.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    return repeatable and found.status in AGAIN
