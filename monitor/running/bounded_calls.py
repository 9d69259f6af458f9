"""Calls that may hang, made so that their caller never does.

Each runs in a thread of its own, so few of them at a time that a frozen database can't pile them up; the caller waits
no longer than it said. The threads are daemons: `concurrent.futures` would hold up the end of the process until the
database answers.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

from keystore.errors import StoreUnavailable

T = TypeVar("T")


class TimedOut(StoreUnavailable):
    """The call goes on, and whoever asked no longer waits for it."""


class Busy(StoreUnavailable):
    """The call wasn't made: earlier ones take all the room there is."""


class BoundedCalls:
    """Room for so many calls at a time."""

    def __init__(self, slots: int, name: str) -> None:
        self._free = threading.BoundedSemaphore(slots)
        self._name = name

    def call(self, asked: Callable[[], T], within_s: float) -> T:
        """What `asked` returns or raises, if it does so in time. Raises NoAnswerYet if not, Busy if it wasn't made."""
        give_up_at = monotonic() + within_s
        if not self._free.acquire(timeout=within_s):
            raise Busy(f"no answer within {within_s:g} s: earlier questions still wait for theirs")
        answer: Future[T] = Future()
        thread = threading.Thread(target=self._run, args=(asked, answer), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # The system has no thread left to give.
            self._free.release()
            raise Busy(f"no thread to ask in: {error}") from error
        try:
            return answer.result(max(0.0, give_up_at - monotonic()))
        except TimeoutError:
            if answer.done():
                raise  # It is the call's own.
            raise TimedOut(f"no answer within {within_s:g} s") from None

    def _run(self, asked: Callable[[], T], answer: "Future[T]") -> None:
        try:
            try:
                result = asked()
            finally:
                # Before the caller hears: whoever asks next, as an answer to this, finds the slot free.
                self._free.release()
        except Exception as error:  # noqa: BLE001  the edge of the thread: the caller gets it
            answer.set_exception(error)
        else:
            answer.set_result(result)
