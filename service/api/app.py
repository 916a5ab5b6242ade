"""The application, put together from its ports."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api import (
    comparison,
    events,
    experiments,
    figures,
    health,
    inference,
    models,
    pages,
    predict,
    problems,
    sweeps,
    tfserving,
)
from service.api.deps import Ports
from service.api.direct import DirectRoutes
from service.api.head import HeadAsGet
from service.api.limits import BodyLimit
from service.settings import Settings

__all__ = ["create_app"]

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
    {"name": "health", "description": "Probes."},
]


def create_app(settings: Settings, open_ports: Callable[[], AbstractContextManager[Ports]]) -> FastAPI:
    """The API. Its ports are opened when it starts and closed when it stops, never at import."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_ports() as ports:
            app.state.ports = ports
            yield

    app = FastAPI(
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
    for module in (predict, inference, tfserving, experiments, events, sweeps, comparison, figures, models, health):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        DirectRoutes,
        routers=(predict.router, inference.router, tfserving.router),
        handlers={kind: handler for kind, handler in app.exception_handlers.items() if kind is not Exception},
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_seconds=settings.body_seconds)
    pages.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


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
        schemas |= problem.pop("$defs") | {"Problem": problem}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
