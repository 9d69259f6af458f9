"""How long to wait before trying again: twice as long each time up to a cap, and then any part of that (full jitter).

Without the jitter everybody whom an outage cut off comes back in the same instant.
"""

from collections.abc import Callable
from random import SystemRandom

FIRST_S = 1.0
CAP_S = 60.0

_CHANCE = SystemRandom()


class Backoff:
    """The waits of one series of failures."""

    def __init__(
        self, first_s: float = FIRST_S, cap_s: float = CAP_S, chance: Callable[[], float] = _CHANCE.random
    ) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._chance = chance
        self._at_most_s = first_s

    def next_s(self) -> float:
        """How long to wait after one more failure."""
        at_most_s = self._at_most_s
        self._at_most_s = min(2 * at_most_s, self._cap_s)
        return at_most_s * self._chance()

    def reset(self) -> None:
        """Begins anew, after a success."""
        self._at_most_s = self._first_s
