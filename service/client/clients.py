"""The two clients, and all that can be done with either."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from service.client import pictures
from service.client.addresses import TIMEOUT_SECONDS, options
from service.client.carriers import Async, Bound, Carrier, Sync, iteration, operation
from service.client.core import PAGE, Core, Format
from service.client.errors import ApiError
from service.client.flow import Emit, Flow, Retries, Stream, through
from service.client.handles import ExperimentHandle, SweepHandle
from service.client.pictures import ArrayLike, Picture
from service.client.values import (
    Alias,
    Filters,
    Page,
    Plan,
    Prediction,
    RequestOptions,
    Seen,
    SpecOptions,
    SweepOptions,
)
from service.domain.experiment import Activation, Experiment, Metrics, Spec
from service.domain.sweep import Sweep, SweepSpec
from service.domain.worker import Worker

__all__ = ["AsyncClient", "Client"]


class _Operations(Bound[Carrier]):
    """What can be asked of a service. Anything may raise an `ApiError`: `errors.py` lists what can go wrong."""

    _core: Core

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        """Connects when it is first used. Without `url` the service is at `EPOCHD_URL`, else at
        `http://127.0.0.1:8000`; without `api_key` the key is `EPOCHD_API_KEY`, if that is set.

        Raises:
            InvalidRequest: the URL is none or has a user in it, the key cannot be sent, or the time is none.
            ApiError: what the environment says of proxies and certificates cannot be used.
        """
        made = options(url, api_key, timeout_seconds)
        try:
            self._carrier = self._connected(made)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            named = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
            raise ApiError(f"{named} in the environment cannot be used: {error}") from error
        self._core = Core(self._carrier, retries or Retries())

    @staticmethod
    def _connected(options: dict[str, Any]) -> Carrier:
        """What carries out the operations, for httpx's options."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The service's address."""
        return self._core.url

    @operation
    def request(
        self, method: str, path: str, /, *, repeatable: bool | None = None, **options: Unpack[RequestOptions]
    ) -> Flow[Any]:
        """The JSON that answers a request for a path of the service, for what has no method here; None when the answer
        has no body. The options are httpx's. `repeatable` says whether twice does no harm; unless it is said, it does
        harm for a `POST` and for nothing else.
        """
        return self._core.request(method, path, repeatable, options)

    @operation
    def ready(self) -> Flow[bool]:
        """Whether the service answers and can serve."""
        return self._core.ready()

    # Experiments.

    @operation
    def train(
        self, activation: Activation | str, depth: int, **options: Unpack[SpecOptions]
    ) -> Flow[ExperimentHandle[Carrier]]:
        """Queue an experiment. It is queued once, however often the request has to be sent."""
        return self._experiment(self._core.create({"activation": activation, "depth": depth, **options}))

    @operation
    def create(self, spec: Spec) -> Flow[ExperimentHandle[Carrier]]:
        """The same, from a spec."""
        return self._experiment(self._core.create(spec.model_dump(mode="json")))

    @operation
    def get_experiment(self, experiment_id: str) -> Flow[ExperimentHandle[Carrier]]:
        """Read an experiment, by its id or by the beginning of it: at least eight characters that no other has."""
        return self._experiment(self._core.seen("experiments", experiment_id))

    @iteration
    def experiments(self, *, page_size: int = PAGE, **filters: Unpack[Filters]) -> Stream[ExperimentHandle[Carrier]]:
        """All experiments that the filters leave, the newest first unless `sort` says otherwise. A page is asked for
        when the one before is used up.
        """
        return through(
            self._core.pages("experiments", {**filters, "limit": page_size}),
            lambda seen: Emit(self._experiment_handle(seen)),
        )

    @operation
    def page(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> Flow[Page[ExperimentHandle[Carrier]]]:
        """The same, one page: its `next_cursor` leads to the next."""
        page = yield from self._core.page("experiments", {"limit": limit, "cursor": cursor, **filters})
        return Page(tuple(map(self._experiment_handle, page.data)), page.next_cursor, page.raw)

    @operation
    def metrics(self, experiment_id: str, *, after_epoch: int = 0) -> Flow[Metrics]:
        """What was measured of an experiment after an epoch. Wherever an experiment or a sweep is named by its id, the
        beginning of it will do, as for `get_experiment`.
        """
        return self._core.metrics(experiment_id, after_epoch)

    @operation
    def download(self, experiment_id: str, path: Path | str, kind: Format = "keras") -> Flow[None]:
        """Write an experiment's model to a file, which appears when it is whole. Links are followed.

        Raises:
            OSError: the file cannot be written.
        """
        return self._core.download(experiment_id, kind, Path(path))

    def _experiment(self, flow: Flow[Seen[Experiment]]) -> Flow[ExperimentHandle[Carrier]]:
        return self._experiment_handle((yield from flow))

    def _experiment_handle(self, seen: Seen[Experiment]) -> ExperimentHandle[Carrier]:
        return ExperimentHandle(self._carrier, self._core, seen)

    # Sweeps.

    @operation
    def sweep(self, **options: Unpack[SweepOptions]) -> Flow[SweepHandle[Carrier]]:
        """Queue a sweep. It is queued once, however often the request has to be sent."""
        return self._sweep(self._core.create_sweep(options))

    @operation
    def create_sweep(self, spec: SweepSpec) -> Flow[SweepHandle[Carrier]]:
        """The same, from a spec."""
        return self._sweep(self._core.create_sweep(spec.model_dump(mode="json", exclude_unset=True)))

    @operation
    def plan_sweep(self, **options: Unpack[SweepOptions]) -> Flow[Plan]:
        """Check a sweep and count its experiments. Nothing is queued."""
        return self._core.plan(options)

    @operation
    def get_sweep(self, sweep_id: str) -> Flow[SweepHandle[Carrier]]:
        """Read a sweep, by its id or by the beginning of it: at least eight characters that no other has."""
        return self._sweep(self._core.seen("sweeps", sweep_id))

    @iteration
    def sweeps(self) -> Stream[SweepHandle[Carrier]]:
        """All sweeps, the newest first."""
        return through(self._core.pages("sweeps", {}), lambda seen: Emit(SweepHandle(self._carrier, self._core, seen)))

    def _sweep(self, flow: Flow[Seen[Sweep]]) -> Flow[SweepHandle[Carrier]]:
        return SweepHandle(self._carrier, self._core, (yield from flow))

    # Models.

    @operation
    def predict(self, picture: Picture, *, model: str = "best", explain: bool = False) -> Flow[Prediction]:
        """Read the digit in a picture: a path, the bytes of a file, an open file, a Pillow image, or 28x28 numbers.
        `model` is an alias or an experiment's id; `explain` gives the pixels that the network saw.

        Raises:
            OSError: the picture's file cannot be read.
            TypeError: it is no picture.
            TooLarge: its file is larger than the service takes, or than any picture.
            InvalidImage: it is one that cannot be read.
        """
        answers = yield from self._core.predict(pictures.body(picture), [model], explain=explain)
        return answers[model][0]

    @operation
    def predict_many(
        self, many: Iterable[Picture] | ArrayLike, *, model: str = "best", explain: bool = False
    ) -> Flow[list[Prediction]]:
        """The same for many pictures at once, which may be one array of n x 28 x 28 numbers."""
        answers = yield from self._core.predict(pictures.bodies(many), [model], explain=explain)
        return answers[model]

    @operation
    def predict_each(
        self, picture: Picture, models: Iterable[str], *, explain: bool = False
    ) -> Flow[dict[str, Prediction]]:
        """What each of several models sees in the same picture, by the names that you gave."""
        answers = yield from self._core.predict(pictures.body(picture), models, explain=explain)
        return {model: predictions[0] for model, predictions in answers.items()}

    @operation
    def model_name(self, model: str) -> Flow[str]:
        """What the service takes for a model: an alias as it is, an experiment's id as a whole."""
        return self._core.model_name(model)

    @operation
    def workers(self) -> Flow[list[Worker]]:
        """Who trains, the longest there first; for a day also those that went without a word."""
        return self._core.workers()

    @operation
    def models(self) -> Flow[list[Alias]]:
        """Every name a model has. `best` moves by itself."""
        return self._core.aliases()

    @operation
    def alias(self, name: str) -> Flow[Alias]:
        """Which model a name means now."""
        return self._core.alias(name)

    @operation
    def set_alias(self, name: str, experiment_id: str) -> Flow[Alias]:
        """Name a succeeded experiment's model, or move the name to it."""
        return self._core.set_alias(name, experiment_id)

    @operation
    def delete_alias(self, name: str) -> Flow[None]:
        """Forget a name; the model stays."""
        return self._core.delete_alias(name)


class Client(_Operations[Sync]):
    """Speaks to one service. Use it as a context manager, or `close` it."""

    _kind = Sync

    @staticmethod
    def _connected(options: dict[str, Any]) -> Sync:
        return Sync(lambda: httpx.Client(**options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if http := self._carrier.let_go():
            http.close()


class AsyncClient(_Operations[Async]):
    """The same for `async` code: every method is to be awaited, every iterator is asynchronous."""

    _kind = Async

    @staticmethod
    def _connected(options: dict[str, Any]) -> Async:
        return Async(lambda: httpx.AsyncClient(**options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, of this event loop where there were several."""
        if http := self._carrier.let_go():
            await http.aclose()
