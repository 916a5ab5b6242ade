"""A way to a service that breaks when a test wants it to."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Plan = Literal["pass", "refuse", "swallow", "stop"] | int
"""What becomes of a connection: all passes; it is closed at once; its request arrives and the answer is lost; it breaks
after 10,000 bytes; so many events pass and then it breaks.
"""
STOP = 10_000


class Gate:
    """Takes connections and passes them on. Keeps what was asked."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.plans: list[Plan] = []
        """For the connections to come; those after them pass."""
        self.asked: list[str] = []
        """The head of each request that came first on a connection."""

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                plan = self.plans.pop(0) if self.plans else "pass"
                threading.Thread(target=self._carry, args=(connection, plan), daemon=True).start()

    def cut(self) -> None:
        """Break every connection there is: the next request needs a new one."""
        self._break(self._open[1:])

    def close(self) -> None:
        self._break(self._open)

    def _break(self, sockets: list[socket.socket]) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _carry(self, connection: socket.socket, plan: Plan) -> None:
        with connection, contextlib.suppress(OSError):
            if plan == "refuse":
                return
            first = connection.recv(65536)
            self.asked.append(first.partition(b"\r\n\r\n")[0].decode())
            with socket.create_connection(self._to) as service:
                self._open.append(service)
                service.sendall(first)
                threading.Thread(target=self._pump, args=(connection, service), daemon=True).start()
                self._answer(service, connection, plan)
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, service: socket.socket, connection: socket.socket, plan: Plan) -> None:
        events = passed = 0
        while data := service.recv(65536):
            if plan == "swallow":
                return
            connection.sendall(data if plan != "stop" else data[: STOP - passed])
            passed += len(data)
            events += data.count(b"\nevent:") + data.startswith(b"event:")
            if (isinstance(plan, int) and events >= plan) or (plan == "stop" and passed >= STOP):
                return

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


@contextlib.contextmanager
def gate_to(port: int) -> Iterator[Gate]:
    """A gate to the service on this port."""
    gate = Gate(port)
    thread = threading.Thread(target=gate.run, daemon=True)
    thread.start()
    yield gate
    gate.close()
    thread.join()
