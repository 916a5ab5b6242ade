"""The trainer process: imports TensorFlow once, then trains one job after another for its parent.

Run as `python -m service.engines.trainer FD MODULE DATA_DIR FOLDER`. It ends when its parent does: the parent's end of
the connection closes then, whatever killed it. FOLDER is for its temporary files; whoever ends last clears it away.
"""

import contextlib
import importlib
import logging
import os
import queue
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NoReturn

from service.domain.events import Failed, Job, Stopped, Stops, Trained
from service.engines.messages import Ended, Ready, Stop, receive, send
from service.errors import DatasetUnavailable, TrainingError, TrainingErrorCode

log = logging.getLogger("epochd.trainer")


def main(argv: list[str]) -> None:
    """Serve jobs from the connection with this file descriptor until it closes."""
    descriptor, module, data_dir, folder = int(argv[0]), *argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s trainer %(process)d %(levelname)s %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides; Ctrl-C reaches the whole process group
    connection = Connection(socket.socket(fileno=descriptor).detach())
    jobs: queue.Queue[tuple[Job, Stops]] = queue.Queue()
    threading.Thread(target=_listen, args=(connection, jobs, folder), daemon=True).start()

    try:
        with _native_libraries_silenced():
            training = importlib.import_module(module)
            training.warm_up(data_dir)
    except DatasetUnavailable as error:
        log.warning("%s. Experiments will fail until it is there: epochd data fetch mnist", error)
    send(connection, Ready())
    while True:
        job, stops = jobs.get()
        try:
            _train(training.train, connection, job, stops)
        except OSError:  # nobody is at the other end
            _end(folder)
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


def _end(folder: str) -> NoReturn:
    """The parent is gone, and with it whoever would clear the folder away."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _listen(connection: Connection, jobs: queue.Queue[tuple[Job, Stops]], folder: str) -> None:
    latest: set[tuple[str, int]] = set()
    stops = Stops()
    while True:
        try:
            message = receive(connection)
        except (EOFError, OSError):
            _end(folder)
        if isinstance(message, Job):
            latest = {(member.experiment_id, member.attempt) for member in message.members}
            stops = Stops()
            jobs.put((message, stops))
        elif isinstance(message, Stop) and (message.experiment_id, message.attempt) in latest:
            stops.stop(message.experiment_id)


def _train(train, connection: Connection, job: Job, stops: Stops) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - named by its import path
    left = {member.experiment_id for member in job.members}
    code: TrainingErrorCode = "internal"
    try:
        for event in train(job, stops):
            if isinstance(event, (Trained, Failed, Stopped)):
                left.discard(event.experiment_id)
            send(connection, event)
        return
    except TrainingError as error:
        code, message = error.code, str(error)
    except OSError:
        raise  # a file's, too: the parent, if there is one, takes that for a death and tries again
    except Exception:
        log.exception("experiments %s", ", ".join(sorted(left)))
        message = "the trainer met an unexpected error: see its log"
    for experiment_id in left:
        send(connection, Failed(experiment_id=experiment_id, code=code, message=message))


if __name__ == "__main__":
    main(sys.argv[1:])
