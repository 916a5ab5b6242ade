"""HTTP servers of a test's own, in a thread."""

import contextlib
import threading
from collections.abc import Iterator
from socketserver import BaseServer
from typing import TypeVar

__all__ = ["answering"]

Server = TypeVar("Server", bound=BaseServer)


@contextlib.contextmanager
def answering(server: Server) -> Iterator[Server]:
    """The server, which answers meanwhile and is closed in the end."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
