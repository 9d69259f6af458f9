"""A hanging call doesn't block its caller, the number of calls is bounded, and a call's error reaches its caller.

The pauses between attempts (`Backoff`) are tested here too.
"""

import threading
from time import monotonic

import pytest

from keystore.errors import StoreUnavailable
from monitor.running.backoff import Backoff
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from rig.waiting import eventually

SHORT_LIMIT_S = 0.05
THREAD_NAME = "bounded-call"


def test_an_answer_in_time_is_returned() -> None:
    assert BoundedCalls(1, THREAD_NAME).call(lambda: 42, 10) == 42


def test_an_error_of_the_call_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        BoundedCalls(1, THREAD_NAME).call(fail, 10)


def test_a_timeout_error_of_the_call_itself_is_raised_unchanged() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        BoundedCalls(1, THREAD_NAME).call(fail, 10)


def test_hanging_calls_take_up_slots_and_give_them_back() -> None:
    bounded_calls, release, runs = BoundedCalls(2, THREAD_NAME), threading.Event(), []

    def hang() -> None:
        runs.append(1)
        release.wait(20)

    began = monotonic()
    for _ in range(2):
        with pytest.raises(TimedOut):
            bounded_calls.call(hang, SHORT_LIMIT_S)
    with pytest.raises(Busy, match="earlier questions"):
        bounded_calls.call(hang, SHORT_LIMIT_S)
    assert monotonic() - began < 5
    assert len(runs) == 2, "the third call was made although no slot was free"
    release.set()
    assert bounded_calls.call(lambda: "an answer", 10) == "an answer"
    eventually(lambda: all(thread.name != THREAD_NAME for thread in threading.enumerate()), "the threads have ended")


def test_both_errors_mean_that_the_store_is_unavailable() -> None:
    assert issubclass(TimedOut, StoreUnavailable)
    assert issubclass(Busy, StoreUnavailable)


def test_pauses_double_up_to_the_cap_and_are_jittered() -> None:
    without_jitter = Backoff(1, 60, jitter=lambda: 1.0)
    assert [without_jitter.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    without_jitter.reset()
    assert without_jitter.next_s() == 1
    half_jitter = Backoff(1, 60, jitter=lambda: 0.5)
    assert [half_jitter.next_s() for _ in range(3)] == [0.5, 1, 2]
    assert all(0 <= Backoff().next_s() <= 1 for _ in range(100))
