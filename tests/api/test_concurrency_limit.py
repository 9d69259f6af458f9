"""Turns: few at a time while each is quick, and nobody held up by one that isn't."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from api.workers.concurrency_limit import ConcurrencyLimit

FOR_EVER_S = 60.0
AT_ONCE, REQUESTS = 3, 12


def start_response(*args: Any) -> None:
    """Takes no notice."""


class Requests:
    """An application whose requests each stay until they are let go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.begun: list[int] = []
        self._ended: set[int] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._changed:
            self.begun.append(environ["number"])
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: environ["number"] in self._ended, FOR_EVER_S)
        return [b"done"]

    def wait_for(self, begun: int) -> None:
        """Waits until so many have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= begun, FOR_EVER_S)

    def end(self, number: int) -> None:
        """Lets a request go."""
        with self._changed:
            self._ended.add(number)
            self._changed.notify_all()


def test_so_many_at_a_time_each_in_its_turn_and_all_of_them() -> None:
    app = Requests()
    turns = ConcurrencyLimit(app, AT_ONCE, FOR_EVER_S)
    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = [threads.submit(turns, {"number": number}, start_response) for number in range(REQUESTS)]
        for ended in range(REQUESTS):
            app.wait_for(min(ended + AT_ONCE, REQUESTS))
            assert len(app.begun) <= ended + AT_ONCE
            app.end(app.begun[ended])
        assert all(list(answer.result(FOR_EVER_S)) == [b"done"] for answer in answers)
        assert sorted(app.begun) == list(range(REQUESTS))


def test_requests_that_stay_hold_up_the_others_for_a_moment_only() -> None:
    app = Requests()
    turns = ConcurrencyLimit(app, AT_ONCE, 0.01)
    with ThreadPoolExecutor(REQUESTS) as threads:
        began = monotonic()
        answers = [threads.submit(turns, {"number": number}, start_response) for number in range(REQUESTS)]
        app.wait_for(REQUESTS)
        assert monotonic() - began < FOR_EVER_S / 10
        for number in range(REQUESTS):
            app.end(number)
        for answer in answers:
            answer.result(FOR_EVER_S)
    assert turns.busy == 0


def test_a_request_that_fails_gives_its_turn_back() -> None:
    def fails(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise ValueError("failed")

    turns = ConcurrencyLimit(fails, AT_ONCE, FOR_EVER_S)
    for _ in range(REQUESTS):
        with pytest.raises(ValueError, match="failed"):
            turns({}, start_response)
    assert turns.busy == 0


def test_a_turn_that_comes_as_the_waiting_ends_is_counted_once() -> None:
    turns = ConcurrencyLimit(lambda environ, start_response: [b"done" * len(list(range(200)))], 1, 0.000_02)
    with ThreadPoolExecutor(8) as threads:
        for answer in [threads.submit(turns, {}, start_response) for _ in range(4_000)]:
            answer.result(FOR_EVER_S)
    assert turns.busy == 0
