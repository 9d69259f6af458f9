"""The tools of all measurements: timing, percentiles, and the types of a connection and of a progress callback."""

import signal
from collections.abc import Callable, Sequence
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any, Self, TypeVar

import psycopg
from msgspec import Struct

T = TypeVar("T")

Connection = psycopg.Connection[tuple[Any, ...]]

Progress = Callable[[int, int], None]
"""Is called with the number of finished steps and the number of all steps."""


class Times(Struct, frozen=True):
    """The number of timed calls, their median and their 99th percentile in milliseconds."""

    times: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def summary(cls, took_ms: Sequence[float]) -> Self:
        """The summary of these times in milliseconds."""
        return cls(len(took_ms), round(median(took_ms), 3), round(percentile(took_ms, 0.99), 3))


def no_progress(_done: int, _total: int) -> None:
    """Report nothing: the progress of a part that a larger measurement counts as one step."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank)."""
    return sorted(values)[ceil(share * len(values)) - 1]


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """Run the act; return its result, and how many milliseconds it took."""
    began = perf_counter()
    result = act()
    return result, (perf_counter() - began) * 1000


def timed_ms(act: Callable[[], object]) -> float:
    """Run the act and return how many milliseconds it took."""
    return timed(act)[1]


def leave_interrupts_to_parent() -> None:
    """Ignore Ctrl-C in a process of a pool: the terminal sends it to the parent too, which ends the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
