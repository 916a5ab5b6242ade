"""HTTP servers of a test's own, in a thread."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from socketserver import BaseServer
from typing import TypeVar

__all__ = ["Ready", "answering"]

Server = TypeVar("Server", bound=BaseServer)


class Ready(http.server.BaseHTTPRequestHandler):
    """Says that all is well, on connections that stay."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


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
