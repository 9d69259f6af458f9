"""Who asks: bearer tokens, and what each may reach.

A token is `kst_<token_id>_<secret>`; the database keeps the secret's SHA-256. (The secret is 256 random bits: there is
nothing to guess that a slow hash would slow down.) A look-up is remembered for 5 seconds in each worker, so that a
bot's request stays one round trip to the database; a revoked token ends within that time.
"""

import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from api.access.tokens import TOKEN, hash_of, in_force
from api.problems import Problem, retry_after
from keystore.records import TokenRecord
from keystore.store import Store
from monitor.running.bounded_calls import BoundedCalls

REMEMBERED_FOR_S = 5.0
MOST_REMEMBERED = 10_000

LOOK_UP_WITHIN_S = 5.0
LOOK_UPS_AT_ONCE = 4

NOBODY = bytes(32)
"""What the secret of an unknown token is compared with."""

IN_HAND = 16
"""Requests of one token that a worker has in hand at a time: half of its threads, so that no token holds up the rest
with bodies that don't come."""

BUSY_RETRY_S = 1.0

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="signal-keystore"'}


@dataclass(frozen=True)
class Caller:
    """Whoever asks: the token, and the one company that it reaches; None reaches everything."""

    token_id: str
    company_id: str | None

    @property
    def admin(self) -> bool:
        """Whether it reaches everything."""
        return self.company_id is None


@dataclass
class _Bucket:
    """A token's requests: one less is left for each, and so many a second come back; and how many are in hand."""

    left: float
    filled_at: float
    in_hand: int = 0


@dataclass
class _Remembered:
    record: TokenRecord = field(repr=False)
    until: float


class Gate:
    """Lets callers in by their tokens, each so many times a second; one for each worker, thread-safe."""

    def __init__(self, store: Callable[[], Store], requests_per_s: float | None) -> None:
        """`requests_per_s` None: as many as come."""
        self._store = store
        self._rate = requests_per_s
        self._slots = BoundedCalls(LOOK_UPS_AT_ONCE, "token")
        self._remembered: dict[str, _Remembered] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._counting = threading.Lock()

    def bearer(self, authorization: str | None) -> Caller:
        """The caller of an `Authorization` header. Raises Problem (401), StoreUnavailable."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem("unauthorized", "send Authorization: Bearer with a token of `run.py token create`", CHALLENGE)
        return self.caller(token.strip())

    def caller(self, token: str) -> Caller:
        """The caller that a token stands for. Raises Problem (401), StoreUnavailable."""
        parts = TOKEN.fullmatch(token)
        record = None if parts is None else self._record(parts[1])
        expected = NOBODY if record is None else record.secret_hash
        right = hmac.compare_digest(hash_of("" if parts is None else parts[2]), expected)
        if record is None or not right or not in_force(record, datetime.now(UTC)):
            raise Problem("unauthorized", "this token isn't known, has expired or was revoked", CHALLENGE)
        return Caller(record.token_id, record.company_id)

    def _record(self, token_id: str) -> TokenRecord | None:
        known = self._remembered.get(token_id)
        if known is not None and known.until > monotonic():
            return known.record
        asked_at = monotonic()
        record = self._slots.call(lambda: self._store().find_token(token_id), LOOK_UP_WITHIN_S)
        if record is None:
            self._remembered.pop(token_id, None)
        else:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[token_id] = _Remembered(record, asked_at + REMEMBERED_FOR_S)
        return record

    def enter(self, caller: Caller) -> None:
        """Counts a request that begins: one from the token's bucket, which holds two seconds' worth, and one in hand.

        Raises Problem (429). Each that entered leaves.
        """
        now, rate = monotonic(), self._rate
        with self._counting:
            bucket = self._buckets.get(caller.token_id)
            if bucket is None:
                if len(self._buckets) >= MOST_REMEMBERED:
                    self._buckets = {token: one for token, one in self._buckets.items() if one.in_hand}
                bucket = self._buckets[caller.token_id] = _Bucket(0.0 if rate is None else max(1.0, 2 * rate), now)
            if bucket.in_hand >= IN_HAND:
                raise Problem(
                    "too-many-requests", f"{IN_HAND} requests of this token wait already", retry_after(BUSY_RETRY_S)
                )
            if rate is not None:
                bucket.left = min(max(1.0, 2 * rate), bucket.left + (now - bucket.filled_at) * rate)
                bucket.filled_at = now
                if bucket.left < 1:
                    told = f"more than {rate:g} requests a second with this token; slow down"
                    raise Problem("too-many-requests", told, retry_after((1 - bucket.left) / rate))
                bucket.left -= 1
            bucket.in_hand += 1

    def leave(self, caller: Caller) -> None:
        """Counts a request that ended."""
        with self._counting:
            self._buckets[caller.token_id].in_hand -= 1


def require_admin(caller: Caller) -> None:
    """Raises Problem (403) unless the caller reaches everything."""
    if not caller.admin:
        raise Problem("forbidden", "this needs an admin token; the one sent is for a company")


def require_company(caller: Caller, company_id: str) -> None:
    """Raises Problem (403) unless the caller reaches this company (a canonical id)."""
    if caller.company_id not in (None, company_id):
        raise Problem("forbidden", "the token sent is for another company")
