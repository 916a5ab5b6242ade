"""A typed client of the HTTP API."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.domain.experiment import Activation, Dataset, Experiment, Metrics, Spec, Status
from service.domain.sweep import Sweep, SweepSpec
from service.errors import EpochdError

__all__ = ["ApiError", "Client"]

Value = TypeVar("Value", bound=BaseModel)


class ApiError(EpochdError):
    """The service answered with a problem, or not at all."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """HTTP status, or None when there was no answer."""


class Client:
    """Speaks to one service. Use it as a context manager, or `close` it."""

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        """Connects when it is first used.

        Raises:
            ApiError: the URL is none.
        """
        try:
            self._http = httpx.Client(base_url=url, timeout=timeout_seconds)
        except httpx.InvalidURL as error:
            raise ApiError(f"{url} is no address of a service: {error}") from error
        if self._http.base_url.scheme not in {"http", "https"}:
            raise ApiError(f"{url} is no address of a service: it begins with http:// or https://")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the service answers and can serve."""
        try:
            return self._http.get("/health/ready").is_success
        except httpx.HTTPError:
            return False

    def create(self, spec: Spec) -> Experiment:
        """Queue an experiment.

        Raises:
            ApiError: the service refused it.
        """
        return self._experiment(self._send("POST", "/experiments", json=spec.model_dump(mode="json")))

    def get(self, experiment_id: str) -> Experiment:
        """Read an experiment.

        Raises:
            ApiError: there is none with this id.
        """
        return self._experiment(self._send("GET", f"/experiments/{experiment_id}"))

    def experiments(
        self,
        *,
        status: Sequence[Status] = (),
        activation: Sequence[Activation] = (),
        depth: Sequence[int] = (),
        dataset: Sequence[Dataset] = (),
        tag: Sequence[str] = (),
        sweep_id: str | None = None,
        sort: Literal["created_at", "-created_at", "test_accuracy", "-test_accuracy"] = "created_at",
        page_size: int = 200,
    ) -> Iterator[Experiment]:
        """Read experiments one after the other, the oldest first unless `sort` says otherwise. A page is asked for when
        the one before is used up. A filter takes any of its values, `tag` only what has all of them.

        Raises:
            ApiError: the service refused a filter.
        """
        query: dict[str, Any] = {
            "status": [str(one) for one in status],
            "activation": list(activation),
            "depth": list(depth),
            "dataset": list(dataset),
            "tag": list(tag),
            "sort": sort,
            "limit": page_size,
        }
        if sweep_id is not None:
            query["sweep_id"] = sweep_id
        while True:
            answer = self._send("GET", "/experiments", params=query)
            for one in answer.get("data", ()):
                yield self._experiment(one)
            query["cursor"] = answer.get("next_cursor")
            if query["cursor"] is None:
                return

    def create_sweep(self, spec: SweepSpec) -> Sweep:
        """Queue a sweep.

        Raises:
            ApiError: the service refused it.
        """
        answer = self._send("POST", "/sweeps", json=spec.model_dump(mode="json", exclude_unset=True))
        return self._value(Sweep, answer)

    def comparison(self, sweep_id: str) -> dict[str, Any]:
        """Compare the arms of a sweep, as far as it has come.

        Raises:
            ApiError: there is no such sweep.
        """
        return self._send("GET", f"/sweeps/{sweep_id}/comparison")

    def figure(self, of: str, name: str, *, kind: str, width: int) -> bytes:
        """Draw an experiment or a sweep, by its id: a file of the kind `json`, `svg`, `png` or `html`.

        Raises:
            ApiError: there is no such experiment, sweep or figure.
        """
        try:
            for noun in ("experiments", "sweeps"):
                response = self._http.get(f"/{noun}/{of}/figures/{name}", params={"format": kind, "width": width})
                if response.is_success:
                    return response.content
                if response.status_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}:
                    break
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        self._answer(response)
        raise AssertionError("an error's answer raises")

    def sweep(self, sweep_id: str) -> Sweep:
        """Read a sweep.

        Raises:
            ApiError: there is none with this id.
        """
        return self._value(Sweep, self._send("GET", f"/sweeps/{sweep_id}"))

    def metrics(self, experiment_id: str, *, after_epoch: int = 0) -> Metrics:
        """Read what was measured after an epoch.

        Raises:
            ApiError: there is no such experiment.
        """
        answer = self._send("GET", f"/experiments/{experiment_id}/metrics", params={"after_epoch": after_epoch})
        return self._value(Metrics, answer)

    def download(self, experiment_id: str, kind: Literal["keras", "onnx"], path: Path) -> None:
        """Write an experiment's model to a file, without holding all of it in memory.

        Raises:
            ApiError: there is no such experiment, it has no model, or what came is not what the service has.
        """
        sha256 = hashlib.sha256()
        try:
            with self._http.stream("GET", f"/experiments/{experiment_id}/model", params={"format": kind}) as response:
                if response.is_error:
                    response.read()
                    self._answer(response)
                with path.open("wb") as file:
                    for part in response.iter_bytes():
                        sha256.update(part)
                        file.write(part)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        if response.headers.get("ETag") != f'"{sha256.hexdigest()}"':
            raise ApiError(f"the {kind} file of experiment {experiment_id} came damaged: its SHA-256 is not its ETag")

    def predict(self, picture: bytes, media_type: str, *, experiment_id: str | None = None) -> dict[str, Any]:
        """Read the digit in a picture file, with the best model or an experiment's.

        Raises:
            ApiError: the picture cannot be read, or there is no model.
        """
        params = {"experiment_id": experiment_id} if experiment_id else {}
        return self._send("POST", "/predict", params=params, content=picture, headers={"Content-Type": media_type})

    def _experiment(self, answer: Mapping[str, Any]) -> Experiment:
        return self._value(Experiment, answer)

    def _value(self, kind: type[Value], answer: Mapping[str, Any]) -> Value:
        try:
            return kind.model_validate({name: answer[name] for name in kind.model_fields if name in answer})
        except (TypeError, ValidationError) as error:
            what = kind.__name__.lower()
            raise ApiError(f"{self._http.base_url} answers with no {what} of this version of epochd") from error

    def _send(self, method: str, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error
        return self._answer(response)

    def _answer(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError as error:
            raise self._no_answer(error) from error
        if not isinstance(answer, dict):
            raise ApiError(f"{self._http.base_url} is no epochd")
        if response.is_error:
            raise ApiError(str(answer.get("detail", response.reason_phrase)), response.status_code)
        return answer

    def _no_answer(self, error: Exception) -> ApiError:
        return ApiError(f"no answer from {self._http.base_url}: {type(error).__name__}")
