"""Calls that may hang, made so that their caller never does.

Each runs in a thread of its own, and only a few at a time, so that a frozen database can't pile them up. The caller
waits no longer than its time limit. The threads are daemons: `concurrent.futures` would hold up the end of the process
until the database answers.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

from keystore.errors import StoreUnavailable

ANSWER_WITHIN_S = 5.0
"""Time limit for a question that one row answers."""

T = TypeVar("T")


class TimedOut(StoreUnavailable):
    """The call goes on, and its caller no longer waits for it."""


class Busy(StoreUnavailable):
    """The call wasn't made: earlier calls take up all slots."""


class BoundedCalls:
    """Up to `slots` calls at a time."""

    def __init__(self, slots: int, name: str) -> None:
        """`name` is that of the threads."""
        self._free_slots = threading.BoundedSemaphore(slots)
        self._name = name

    def call(self, function: Callable[[], T], within_s: float = ANSWER_WITHIN_S) -> T:
        """Return or raise the function's result.
        Raises TimedOut when that takes longer than `within_s`, and Busy when no slot gets free in time."""
        give_up_at = monotonic() + within_s
        if not self._free_slots.acquire(timeout=within_s):
            raise Busy(f"no answer within {within_s:g} s: earlier questions still wait for theirs")
        answer: Future[T] = Future()
        thread = threading.Thread(target=self._run, args=(function, answer), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # The system has no thread left to give.
            self._free_slots.release()
            raise Busy(f"no thread to ask in: {error}") from error
        try:
            return answer.result(max(0.0, give_up_at - monotonic()))
        except TimeoutError:
            if answer.done():
                raise  # It is the call's own.
            raise TimedOut(f"no answer within {within_s:g} s") from None

    def _run(self, function: Callable[[], T], answer: "Future[T]") -> None:
        try:
            try:
                result = function()
            finally:
                # Before the caller learns the result: if it calls again at once, it finds the slot free.
                self._free_slots.release()
        except Exception as error:  # noqa: BLE001  the edge of the thread: the caller gets it
            answer.set_exception(error)
        else:
            answer.set_result(result)
