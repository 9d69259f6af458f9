"""Limits the requests that a worker handles at a time; the others queue.

A worker's threads share one interpreter. With 16 requests at once its threads were switched thirty times for each
request, which took more time than the work did. With four at once there are half as many switches, and a fifth to a
third more requests a second.

The interpreter is idle while a request waits for a distant database. So that such requests
don't block the others, a request that has queued for long enough starts in any case.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

MAX_ACTIVE = 4

QUEUE_TIMEOUT_S = 0.02
"""Time after which a queued request starts in any case. With a near database a queue of all threads takes less."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ConcurrencyLimit:
    """A WSGI application in front of another."""

    def __init__(self, app: Wsgi, max_active: int = MAX_ACTIVE, timeout_s: float = QUEUE_TIMEOUT_S) -> None:
        self._app = app
        self._max_active = max_active
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self.active = 0
        """Number of requests that have started and not ended."""
        self._queue: deque[threading.Lock] = deque()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request once it is its turn."""
        self._begin()
        try:
            return self._app(environ, start_response)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self.active < self._max_active:
                self.active += 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        if turn.acquire(timeout=self._timeout_s):
            return
        with self._lock:
            if turn in self._queue:  # Otherwise the turn came just as the wait ended.
                self._queue.remove(turn)
                self.active += 1

    def _end(self) -> None:
        """Pass the turn to the request that has queued longest."""
        with self._lock:
            if self._queue and self.active <= self._max_active:
                self._queue.popleft().release()
            else:
                self.active -= 1
