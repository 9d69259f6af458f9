"""Pauses before the next try: twice as long each time up to a cap, and then a random part of that (full jitter).

Without the jitter, all clients that an outage cut off come back in the same instant.
"""

from collections.abc import Callable
from random import SystemRandom

FIRST_S = 1.0
CAP_S = 60.0

_RANDOM = SystemRandom()


def no_jitter() -> float:
    """The whole pause, for work that nothing else repeats at the same time."""
    return 1.0


class Backoff:
    """The pauses of one series of failures."""

    def __init__(
        self, first_s: float = FIRST_S, cap_s: float = CAP_S, jitter: Callable[[], float] = _RANDOM.random
    ) -> None:
        """`jitter` gives the part of a pause that is waited for, from 0 to 1."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._jitter = jitter
        self._longest_s = first_s

    def next_s(self) -> float:
        """The pause after one more failure."""
        longest_s = self._longest_s
        self._longest_s = min(2 * longest_s, self._cap_s)
        return longest_s * self._jitter()

    def reset(self) -> None:
        """Begin again with the first pause, after a success."""
        self._longest_s = self._first_s
