"""The trainer process: imports TensorFlow once, then trains one job after another for its parent.

Run as `python -m service.engines.trainer FD MODULE DATA_DIR FOLDER LIMITS`. It ends when its parent does: the parent's
end of the connection closes then, whatever killed it. FOLDER is for its temporary files; whoever ends last clears it
away. It needs no network: the parent has put the datasets in place.
"""

import importlib
import logging
import os
import shutil
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import NoReturn

from service.engines.environment import log_format, native_libraries_silenced, traces_wanted
from service.engines.far_end import FarEnd, traced
from service.engines.limits import Limits
from service.errors import DatasetUnavailable
from service.telemetry import logs, traces

log = logging.getLogger("epochd.trainer")


def main(argv: list[str]) -> None:
    """Serve jobs from the connection with this file descriptor until it closes."""
    descriptor, module, data_dir, folder = int(argv[0]), *argv[1:4]
    limits = Limits.of_argument(argv[4])
    limits.keep()
    logs.configure("info", log_format(), who=f"trainer {os.getpid()}")
    logs.of_process(process="trainer", pid=os.getpid())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker decides; Ctrl-C reaches the whole process group

    def end() -> NoReturn:
        """The parent is gone, and with it whoever would clear the folder away."""
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    far_end = FarEnd(Connection(socket.socket(fileno=descriptor).detach()), gone=end)
    try:
        with native_libraries_silenced():
            training = importlib.import_module(module)
            training.warm_up(data_dir)
    except DatasetUnavailable as error:
        log.warning("%s. Experiments will fail until it is there: epochd data fetch mnist", error)
    with traces.started(traces_wanted(), "trainer"):
        far_end.serve(traced(limits.within(training.train)))


if __name__ == "__main__":
    main(sys.argv[1:])
