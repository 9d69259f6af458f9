"""Limits on the requests of one token within one worker: the rate, and the number in progress."""

import threading
from dataclasses import dataclass
from time import monotonic

from api.problems import Problem, retry_after

MAX_IN_PROGRESS = 16
"""Requests of one token that a worker handles at a time. This is half of the worker's threads, so that a token whose
request bodies don't arrive can't block the others."""

BUSY_RETRY_S = 1.0
BURST_S = 2
"""Seconds of the allowed rate that a token may use up at once."""

MAX_BUCKETS = 10_000


@dataclass
class _Bucket:
    """A token bucket, refilled at the allowed rate, and the number of requests in progress."""

    left: float
    filled_at: float
    in_progress: int = 0


class RateLimit:
    """Counts each token's requests; one for each worker, thread-safe."""

    def __init__(self, requests_per_s: float | None) -> None:
        """`requests_per_s` is the rate allowed to each token; None means no limit."""
        self._rate = requests_per_s
        self._capacity = 0.0 if requests_per_s is None else max(1.0, BURST_S * requests_per_s)
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def acquire(self, token_id: str) -> None:
        """Count a request that begins. Raises Problem (429); otherwise call `release` when the request ends."""
        now, rate = monotonic(), self._rate
        with self._lock:
            bucket = self._buckets.get(token_id)
            if bucket is None:
                if len(self._buckets) >= MAX_BUCKETS:
                    self._buckets = {known: bucket for known, bucket in self._buckets.items() if bucket.in_progress}
                bucket = self._buckets[token_id] = _Bucket(self._capacity, now)
            if bucket.in_progress >= MAX_IN_PROGRESS:
                detail = f"{MAX_IN_PROGRESS} requests of this token are in progress already"
                raise Problem("too-many-requests", detail, retry_after(BUSY_RETRY_S))
            if rate is not None:
                bucket.left = min(self._capacity, bucket.left + (now - bucket.filled_at) * rate)
                bucket.filled_at = now
                if bucket.left < 1:
                    detail = f"more than {rate:g} requests a second with this token; slow down"
                    raise Problem("too-many-requests", detail, retry_after((1 - bucket.left) / rate))
                bucket.left -= 1
            bucket.in_progress += 1

    def release(self, token_id: str) -> None:
        """Count a request that ended."""
        with self._lock:
            self._buckets[token_id].in_progress -= 1
