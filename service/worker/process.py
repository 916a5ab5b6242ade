"""The process of a worker: what its settings name is opened, and it works until it is told to stop."""

import contextlib
import functools
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

from prometheus_client import start_http_server

from service import datasets
from service.domain.experiment import DATASETS
from service.engines.base import Engine
from service.engines.limits import Limits
from service.engines.local import LocalEngine
from service.engines.ray import Demand, RayEngine
from service.errors import StartError
from service.processes import at_end_of_input, keep_private
from service.settings import Settings
from service.store.opening import open_stores
from service.telemetry import metrics, traces
from service.worker.supervisor import Worker

__all__ = ["require_trainer", "work"]

log = logging.getLogger("epochd")


def work(settings: Settings, *, until_stdin_closes: bool = False) -> None:
    """Run a worker until SIGINT or SIGTERM, or until standard input closes: so it never outlives a parent.

    Raises:
        StartError: there is nothing to train with.
    """
    keep_private()
    require_trainer(settings)
    with open_stores(settings, initialise=True) as (database, blobs):
        _import_datasets(settings)
        log.info("datasets and files are in %s", settings.data_dir)
        worker = Worker(
            database=database,
            blobs=blobs,
            engine=_engine(settings),
            settings=settings,
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: threading.Thread(target=worker.drain).start())  # it takes locks
        if until_stdin_closes:
            at_end_of_input(worker.drain)
        shown = contextlib.nullcontext() if until_stdin_closes else _shown_metrics(settings)
        with traces.started(settings.otel, "worker"), shown:
            worker.run()


def require_trainer(settings: Settings) -> None:
    """Refuse to start what could not train.

    Raises:
        StartError: the engine's library is not installed.
    """
    if settings.engine == "ray":
        if not RayEngine.installed():
            raise StartError("Ray is not installed, so EPOCHD_ENGINE=ray cannot be: pip install 'epochd[ray]'")
    elif not LocalEngine.installed():
        raise StartError(
            "TensorFlow is not installed, so nothing can be trained here: pip install 'epochd[train]', "
            "or run the API alone with --no-worker"
        )


@contextlib.contextmanager
def _shown_metrics(settings: Settings) -> Iterator[None]:
    """A worker's own metrics on a port of their own, where one is set."""
    if not settings.metrics_port:
        yield
        return
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server, thread = start_http_server(port, host, metrics.REGISTRY)
    except OSError as error:
        raise StartError(f"cannot show metrics on {host} port {port}: {error.strerror or error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _engine(settings: Settings) -> Engine:
    where: dict[str, Any] = {"data_dir": settings.datasets_dir, "stall_seconds": settings.stall_seconds}
    if settings.engine == "local":
        limits = Limits(memory_bytes=settings.trainer_memory_bytes, cpu_seconds=settings.training_cpu_seconds)
        return LocalEngine(**where, limits=limits, provide=functools.partial(_provide, settings))
    demand = Demand(
        cpus=settings.ray_cpus,
        gpus=settings.ray_gpus,
        resources=settings.ray_resources,
        autoscales=settings.ray_autoscales,
    )
    return RayEngine(**where, demand=demand)


def _import_datasets(settings: Settings) -> None:
    """Take the datasets that the operator has as files. What is not given so is fetched when it is first needed."""
    for name in DATASETS:
        if getattr(settings, f"{name}_path") is not None:
            _provide(settings, name)


def _provide(settings: Settings, name: str) -> None:
    """Have a dataset in the data folder, verified.

    Raises:
        DatasetUnavailable: no source had it.
    """
    datasets.load(name, settings.datasets_dir, path=getattr(settings, f"{name}_path"))
