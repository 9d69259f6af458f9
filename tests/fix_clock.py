"""Time in tests: a clock that a test sets, and waiting that ends.

Nothing here sleeps through time. A store opened with a `Clock` lives at the moment the test says; what really
happens elsewhere (a server starts, a process writes) is waited for with `eventually`, which asks until a limit.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

START = datetime(2025, 10, 8, 9, 41, 27, 123456, tzinfo=UTC)
"""Day 0 of the diary, at a time of day on which nothing is round."""

POLL_S = 0.02


class Clock:
    """A UTC clock that stands still until it is moved: `open_store(url, clock=clock)`."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        with self._lock:
            return self._now

    def advance(self, by: timedelta) -> datetime:
        """Moves the clock on and returns what time it is then."""
        with self._lock:
            self._now += by
            return self._now

    def set(self, now: datetime) -> None:
        """Sets the clock to a time."""
        with self._lock:
            self._now = now


def eventually(happened: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Asks `happened` until it says yes; fails with `what` when that takes too long."""
    give_up_at = monotonic() + within_s
    pause = threading.Event()
    while not happened():
        if monotonic() > give_up_at:
            pytest.fail(f"not within {within_s} s: {what}")
        pause.wait(POLL_S)


@pytest.fixture
def clock() -> Clock:
    """A clock at the diary's Day 0."""
    return Clock()
