"""Pauses before the next try: twice as long each time up to a cap, and then a random part of that (full jitter).

Without the jitter, all clients that an outage cut off come back in the same instant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom


def no_jitter() -> float:
    """The whole pause, for work that nothing else repeats at the same time."""
    return 1.0


@dataclass
class Backoff:
    """The pauses of one series of failures. `jitter` gives the part of a pause that is waited for, from 0 to 1."""

    first_s: float = 1.0
    cap_s: float = 60.0
    jitter: Callable[[], float] = SystemRandom().random

    def __post_init__(self) -> None:
        self._longest_s = self.first_s

    def next_s(self) -> float:
        """The pause after one more failure."""
        longest_s = self._longest_s
        self._longest_s = min(2 * longest_s, self.cap_s)
        return longest_s * self.jitter()

    def reset(self) -> None:
        """Begin again with the first pause, after a success."""
        self._longest_s = self.first_s
