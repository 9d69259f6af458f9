"""Limits the bytes of bodies and answers that a worker holds, for each token and altogether.

Bytes count from their arrival until the request is answered, and those of a large answer until the client has it.
Small bodies and answers don't count: `api.access.rate_limit` limits the requests of a token, and a connection has one
at a time.
"""

import threading
from collections import Counter
from time import monotonic

from api.access.allowance import Allowance
from api.problems import Problem, retry_after

SMALL_BYTES = 64 * 1024
"""Size up to which a body or an answer isn't counted."""

MAX_BYTES_OF_A_TOKEN = 32 * 1024 * 1024
MAX_BYTES = 64 * 1024 * 1024

BYTES_PER_S = 1024 * 1024
"""Bytes of large bodies and answers each second, for each company of a token, after a burst of `MAX_BYTES_OF_A_TOKEN`
for each. The interpreter stands still while it decodes or encodes one: for others this would be a delay each time."""

MAX_TOKENS = 10_000

RETRY_AFTER_S = 1.0


class MemoryBudget:
    """The bytes that each token holds. One for each worker, thread-safe."""

    def __init__(self, of_a_token: int = MAX_BYTES_OF_A_TOKEN, altogether: int = MAX_BYTES) -> None:
        self._of_a_token = of_a_token
        self._altogether = altogether
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._all_held = 0
        self._allowances: dict[str, Allowance] = {}
        """The bytes that each token may still send and get."""

    @property
    def held(self) -> int:
        """The bytes held now."""
        return self._all_held

    def reserve(self, token_id: str, size: int) -> None:
        """Count bytes. Raises Problem (429, 503) if too many are held; then nothing is counted.

        A token that holds nothing gets any size: an answer may be larger than the limit.
        """
        with self._lock:
            held = self._held[token_id]
            if held and held + size > self._of_a_token:
                held_mib = self._of_a_token >> 20
                detail = f"the bodies and answers of this token take {held_mib} MiB already; send fewer at a time"
                raise Problem("too-many-requests", detail, retry_after(RETRY_AFTER_S))
            if self._all_held and self._all_held + size > self._altogether:
                raise Problem(
                    "busy", "too many large bodies and answers are in progress; try again", retry_after(RETRY_AFTER_S)
                )
            self._held[token_id] += size
            self._all_held += size

    def require_allowance(self, token_id: str, companies: int) -> None:
        """Raise Problem (429) if a token of so many companies has used up its large bodies and answers for now."""
        with self._lock:
            allowance = self._allowances.get(token_id)
            left = self._of_a_token if allowance is None else allowance.refilled(monotonic())
        if left <= 0:
            bytes_per_s = companies * BYTES_PER_S
            detail = f"more than {bytes_per_s >> 20} MiB a second in large bodies and answers; slow down"
            raise Problem("too-many-requests", detail, retry_after(1 - left / bytes_per_s))

    def spend(self, token_id: str, companies: int, size: int) -> None:
        """Count bytes that a token of so many companies sends or gets; its allowance may become negative."""
        now = monotonic()
        with self._lock:
            if len(self._allowances) >= MAX_TOKENS:
                self._allowances = {known: left for known, left in self._allowances.items() if not left.is_full(now)}
            allowance = self._allowances.get(token_id)
            if allowance is None:
                most, per_s = companies * self._of_a_token, companies * BYTES_PER_S
                allowance = self._allowances[token_id] = Allowance.full(most, per_s, now)
            allowance.refilled(now)
            allowance.spend(size)

    def release(self, token_id: str, size: int) -> None:
        """Count bytes that are no longer held."""
        with self._lock:
            self._all_held -= size
            self._held[token_id] -= size
            if not self._held[token_id]:
                del self._held[token_id]
