"""Limits on the requests of one token within one worker: the rate, and the number in progress."""

import threading
from dataclasses import dataclass
from time import monotonic

from api.access.allowance import Allowance
from api.problems import Problem, retry_after

MAX_IN_PROGRESS = 16
"""Maximum number of requests of one token that a worker handles at once. It is half of the worker's threads, so slow
uploads with one token can't block other tokens."""

BUSY_RETRY_S = 1.0
"""`Retry-After` for a token with too many requests in progress, in seconds."""

BURST_S = 2
"""Burst allowance: a token may send this many seconds' worth of requests at once."""

MAX_BUCKETS = 10_000
"""Number of buckets above which idle ones are dropped."""


@dataclass
class _Bucket:
    """The request allowance of one API token, and its number of requests in progress."""

    allowance: Allowance
    in_progress: int = 0


class RateLimit:
    """Limits the requests of each token. Each worker has one instance. It is thread-safe."""

    def __init__(self, requests_per_s: float | None) -> None:
        """`requests_per_s` is the rate allowed to each token; None means no limit."""
        self._rate = requests_per_s
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def acquire(self, token_id: str) -> None:
        """Count a request that begins.

        Raises Problem (429) if the token is over a limit. Otherwise the caller must call `release`.
        """
        now, rate = monotonic(), self._rate
        with self._lock:
            bucket = self._buckets.get(token_id)
            if bucket is None:
                if len(self._buckets) >= MAX_BUCKETS:
                    # Forget idle tokens; each starts again with a full bucket.
                    self._buckets = {known_id: busy for known_id, busy in self._buckets.items() if busy.in_progress}
                burst = max(1.0, BURST_S * (rate or 0.0))
                bucket = self._buckets[token_id] = _Bucket(Allowance.full(burst, rate or 0.0, now))
            if bucket.in_progress >= MAX_IN_PROGRESS:
                detail = f"{MAX_IN_PROGRESS} requests of this token are in progress already; wait for one to end"
                raise Problem("too-many-requests", detail, retry_after(BUSY_RETRY_S))
            if rate is not None:
                left = bucket.allowance.refilled(now)
                if left < 1:
                    detail = f"more than {rate:g} requests a second with this token; slow down"
                    raise Problem("too-many-requests", detail, retry_after((1 - left) / rate))
                bucket.allowance.spend(1)
            bucket.in_progress += 1

    def release(self, token_id: str) -> None:
        """Count a request that ended."""
        with self._lock:
            self._buckets[token_id].in_progress -= 1
