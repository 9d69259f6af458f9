"""Lets a few requests at a time be worked on, and the others wait their turn.

A worker's threads share one interpreter. With 16 requests under way at once its threads were switched thirty times for
each, which took more than the work did; with four it is half of that, and a fifth to a third more requests a second.
But nobody is to wait for a slow client's body or a distant database, during which the interpreter is idle: whoever has
waited long goes ahead all the same.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

AT_ONCE = 4

WAIT_S = 0.02
"""Longer than a queue of all threads takes while the database is near."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ConcurrencyLimit:
    """A WSGI application in front of another."""

    def __init__(self, app: Wsgi, at_once: int = AT_ONCE, wait_s: float = WAIT_S) -> None:
        self._app = app
        self._at_once = at_once
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self.busy = 0
        """Requests that are being worked on."""
        self._waiting: deque[threading.Lock] = deque()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers the request once it is its turn."""
        self._begin()
        try:
            return self._app(environ, start_response)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self.busy < self._at_once:
                self.busy += 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=self._wait_s):
            return
        with self._lock:
            if turn in self._waiting:  # Else it was its turn at this very moment.
                self._waiting.remove(turn)
                self.busy += 1

    def _end(self) -> None:
        """Hands the turn on, straight to whoever has waited longest."""
        with self._lock:
            if self._waiting and self.busy <= self._at_once:
                self._waiting.popleft().release()
            else:
                self.busy -= 1
