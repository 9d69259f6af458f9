"""One HTTP request that another thread can cut off.

`requests` limits each wait for bytes, not the whole request: a server that sends a byte now and then holds its caller
without end. So every connection tells the exchange of its thread which socket it uses. A watchdog timer, or the thread
that stops the service, shuts that socket down, and the reader sees the connection end.

The exchange learns the socket as soon as it is connected, before a proxy is asked for a tunnel and before TLS. Until
then the timeout of the connection applies. The socket is shut down through a duplicate of its descriptor. The duplicate
reaches the connection however TLS has wrapped the socket, and never another connection with the same number.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection


class Exchange:
    """One request and its answer. `cut` ends it from any thread; `cut_reason` is None unless that happened."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.cut_reason: str | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._finished = False

    def cut(self, reason: str) -> None:
        """End the exchange unless it has finished. If it is cut twice, the first reason stays."""
        with self._lock:
            if not self._finished:
                self.cut_reason = self.cut_reason or reason
                self._shut_down()

    def use(self, sock: socket.socket) -> None:
        """Make this the socket that `cut` shuts down; shut it down at once if the exchange is cut already."""
        with self._lock:
            self._release()
            self._socket = socket.socket(fileno=os.dup(sock.fileno()))
            if self.cut_reason is not None:
                self._shut_down()

    @contextmanager
    def running(self, deadline_s: float) -> Iterator[None]:
        """Run the block, in this thread, as the exchange; cut it after `deadline_s`."""
        watchdog = threading.Timer(deadline_s, self.cut, [f"no whole answer within {deadline_s:g} s"])
        watchdog.daemon = True
        watchdog.name = "telegram-watchdog"
        watchdog.start()
        previous = _current.set(self)
        try:
            yield
        finally:
            _current.reset(previous)
            watchdog.cancel()
            with self._lock:
                self._finished = True
                self._release()
            watchdog.join()  # So that no thread outlives its request. It has nothing left to wait for.

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # The other side has closed it already.
                self._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


_current: ContextVar[Exchange | None] = ContextVar("telegram_exchange", default=None)
"""The exchange of this thread: a request runs in its caller's thread from start to end."""


class _Connection(HTTPConnection):
    """A connection that tells the exchange of its thread which socket it uses, whether new or kept alive."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self._tell_exchange(sock)
        return sock

    def _tunnel(self) -> None:
        parent: Any = super()  # Some versions of Python have the method, urllib3 adds it to the others.
        parent._tunnel()
        # A proxy's headers that were cut off look like headers that end. TLS over a socket that was shut down would
        # fail without closing it.
        exchange = _current.get()
        if exchange is not None and exchange.cut_reason is not None:
            raise ConnectionAbortedError(exchange.cut_reason)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._tell_exchange(self.sock)
        super().request(*args, **kwargs)

    def _tell_exchange(self, sock: socket.socket) -> None:
        exchange = _current.get()
        if exchange is not None:
            exchange.use(sock)


def cuttable(pools: Mapping[str, Any]) -> dict[str, Any]:
    """urllib3's classes of connection pools, by scheme, with connections that their exchange can cut.
    They differ with the way: TLS or none, a SOCKS proxy or another."""
    return {scheme: _cuttable_pool(pool) for scheme, pool in pools.items()}


def _cuttable_pool(pool: Any) -> Any:
    connection = type(pool.ConnectionCls.__name__, (_Connection, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
