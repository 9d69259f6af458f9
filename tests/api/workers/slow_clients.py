"""Clients that are slow on purpose: they hold their connections for as long as the service lets them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EVERY_S = 1.0
"""Interval at which each client sends one more byte."""

RECEIVE_BUFFER_BYTES = 4_096
"""Small, so that an unread answer stays in the service."""


def head(method: str, path: str, **headers: str) -> bytes:
    """Return the head of a request."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode()


SLOW_HEADERS = b"GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: "
SLOW_FORM = head("POST", "/sign-in", Content_Type="application/x-www-form-urlencoded", Content_Length="200")
SLOW_HANDSHAKE = b"\x16\x03\x01\x02\x00"


def slow_body(path: str, token: str) -> bytes:
    """Return a write without its body."""
    return head("POST", path, Authorization=f"Bearer {token}", Content_Type="application/json", Content_Length="60000")


def unread(path: str, token: str) -> bytes:
    """Return a read whose answer is never taken."""
    return head("GET", path, Authorization=f"Bearer {token}")


class SlowClients:
    """`count` clients that send `begin` and then a byte a second; they connect again when they are cut off."""

    def __init__(self, port: int, begin: bytes, count: int, drip: bytes = b"a") -> None:
        self._port, self._begin, self._drip = port, begin, drip
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self.reconnected = 0
        for _ in range(count):
            self._connect()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        with suppress(OSError):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            connection.settimeout(5)
            connection.connect(("127.0.0.1", self._port))
            connection.sendall(self._begin)
            connection.setblocking(False)
            self._open.append(connection)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            for connection in list(self._open):
                try:
                    if self._drip:
                        connection.send(self._drip)
                except OSError:
                    connection.close()
                    self._open.remove(connection)
                    self.reconnected += 1
                    self._connect()

    def stop(self) -> None:
        """End all clients."""
        self._stop.set()
        self._thread.join()
        for connection in self._open:
            connection.close()


@contextmanager
def slow_clients(port: int, begin: bytes, count: int, drip: bytes = b"a") -> Iterator[SlowClients]:
    """Have slow clients for the block."""
    clients = SlowClients(port, begin, count, drip)
    try:
        yield clients
    finally:
        clients.stop()
