"""The application, put together from its ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from service.api import (
    audit,
    comparison,
    events,
    experiments,
    figures,
    health,
    inference,
    metrics,
    models,
    pages,
    predict,
    problems,
    session,
    sweeps,
    tfserving,
    workers,
)
from service.api.admission import Admission
from service.api.deps import Ports
from service.api.direct import DirectRoutes
from service.api.failures import FailedKeys
from service.api.head import HeadAsGet
from service.api.headers import SecurityHeaders
from service.api.keyring import Keyring
from service.api.limits import BodyLimit
from service.api.requests import Requests
from service.api.security import describe
from service.api.streams import Streams
from service.errors import EpochdError
from service.settings import Settings
from service.telemetry import metrics as telemetry

__all__ = ["create_app"]

FLUSH_SECONDS = 1.0

DESCRIPTION = """
Trains Keras models on MNIST and answers from them.

1. `POST /experiments` queues a training run: an activation and a depth, the rest has defaults.
2. `GET /experiments/{experiment_id}/metrics` shows every epoch while it trains, with the gradient's norm at each layer.
3. `POST /sweeps` queues a grid of them, repeated over seeds.
4. `POST /predict` reads a digit with the best model, an alias's or an experiment's.

Errors are `application/problem+json` (RFC 9457). Times are UTC (RFC 3339). Unknown fields are refused.
"""

TAGS = [
    {"name": "experiments", "description": "Training runs."},
    {"name": "sweeps", "description": "Many training runs at once: a grid of specs, repeated over seeds."},
    {"name": "figures", "description": "Plotly figures of what was measured."},
    {"name": "models", "description": "What succeeded experiments leave: files, and the aliases that name them."},
    {"name": "predictions", "description": "Answers from saved models, without TensorFlow."},
    {"name": "open inference protocol", "description": "The same for clients of Triton, KServe and MLServer."},
    {"name": "tensorflow serving", "description": "The same for clients of TensorFlow Serving."},
    {"name": "workers", "description": "Who trains."},
    {"name": "access", "description": "Who one is, and who did what."},
    {"name": "health", "description": "Probes and metrics."},
]


def create_app(settings: Settings, open_ports: Callable[[], AbstractContextManager[Ports]]) -> FastAPI:
    """The API. Its ports are opened when it starts and closed when it stops, never at import."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_ports() as ports:
            app.state.ports = ports
            app.state.census = metrics.Census(ports.database)
            ports.news.start()
            app.state.keyring = Keyring(ports.database)
            with contextlib.suppress(EpochdError):  # each request that needs a key tells of it
                await app.state.keyring.refresh()
            flushing = asyncio.create_task(_flush(app.state.failed_keys))
            yield
            flushing.cancel()
            app.state.failed_keys.flush(all_of_it=True)
            await app.state.keyring.close()

    app = _Api(
        title="epochd",
        version=version("epochd"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "MIT"},
        lifespan=lifespan,
        redirect_slashes=False,  # a path is right or wrong; a redirect without a word would hide it
        docs_url=None,
        redoc_url=None,
    )
    for module in (
        predict,
        inference,
        tfserving,
        experiments,
        events,
        sweeps,
        comparison,
        figures,
        models,
        workers,
        audit,
        session,
        health,
        metrics,
    ):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        DirectRoutes,
        routers=(predict.router, inference.router, tfserving.router),
        handlers={kind: handler for kind, handler in app.exception_handlers.items() if kind is not Exception},
    )
    if settings.rate_limit or settings.prediction_rate_limit:
        from service.api.rates import RateLimits  # which imports a library that is not needed without

        app.add_middleware(RateLimits, requests=settings.rate_limit, predictions=settings.prediction_rate_limit)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_seconds=settings.body_seconds)
    app.add_middleware(Admission, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Location", "Retry-After", "ETag"],
        )
    app.state.failed_keys = FailedKeys(settings.failed_key_rate_limit)
    app.state.streams = Streams(settings.max_streams_per_caller)
    app.documents = pages.install(app)
    app.access_log = settings.access_log
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class _Api(FastAPI):
    """Has what every answer needs around everything: what `add_middleware` adds is inside of what answers unexpected
    errors.
    """

    documents: Mapping[str, str] = {}
    access_log = False

    def build_middleware_stack(self) -> ASGIApp:
        secured = SecurityHeaders(super().build_middleware_stack(), self.documents)
        return Requests(secured, access_log=self.access_log)


async def _flush(failed_keys: FailedKeys) -> None:
    """What other processes of this service show of ours is so old at most, and what the log tells so late."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        telemetry.flush()
        failed_keys.flush()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The framework's description of the API, with the one error format that every route uses."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            license_info=app.license_info,
        )
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = schema["components"]["schemas"]
        describe(schema, app.routes, problems.refusals())
        schemas |= problem.pop("$defs") | {"Problem": problem}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
