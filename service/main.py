"""The composition root: it opens what the API works through, and starts the API with a worker beside it."""

import contextlib
import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.admission import is_loopback
from service.api.app import create_app
from service.api.connections import guarded
from service.api.deps import Ports
from service.api.news import News
from service.api.turns import Turns
from service.domain.experiment import DATASETS
from service.errors import StartError
from service.processes import at_end_of_input, keep_private
from service.serving.predictor import Predictor
from service.settings import Settings, cores
from service.store import keys
from service.store.opening import open_stores
from service.store.session import Database
from service.telemetry import metrics, traces
from service.telemetry.folder import inherited
from service.worker.process import require_trainer

__all__ = ["create", "open_ports", "serve"]

log = logging.getLogger("epochd")

GRACEFUL_SECONDS = 3
MOST_FILES = 65_536
RESTART_SECONDS = 0.5
STEADY_SECONDS = 30.0
"""A process that ran for so long is started again at once; one that ends sooner, after ever longer waits up to this."""


def create(settings: Settings | None = None) -> FastAPI:
    """The API as an ASGI app: `uvicorn --factory service.main:create`. Settings come from the environment."""
    settings = settings or Settings()
    return create_app(settings, lambda: open_ports(settings))


@contextlib.contextmanager
def open_ports(settings: Settings) -> Iterator[Ports]:
    """What the API works through, with the database made where it is empty."""
    with open_stores(settings, initialise=True) as (database, blobs):
        predictor = Predictor(load=blobs.get, capacity=settings.model_cache)
        turns = Turns(at_once=cores(), waiting=settings.max_waiting)
        with contextlib.closing(News(database, settings)) as news:
            yield Ports(settings=settings, database=database, blobs=blobs, predictor=predictor, turns=turns, news=news)


def serve(
    settings: Settings, *, with_worker: bool, announce: Callable[[str], None], listener_fd: int | None = None
) -> None:
    """Run the API until SIGINT or SIGTERM, with a worker in a process of its own. Leaves no process behind.

    `announce` is called with the service's address once it answers. With `settings.processes` above 1, further API
    processes take connections from the same socket. Such a one is given its number as `listener_fd`, and ends when
    its standard input closes.

    Raises:
        StartError: the port is taken, or the worker has nothing to train with.
    """
    keep_private()
    if with_worker:
        require_trainer(settings)
    of_parent = listener_fd is not None
    listener = socket.socket(fileno=listener_fd) if of_parent else _listen(settings.host, settings.port)
    _require_datasets(settings)
    with open_ports(settings) as ports:  # what cannot be opened is told now, in one line
        _require_access(settings, ports.database)
        app = create(settings)
    _allow_many_files()
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # which would write down what was sent, with its query; see `service.api.requests`
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        log_level=settings.log_level,
        limit_concurrency=settings.max_connections,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_seconds,
        http=guarded(  # type: ignore[arg-type]
            head_seconds=settings.head_seconds,
            reader_seconds=settings.reader_seconds,
            access_log=settings.access_log,
        ),
        ws="none",
    )
    server = _Server(config, app, announce)
    if of_parent:
        at_end_of_input(functools.partial(server.handle_exit, signal.SIGTERM, None))
    with listener, traces.started(settings.otel, "api"), contextlib.ExitStack() as kept:
        if with_worker:
            kept.enter_context(_kept("worker", ["worker"], settings))
        for _ in range(0 if of_parent else settings.processes - 1):
            again = ["serve", "--no-worker", "--listener-fd", str(listener.fileno())]
            kept.enter_context(_kept("API process", again, settings, fds=[listener.fileno()]))
        server.run(sockets=[listener])


def _require_access(settings: Settings, database: Database) -> None:
    if settings.insecure or is_loopback(settings.host):
        return
    with database.read() as session:
        if not keys.any_exist(session):
            raise StartError(
                f"whoever reaches {settings.host} could do everything: make an API key first, by epochd keys create "
                "--name NAME --scope admin, or listen all the same by --insecure or EPOCHD_INSECURE=true"
            )


def _require_datasets(settings: Settings) -> None:
    for name in DATASETS:
        path = getattr(settings, f"{name}_path")
        if path is not None and not path.exists():
            raise StartError(f"there is no {path}, which EPOCHD_{name.upper()}_PATH names")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family=family)
    except socket.gaierror:
        raise StartError(f"there is no host {host}: give an address of this machine to --host") from None
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # its own text names the address again
        raise StartError(f"cannot listen on {host} port {port}: {reason}. Try another --port") from None


class _Server(uvicorn.Server):
    """Announces itself, and tells open event streams when it stops."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._app = app
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and self.started:
            host, port = sockets[0].getsockname()[:2]
            self._announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again at the end, which would kill this process before its worker ended."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        ports: Ports | None = getattr(self._app.state, "ports", None)
        if ports is not None:
            ports.stopping.set()
        super().handle_exit(sig, frame)


def _allow_many_files() -> None:
    """Each connection is a file, and many systems allow 1,024 until a process asks for more."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        if soft < wanted and soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _kept(name: str, arguments: list[str], settings: Settings, *, fds: Sequence[int] = ()) -> Iterator[None]:
    """A process beside this one, started again when it dies. We hold the other end of its standard input: when this
    process is gone, however it went, that one ends too.
    """
    stopping = threading.Event()
    keeper = threading.Thread(target=_keep, args=(name, arguments, settings, fds, stopping), name=f"{name}-keeper")
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()


def _keep(name: str, arguments: list[str], settings: Settings, fds: Sequence[int], stopping: threading.Event) -> None:
    wait = RESTART_SECONDS
    while not stopping.is_set():
        begun = time.monotonic()
        environment, locks = inherited()
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "service.cli", *arguments, "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            env=environment | settings.as_environment(),
            pass_fds=[*fds, *locks],
        )
        while process.poll() is None and not stopping.wait(0.2):
            pass
        if stopping.is_set():
            _stop(process, settings.drain_seconds)
            return
        metrics.forget_process(process.pid)
        log.error("the %s ended with exit code %s; starting another", name, process.returncode)
        wait = RESTART_SECONDS if time.monotonic() - begun > STEADY_SECONDS else min(2 * wait, STEADY_SECONDS)
        stopping.wait(wait)


def _stop(process: subprocess.Popen[bytes], drain_seconds: float) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe
    process.stdin.close()
    process.terminate()
    try:
        process.wait(drain_seconds + GRACEFUL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
