"""One request and its answer, with an end that somebody else can put to it.

`requests` bounds each wait for bytes, not the whole: a server that sends a byte now and then holds its caller for
ever. So the socket that a request uses is made known here, and a watchdog (or whoever stops the service) shuts it
down; the reader then sees the connection end. What is shut down is a duplicate of the socket's descriptor: that
reaches the connection whatever TLS made of the socket, and never another one that got the same number. Until there is
a connection its own time-out counts: Python bounds a whole TLS handshake with it, dripped or not.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

_at_work = threading.local()
"""The exchange of this thread, for its connection to find: a request runs in its caller's thread from start to end."""


class Exchange:
    """One request. `cut` ends it from any thread, at any time; `cut_because` says that it was, and why."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.cut_because: str | None = None
        self._lock = threading.Lock()
        self._plug: socket.socket | None = None
        self._over = False

    def cut(self, because: str) -> None:
        """Ends the exchange if it isn't over; the first reason stays."""
        with self._lock:
            if not self._over:
                self.cut_because = self.cut_because or because
                self._pull()

    def hold(self, sock: socket.socket) -> None:
        """Takes note of the socket that the exchange uses from now on."""
        with self._lock:
            self._let_go()
            if not self._over:
                self._plug = socket.socket(fileno=os.dup(sock.fileno()))
                if self.cut_because is not None:
                    self._pull()

    @contextmanager
    def at_work(self, deadline_s: float) -> Iterator[None]:
        """The block is this exchange, in this thread, and is cut when it takes longer than `deadline_s`."""
        watchdog = threading.Timer(deadline_s, self.cut, [f"no whole answer within {deadline_s:g} s"])
        watchdog.daemon = True
        watchdog.name = "telegram-watchdog"
        _at_work.exchange = self
        watchdog.start()
        try:
            yield
        finally:
            _at_work.exchange = None
            watchdog.cancel()
            with self._lock:
                self._over = True
                self._let_go()
            # So that no thread outlives its request; it has nothing left to wait for.
            watchdog.join()

    def _pull(self) -> None:
        if self._plug is not None:
            with suppress(OSError):  # It is closed by the other side already.
                self._plug.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._plug is not None:
            self._plug.close()
            self._plug = None


def _tell(sock: socket.socket | None) -> None:
    exchange: Exchange | None = getattr(_at_work, "exchange", None)
    if exchange is not None and sock is not None:
        exchange.hold(sock)


class PluggedConnection(HTTPConnection):
    """A connection that tells its thread's exchange which socket it uses, new or kept alive."""

    def connect(self) -> None:
        """Connects."""
        super().connect()
        _tell(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Sends a request, over a socket that may be there already."""
        _tell(self.sock)
        super().request(*args, **kwargs)


class PluggedTlsConnection(PluggedConnection, HTTPSConnection):
    """The same with TLS."""
