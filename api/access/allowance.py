"""An allowance that is used up and refills with time (a token bucket). For one thread at a time."""

from dataclasses import dataclass


@dataclass
class Allowance:
    """Up to `most`, of which `per_s` come back each second. At `at`, by a monotonic clock, `left` were left."""

    most: float
    per_s: float
    at: float
    left: float

    @classmethod
    def full(cls, most: float, per_s: float, now: float) -> "Allowance":
        """Return an allowance of which nothing is used."""
        return cls(most, per_s, now, most)

    def refilled(self, now: float) -> float:
        """Refill it up to this time, and return what is left."""
        self.left = min(self.most, self.left + (now - self.at) * self.per_s)
        self.at = now
        return self.left

    def spend(self, amount: float) -> None:
        """Take an amount from it; less than nothing may be left."""
        self.left -= amount

    def is_full(self, now: float) -> bool:
        """Return True once nothing is used, so that forgetting it changes nothing."""
        return self.refilled(now) >= self.most
