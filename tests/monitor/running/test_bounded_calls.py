"""A hanging call holds up no caller, the number of calls is bounded, and their errors reach the caller."""

import threading
from time import monotonic

import pytest

from keystore.errors import StoreUnavailable
from monitor.running.backoff import Backoff
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from rig.waiting import eventually

SOON_S = 0.05


def test_an_answer_in_time_is_returned() -> None:
    assert BoundedCalls(1, "asked").call(lambda: 42, 10) == 42


def test_an_error_of_the_call_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        BoundedCalls(1, "asked").call(fail, 10)


def test_the_calls_own_time_out_is_no_time_limit_of_ours() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        BoundedCalls(1, "asked").call(fail, 10)


def test_hanging_calls_take_up_slots_and_give_them_back() -> None:
    slots, release, calls = BoundedCalls(2, "asked"), threading.Event(), []

    def hang() -> None:
        calls.append(1)
        release.wait(20)

    began = monotonic()
    for _ in range(2):
        with pytest.raises(TimedOut):
            slots.call(hang, SOON_S)
    with pytest.raises(Busy, match="earlier questions"):
        slots.call(hang, SOON_S)
    assert monotonic() - began < 5
    assert len(calls) == 2, "the third was never made"
    release.set()
    assert slots.call(lambda: "well again", 10) == "well again"
    eventually(lambda: all(thread.name != "asked" for thread in threading.enumerate()), "its threads end")


def test_both_errors_mean_that_the_store_is_unavailable() -> None:
    assert issubclass(TimedOut, StoreUnavailable)
    assert issubclass(Busy, StoreUnavailable)


def test_pauses_double_up_to_the_cap_and_are_jittered() -> None:
    longest = Backoff(1, 60, jitter=lambda: 1.0)
    assert [longest.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    longest.reset()
    assert longest.next_s() == 1
    half = Backoff(1, 60, jitter=lambda: 0.5)
    assert [half.next_s() for _ in range(3)] == [0.5, 1, 2]
    assert all(0 <= Backoff().next_s() <= 1 for _ in range(100))
