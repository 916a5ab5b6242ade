"""Leaving what goes on without the command."""

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, threading
from service.commands.waiting import leaving

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

with leaving("experiment one", {"cancel it": "epochd cancel one"}):
    Swallows()
    threading.Event().wait(60)
"""


def test_a_signal_that_python_drops_is_heard_again() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert "Exception ignored" in done.stderr
    assert done.stderr.endswith("epochd: experiment one goes on\n  cancel it: epochd cancel one\n")
    assert done.returncode == 128 + signal.SIGTERM
