"""The concurrency limit: few requests at a time while each is quick, and slow ones don't block the others."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from api.workers.concurrency_limit import ConcurrencyLimit

LONG_S = 60.0
MAX_ACTIVE, REQUESTS = 3, 12


def start_response(*args: Any) -> None:
    """Ignore the answer."""


class Requests:
    """An application in which each request stays until the test ends it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.begun: list[int] = []
        self._ended: set[int] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._changed:
            self.begun.append(environ["number"])
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: environ["number"] in self._ended, LONG_S)
        return [b"done"]

    def wait_for(self, begun: int) -> None:
        """Wait until this many requests have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= begun, LONG_S)

    def end(self, number: int) -> None:
        """End a request."""
        with self._changed:
            self._ended.add(number)
            self._changed.notify_all()


def test_requests_start_in_order_and_only_a_few_at_a_time() -> None:
    app = Requests()
    limited = ConcurrencyLimit(app, MAX_ACTIVE, LONG_S)
    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = [threads.submit(limited, {"number": number}, start_response) for number in range(REQUESTS)]
        for ended in range(REQUESTS):
            app.wait_for(min(ended + MAX_ACTIVE, REQUESTS))
            assert len(app.begun) <= ended + MAX_ACTIVE
            app.end(app.begun[ended])
        assert all(list(answer.result(LONG_S)) == [b"done"] for answer in answers)
        assert sorted(app.begun) == list(range(REQUESTS))


def test_slow_requests_delay_the_others_only_for_a_moment() -> None:
    app = Requests()
    limited = ConcurrencyLimit(app, MAX_ACTIVE, 0.01)
    with ThreadPoolExecutor(REQUESTS) as threads:
        began = monotonic()
        answers = [threads.submit(limited, {"number": number}, start_response) for number in range(REQUESTS)]
        app.wait_for(REQUESTS)
        assert monotonic() - began < LONG_S / 10
        for number in range(REQUESTS):
            app.end(number)
        for answer in answers:
            answer.result(LONG_S)
    assert limited.active == 0


def test_a_request_that_fails_ends_its_turn() -> None:
    def fails(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise ValueError("failed")

    limited = ConcurrencyLimit(fails, MAX_ACTIVE, LONG_S)
    for _ in range(REQUESTS):
        with pytest.raises(ValueError, match="failed"):
            limited({}, start_response)
    assert limited.active == 0


def test_a_turn_that_comes_as_the_wait_ends_is_counted_once() -> None:
    limited = ConcurrencyLimit(lambda environ, start_response: [b"done" * len(list(range(200)))], 1, 0.000_02)
    with ThreadPoolExecutor(8) as threads:
        for answer in [threads.submit(limited, {}, start_response) for _ in range(4_000)]:
            answer.result(LONG_S)
    assert limited.active == 0
