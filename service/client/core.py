"""What a client can ask: for both kinds of client, as flows."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import httpx

from service.client.bodies import plain
from service.client.errors import ApiError, InvalidRequest, NotFound
from service.client.files import whole_file
from service.client.flow import Close, Emit, Flow, Items, Next, Retries, Stream
from service.client.talk import Talk, quoted
from service.client.values import Alias, Figure, Page, Plan, Prediction, RequestOptions, Seen
from service.domain.comparison import Comparison
from service.domain.experiment import Experiment, Metrics
from service.domain.sweep import Sweep
from service.domain.worker import Worker

__all__ = ["PAGE", "Core", "Format", "Kind", "Noun"]

Noun = Literal["experiments", "sweeps"]
Format = Literal["keras", "onnx"]
Kind = Literal["json", "svg", "png", "html"]

PAGE = 200

DRAWN = {"json": "application/json", "svg": "image/svg+xml", "png": "image/png", "html": "text/html"}
VALUES: dict[str, type[Experiment] | type[Sweep]] = {"experiments": Experiment, "sweeps": Sweep}

ELSEWHERE = re.compile(r"//|[^/?#]*:|(?:[^?#]*/)?\.\.?(?:[/?#]|$)", re.DOTALL)
"""What httpx takes for another address, or for a path above the one that it was given."""

WHOLE = 36
"""Characters of an id."""
SHORT = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}", re.IGNORECASE)
"""The beginning of an id that has 36 characters."""
SHORT_LOOKS = 20
"""Pages that are looked through for the beginning of an id."""


class Core(Talk):
    """What one service can be asked."""

    def request(self, method: str, path: str, repeatable: bool | None, options: RequestOptions) -> Flow[Any]:
        """Whatever has no method here.

        Raises:
            InvalidRequest: the path is none of the service's.
        """
        known = RequestOptions.__annotations__
        if unknown := [name for name in options if name not in known]:
            raise TypeError(f"request takes no {', '.join(unknown)}: it takes {', '.join(known)} and repeatable")
        if not isinstance(path, str) or ELSEWHERE.match(path):
            raise InvalidRequest(
                f"request takes a path of {self.url}, such as /experiments, and nothing that leads away"
            )
        method = method.upper()
        again = method != "POST" if repeatable is None else repeatable
        return self.ask(method, path, repeatable=again, **options)

    # Experiments and sweeps.

    def ready(self) -> Flow[bool]:
        """Whether the service answers and can serve."""
        try:
            yield from self.ask("GET", "/health/ready", retries=Retries(times=0))
        except ApiError:
            if self._connections.closed:
                raise
            return False
        return True

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

    def seen(self, noun: Noun, text: str, **request: Any) -> Flow[Seen[Any]]:  # noqa: ANN401 - exchange's
        """Read an experiment or a sweep, by its id or by the beginning of it."""
        identity = yield from self.whole_id(noun, text)
        return (yield from self._seen(VALUES[noun], "GET", f"/{noun}/{quoted(identity)}", **request))

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
        asked = {name: plain(value) for name, value in query.items() if value is not None}
        if asked.get("sweep_id"):
            asked["sweep_id"] = yield from self.whole_id("sweeps", asked["sweep_id"])
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
            if page.next_cursor == query.get("cursor"):
                raise self.not_epochd("a list that leads from a page to the same page")
            query["cursor"] = page.next_cursor

    def whole_id(self, noun: Noun, text: str) -> Flow[str]:
        """The id that begins so. A whole one is returned as it is, and nothing is asked.

        Raises:
            ApiError: none of the newest, or more than one, begins so.
        """
        what = noun.removesuffix("s")
        text = str(text)
        if len(text) == WHOLE:
            return text
        if not SHORT.fullmatch(text):
            shown = repr(text if len(text) < WHOLE else f"{text[:WHOLE]}...")
            raise NotFound(
                f"{shown} is no id of {'an' if what[0] == 'e' else 'a'} {what}: give all of it, or at least its first "
                "eight characters",
                status=HTTPStatus.NOT_FOUND,
            )
        found: list[str] = []
        query: dict[str, Any] = {"limit": PAGE, "sort": "-created_at"} if noun == "experiments" else {"limit": PAGE}
        for _ in range(SHORT_LOOKS):
            page = yield from self.page(noun, query)
            ids = [one.value.id for one in page.data]
            found += [one for one in ids if one.startswith(text.lower())]
            # Ids are ordered by time: what begins alike stands together.
            if page.next_cursor is None or not ids or ids[-1] < text.lower():
                break
            query["cursor"] = page.next_cursor
        if not found:
            raise NotFound(f"no {what} of the newest has an id that begins with {text}", status=HTTPStatus.NOT_FOUND)
        if len(found) > 1:
            raise ApiError(f"{len(found)} {noun} have an id that begins with {text}: give more of it")
        return found[0]

    def metrics(self, experiment_id: str, after_epoch: int) -> Flow[Metrics]:
        """What was measured after an epoch."""
        path = f"/experiments/{quoted((yield from self.whole_id('experiments', experiment_id)))}/metrics"
        return (yield from self._read(Metrics, "GET", path, params={"after_epoch": after_epoch}))

    def comparison(self, sweep_id: str, reference: str | None) -> Flow[Comparison]:
        """The arms of a sweep, as far as it has come."""
        params = {} if reference is None else {"reference": reference}
        return self._read(Comparison, "GET", f"/sweeps/{sweep_id}/comparison", params=params)

    # Files.

    def download(self, experiment_id: str, kind: Format, path: Path) -> Flow[None]:
        """Write a model to a file, without holding all of it in memory. The file appears when it is whole."""
        experiment_id = yield from self.whole_id("experiments", experiment_id)
        url = f"/experiments/{quoted(experiment_id)}/model"
        response = yield from self.exchange("GET", url, params={"format": kind}, stream=True)
        sha256 = hashlib.sha256()
        parts = Items(response, response.iter_bytes, response.aiter_bytes)
        try:
            with whole_file(path) as file:
                while (part := (yield Next(parts))) is not None:
                    sha256.update(part)
                    file.write(part)
                if response.headers.get("ETag") != f'"{sha256.hexdigest()}"':
                    what = f"the {kind} file of experiment {experiment_id}"
                    raise ApiError(f"{what} came damaged: its SHA-256 is not its ETag")
        except httpx.RequestError as error:
            raise self.no_answer(error) from error
        finally:
            yield Close(response)

    def draw(self, noun: Noun, identity: str, name: str, kind: Kind, width: int) -> Flow[bytes]:
        """A figure as a file."""
        params = {"format": kind, "width": width}
        response = yield from self.exchange("GET", f"/{noun}/{identity}/figures/{quoted(name)}", params=params)
        told = response.headers.get("Content-Type", "")
        if not told.startswith(DRAWN.get(kind, "")):
            raise self.not_epochd(f"{told or 'nothing'}, where a figure belongs")
        return bytes(response.content)

    def figure(self, noun: Noun, identity: str, name: str) -> Flow[Figure]:
        """A figure to look at."""
        spec = self._plotly((yield from self.draw(noun, identity, name, "json", 900)))
        try:
            svg = (yield from self.draw(noun, identity, name, "svg", 900)).decode()
        except UnicodeDecodeError as error:
            raise self.not_epochd("no SVG") from error
        except ApiError as error:
            if error.status != HTTPStatus.NOT_IMPLEMENTED:
                raise
            svg = None
        return Figure(name, spec, svg)

    def _plotly(self, drawn: bytes) -> dict[str, Any]:
        try:
            spec = json.loads(drawn)
        except (ValueError, RecursionError):
            spec = None
        match spec:
            case {"data": list(), "layout": dict()}:
                return dict(spec)
        raise self.not_epochd("no figure of Plotly's")

    # Models.

    def predict(
        self, request: Mapping[str, Any], models: Iterable[str], *, explain: bool
    ) -> Flow[dict[str, list[Prediction]]]:
        """What each of the models sees in the pictures of a request, by the names that were given."""
        names: dict[str, str] = {}
        for model in [models] if isinstance(models, str) else models:
            names[model] = yield from self.model_name(model)
        if not names:
            raise InvalidRequest("no model is named: an alias or an experiment's id is needed")
        params = {"model": ",".join(names.values())} | ({"explain": True} if explain else {})
        answer = yield from self.ask("POST", "/predict", params=params, **request)
        answers = [answer] if len(names) == 1 else self._part(answer, "answers")
        if len(answers) != len(names):
            raise self.not_epochd(f"{len(answers)} answers of {len(names)} models")
        return {model: self._predictions(of) for model, of in zip(names, answers, strict=True)}

    def _predictions(self, answer: dict[str, Any] | None) -> list[Prediction]:
        found = self._part(answer, "predictions")
        if not found:
            raise self.not_epochd("no prediction")
        experiment_id = (answer or {}).get("experiment_id")
        return [self.value(Prediction, one | {"experiment_id": experiment_id}) for one in found]

    def model_name(self, model: str) -> Flow[str]:
        """What the service takes for a model: an alias as it is, an experiment's id as a whole.

        Raises:
            InvalidRequest: it is neither.
            NotFound: it reads as the beginning of an id, and is none.
        """
        if not isinstance(model, str) or not model or "," in model:
            raise InvalidRequest(f"{model!a} is no model: give one alias, or one experiment's id")
        if len(model) == WHOLE or not SHORT.fullmatch(model):
            return model
        try:
            return (yield from self.alias(model)).alias  # an alias may look like the beginning of an id
        except NotFound:
            return (yield from self.whole_id("experiments", model))

    def aliases(self) -> Flow[list[Alias]]:
        """Every name a model has."""
        answer = yield from self.ask("GET", "/models")
        return [self.value(Alias, one) for one in self._part(answer, "data")]

    def workers(self) -> Flow[list[Worker]]:
        """Who trains, and those that went without a word."""
        answer = yield from self.ask("GET", "/workers")
        return [self.value(Worker, one) for one in self._part(answer, "data")]

    def alias(self, name: str) -> Flow[Alias]:
        """Which model a name means now."""
        return self._read(Alias, "GET", f"/models/{quoted(name)}")

    def set_alias(self, name: str, experiment_id: str) -> Flow[Alias]:
        """Name a model, or move the name to it."""
        body = {"experiment_id": (yield from self.whole_id("experiments", experiment_id))}
        return (yield from self._read(Alias, "PUT", f"/models/{quoted(name)}", json=body))

    def delete_alias(self, name: str) -> Flow[None]:
        """Forget a name."""
        return self.ask("DELETE", f"/models/{quoted(name)}")
