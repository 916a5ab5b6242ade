"""The trainer process: imports TensorFlow once, then trains one job after another for its parent.

Run as `python -m service.engines.trainer FD MODULE DATA_DIR`. It ends when its parent does: the parent's end of the
connection closes then, whatever killed it.
"""

import contextlib
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

from service.domain.events import Failed, Job
from service.engines.messages import Ended, Ready, Stop, receive, send
from service.errors import DatasetUnavailable, TrainingError

log = logging.getLogger("epochd.trainer")


def main(argv: list[str]) -> None:
    """Serve jobs from the connection with this file descriptor until it closes."""
    descriptor, module, data_dir = int(argv[0]), argv[1], argv[2]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s trainer %(process)d %(levelname)s %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides; Ctrl-C reaches the whole process group
    connection = Connection(socket.socket(fileno=descriptor).detach())
    jobs: queue.Queue[tuple[Job, threading.Event]] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()

    try:
        with _native_libraries_silenced():
            training = importlib.import_module(module)
            training.warm_up(data_dir)
    except DatasetUnavailable as error:
        log.warning("%s. Experiments will fail until it is there: epochd data fetch mnist", error)
    send(connection, Ready())
    while True:
        job, stop = jobs.get()
        _train(training.train, connection, job, stop)
        send(connection, Ended())


@contextlib.contextmanager
def _native_libraries_silenced() -> Iterator[None]:
    """TensorFlow's C++ greets on standard error before any setting of its log level counts. What Python raises is
    shown all the same, once the block has ended.
    """
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _listen(connection: Connection, jobs: queue.Queue[tuple[Job, threading.Event]]) -> None:
    latest: tuple[str, int] | None = None
    stop = threading.Event()
    while True:
        try:
            message = receive(connection)
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, Job):
            latest, stop = (message.experiment_id, message.attempt), threading.Event()
            jobs.put((message, stop))
        elif isinstance(message, Stop) and latest == (message.experiment_id, message.attempt):
            stop.set()


def _train(train, connection: Connection, job: Job, stop: threading.Event) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - named by its import path
    try:
        for event in train(job, stop):
            send(connection, event)
    except TrainingError as error:
        send(connection, Failed(code=error.code, message=str(error)))
    except OSError:
        os._exit(0)  # the parent is gone
    except Exception:
        log.exception("experiment %s, attempt %d", job.experiment_id, job.attempt)
        send(connection, Failed(code="internal", message="the trainer met an unexpected error: see its log"))


if __name__ == "__main__":
    main(sys.argv[1:])
