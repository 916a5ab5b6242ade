"""A typed client of the HTTP API."""

from types import TracebackType
from typing import Any, Self

import httpx

from service.domain.experiment import Experiment, Metrics, Spec
from service.errors import EpochdError

__all__ = ["ApiError", "Client"]


class ApiError(EpochdError):
    """The service answered with a problem, or not at all."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """HTTP status, or None when there was no answer."""


class Client:
    """Speaks to one service. Use it as a context manager, or `close` it."""

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds)

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

    def metrics(self, experiment_id: str, *, after_epoch: int = 0) -> Metrics:
        """Read what was measured after an epoch.

        Raises:
            ApiError: there is no such experiment.
        """
        answer = self._send("GET", f"/experiments/{experiment_id}/metrics", params={"after_epoch": after_epoch})
        return Metrics.model_validate(answer)

    def predict(self, picture: bytes, media_type: str, *, experiment_id: str | None = None) -> dict[str, Any]:
        """Read the digit in a picture file, with the best model or an experiment's.

        Raises:
            ApiError: the picture cannot be read, or there is no model.
        """
        params = {"experiment_id": experiment_id} if experiment_id else {}
        return self._send("POST", "/predict", params=params, content=picture, headers={"Content-Type": media_type})

    @staticmethod
    def _experiment(answer: dict[str, Any]) -> Experiment:
        return Experiment.model_validate({name: answer[name] for name in Experiment.model_fields})

    def _send(self, method: str, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's
        try:
            response = self._http.request(method, path, **request)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ApiError(f"no answer from {self._http.base_url}: {type(error).__name__}") from error
        if response.is_error:
            raise ApiError(str(answer.get("detail", response.reason_phrase)), response.status_code)
        return answer
