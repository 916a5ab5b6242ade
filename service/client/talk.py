"""One request and its answer: how it is written, sent again, and read."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.client.bodies import as_json
from service.client.connections import Connections
from service.client.errors import ApiError, IdempotencyKeyInFlight, InvalidRequest, NoAnswer, NotFound, problem
from service.client.flow import Close, Flow, Pause, Read, Retries, Send, asked_seconds
from service.client.reasons import lasts, reason
from service.client.values import Seen

__all__ = ["Talk", "passes", "quoted"]

Value = TypeVar("Value", bound=BaseModel)

AGAIN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""What is answered when something is away that may come back."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PASSED_ON = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
"""What a gateway answers that may have passed the request on, and heard nothing of it."""


def quoted(text: str) -> str:
    """What somebody wrote, as one part of a path.

    Raises:
        InvalidRequest: it cannot be sent.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"{text!a} is no name: give a text")
    if text in {"", ".", ".."}:  # as a part of a path these mean another path
        raise InvalidRequest(f"{text!a} is no name")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{text!a} is no text: it has half a character") from error


class Talk:
    """Requests to one service, and its answers."""

    def __init__(self, connections: Connections[Any], retries: Retries) -> None:
        self._connections = connections
        self.retries = retries
        self._answered = False

    @property
    def url(self) -> str:
        """The service's address."""
        return self._connections.url

    @property
    def timeout_seconds(self) -> float:
        """How long an answer may take."""
        return self._connections.timeout_seconds

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
            ApiError: the answer is a problem, or there is none. Its `arrived` is of all the times that it was sent.
        """
        repeats, retries, arrived = 0, retries or self.retries, False
        while True:
            try:
                response: httpx.Response = yield Send(self._request(method, path, **request), stream=stream)
                if stream and not response.is_success:
                    try:
                        yield Read(response)
                    finally:
                        yield Close(response)
            except httpx.RequestError as error:
                arrived = arrived or not isinstance(error, NEVER_SENT)
                wait = retries.seconds(repeats) if self._may_pass(error, repeatable) else None
                if wait is None:
                    raise self.no_answer(error, arrived=arrived) from error
            else:
                self._answered = True
                if response.is_success:
                    return response
                found = self._problem(response)
                if method == "DELETE" and arrived and isinstance(found, NotFound):
                    return response  # an earlier one did it, and its answer did not come
                arrived = found.arrived = arrived or _unheard(found)
                found.retry_after = asked_seconds(response)
                wait = retries.seconds(repeats, response) if passes(found, repeatable) else None
                if wait is None:
                    raise found
            repeats += 1
            yield Pause(wait)

    def ask(self, method: str, path: str, **request: Any) -> Flow[Any]:  # noqa: ANN401 - httpx's
        """The JSON that answers a request; None when the answer has no body, or is that there is no more to delete.

        Raises:
            ApiError: the answer is a problem, no JSON, or there is none.
        """
        response = yield from self.exchange(method, path, **request)
        return self._object(response) if response.is_success and response.content else None

    def no_answer(self, error: Exception, *, arrived: bool = False) -> NoAnswer:
        """The error that says that there was no answer. `arrived` says that the request may have arrived."""
        return NoAnswer(f"no answer from {self.url}: {reason(error)}", arrived=arrived)

    def not_epochd(self, what: str) -> ApiError:
        """The error that says that somebody else answered."""
        return ApiError(f"{self.url} answered, but not as epochd: {what}")

    def _may_pass(self, error: httpx.RequestError, repeatable: bool) -> bool:
        """Whether a request may be sent again after this, and could be answered then."""
        if lasts(error) and not self._answered:  # a host that was known has lost its name while it starts anew
            return False
        return repeatable or isinstance(error, NEVER_SENT)

    def _request(self, method: str, path: str, **request: Any) -> httpx.Request:  # noqa: ANN401 - httpx's
        if self._connections.closed:
            raise ApiError(f"this client of {self.url} is closed: make another one")
        if "json" in request:
            request["content"] = as_json(request.pop("json"))
            request["headers"] = {"Content-Type": "application/json"} | dict(request.get("headers") or {})
        try:
            built: httpx.Request = self._connections.http.build_request(method, path, **request)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:  # too long, or half a character
            raise InvalidRequest(f"this cannot be asked of a service: {error}") from error
        return built

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        """The JSON object that a response is.

        Raises:
            ApiError: it is none.
        """
        try:
            answer = response.json()
        except (ValueError, RecursionError) as error:
            raise self.not_epochd(response.headers.get("Content-Type", "without saying what it is")) from error
        if not isinstance(answer, dict):
            raise self.not_epochd(f"{type(answer).__name__}, where an object belongs")
        return answer

    def _problem(self, response: httpx.Response) -> ApiError:
        told = f"{self.url} answers {response.status_code} {response.reason_phrase}"
        if response.has_redirect_location:
            return problem(
                response.status_code, {}, f"{told} and leads to {response.headers['Location']}: is that its address?"
            )
        try:
            return problem(response.status_code, self._object(response), told)
        except ApiError:
            return problem(response.status_code, {}, told)

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

    def _part(self, answer: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
        """A list in an answer.

        Raises:
            ApiError: it has none of this name, or there is nothing in it at all.
        """
        part = (answer or {}).get(name)
        if not isinstance(part, list) or not all(isinstance(one, dict) for one in part):
            raise ApiError(f"{self.url} answers without {name}: it is no epochd of this version")
        return part

    def _seen(self, kind: type[Value], method: str, path: str, **request: Any) -> Flow[Seen[Value]]:  # noqa: ANN401 - httpx's
        answer = yield from self.ask(method, path, **request)
        return Seen(self.value(kind, answer), answer)

    def _read(self, kind: type[Value], method: str, path: str, **request: Any) -> Flow[Value]:  # noqa: ANN401 - httpx's
        seen = yield from self._seen(kind, method, path, **request)
        return seen.value


def passes(found: ApiError, repeatable: bool = True) -> bool:
    """Whether a problem may be gone when the request is sent again, and no harm is in sending it."""
    if isinstance(found, IdempotencyKeyInFlight) or found.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    return repeatable and found.status in AGAIN


def _unheard(found: ApiError) -> bool:
    """Whether a problem is no answer of its own: a request like it may have arrived, and may be acted on."""
    return found.status in PASSED_ON or isinstance(found, IdempotencyKeyInFlight)
