"""The HTTP server of a worker: Granian's Rust part, which hands requests over without occupying a thread.

Granian has a WSGI and an asyncio interface. WSGI hands a request to a thread before its body is there. With asyncio
every request passes through one more thread. So this module takes part in RSGI, the interface below asyncio, with a
scheduler and an event loop of its own: both run what they get at once, in the Granian thread that calls them. A thread
is needed only while Python code runs (decision 17).
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, Protocol

import structlog
from granian import _granian
from granian._granian import CallbackScheduler, RSGIProtocolClosed
from granian._signals import set_sync_signals
from granian.http import HTTP1Settings

from api.workers.config import BACKLOG

HEADER_TIMEOUT_MS = 15_000
"""Time for the head of a request, however it trickles in; also for an idle connection."""

BUFFER_BYTES = 64 * 1024
"""Size of a connection's buffer, and with it of the head of a request and of the pieces of a body."""

HTTP_1, TLS = "1", "tls1.3"

_native: Any = _granian
"""Granian's types are behind its code."""

log = structlog.get_logger()


class Pending(Protocol):
    """A piece of a body, for which Granian's Rust part is waiting."""

    def add_done_callback(self, callback: Callable[["Pending"], None]) -> None:
        """Call `callback` in a Granian thread once the result is there, at once if it is there already."""

    def result(self) -> Any:
        """Return the result. Raises the error, also of a cancellation."""

    def cancelled(self) -> bool:
        """Return True if the result was cancelled."""

    def cancel(self) -> bool:
        """Cancel it. The callback is called in this thread."""


class Connection(Protocol):
    """The side of a request that reads its body and sends its answer."""

    def __aiter__(self) -> "Connection":
        """Begin to read the body."""

    def __anext__(self) -> Pending:
        """Return the next piece of the body; it is empty at the end."""

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "Stream":
        """Begin an answer that is sent in pieces."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send the answer."""


class Stream(Protocol):
    """The pieces of an answer. Granian takes any number of them, and sends them as the client reads."""

    def send_bytes(self, data: bytes) -> Any:
        """Add a piece. The iterator that is returned raises an error if nothing more can be sent."""


def is_ended(stream: Stream) -> bool:
    """Return True if an answer is sent but for its last pieces in a buffer, or its connection is gone."""
    try:
        next(stream.send_bytes(b""), None)
    except RSGIProtocolClosed:
        return True
    return False


class _DirectLoop:
    """Stands for an asyncio loop; it runs every callback at once, in the thread that delivers the result."""

    @staticmethod
    def call_soon(callback: Callable[[Any], None], argument: Any, context: Any = None) -> None:
        """Run a callback."""
        callback(argument)

    call_soon_threadsafe = call_soon


class _DirectScheduler(CallbackScheduler):
    """Hands each request to `arrived`, in a Granian thread."""

    def __new__(cls, arrived: Callable[[Any, Connection], None]) -> "_DirectScheduler":
        """Fill the parts that only asyncio tasks would use."""
        return super().__new__(cls, _DirectLoop, None, None, None, None)  # type: ignore[call-arg]

    def __init__(self, arrived: Callable[[Any, Connection], None]) -> None:
        def schedule(watcher: Any) -> None:
            try:
                arrived(watcher.scope, watcher.proto)
            except Exception as error:  # noqa: BLE001  Rust can't handle an exception here
                log.error("request_not_handled", error=type(error).__name__)
                with suppress(Exception):
                    watcher.done()  # Answers 500, if there was no answer.

        self._schedule_fn = schedule


def serve(
    listener: int,
    arrived: Callable[[Any, Connection], None],
    *,
    threads: int,
    max_connections: int,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Serve on a listening socket until SIGTERM, and then until the requests in progress are answered."""
    ended = Event()

    def end() -> None:
        ended.set()
        Event().wait()  # The process ends without this thread, which would drop objects that Python still uses.

    signal: Any = set_sync_signals()  # type: ignore[no-untyped-call]
    signal.add_cb(end)
    worker = _native.RSGIWorker(
        worker_id=0,
        sock=(None, _native.SocketHolder(listener, False, BACKLOG)),
        ipc=None,
        py_threads=threads,
        backpressure=max_connections,
        http_mode=HTTP_1,
        http1_opts=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS, max_buffer_size=BUFFER_BYTES),
        ssl_enabled=tls_cert is not None,
        ssl_cert=tls_cert,
        ssl_key=tls_key,
        ssl_protocol_min=TLS,
    )
    worker.serve_mtr(_DirectScheduler(arrived), _DirectLoop, signal)
    ended.wait()
