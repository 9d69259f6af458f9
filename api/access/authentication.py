"""Bearer authentication: the token that a request carries, and the companies that it reaches.

A token is `kst_<token_id>_<secret>`; the database stores the SHA-256 of the secret. (The secret is 256 random bits, so
a slow hash would not make it harder to guess.) Each worker caches a token's record for 5 seconds, so that a bot's
request stays one round trip to the database. A revoked token is refused within that time.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from api.access.tokens import TOKEN, hash_of, in_force
from api.problems import Problem
from keystore.invocation import command
from keystore.records import TokenRecord
from keystore.store import Store
from monitor.running.bounded_calls import BoundedCalls

CACHED_FOR_S = 5.0
MAX_CACHED_TOKENS = 10_000

CONCURRENT_LOOKUPS = 4

NO_HASH = bytes(32)
"""The hash that a secret is compared with when its token is unknown."""

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="signal-keystore"'}


class Authenticator:
    """Finds the caller: the record of the token that a request carries. One for each worker, thread-safe."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._lookups = BoundedCalls(CONCURRENT_LOOKUPS, "token-lookup")
        self._cached: dict[str, tuple[TokenRecord, float]] = {}
        """Each record, and the time until which it is fresh."""

    def bearer(self, authorization: str | None) -> TokenRecord:
        """Return the caller of an `Authorization` header. Raises Problem (401), StoreUnavailable."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Problem(
                "unauthorized", f"send Authorization: Bearer with a token of `{command('token create')}`", CHALLENGE
            )
        return self.caller(token.strip())

    def caller(self, token: str) -> TokenRecord:
        """Return the caller of a token. Raises Problem (401), StoreUnavailable."""
        match = TOKEN.fullmatch(token)
        record = None if match is None else self._record(match[1])
        expected = NO_HASH if record is None else record.secret_hash
        matches = hmac.compare_digest(hash_of("" if match is None else match[2]), expected)
        if record is None or not matches or not in_force(record, datetime.now(UTC)):
            raise Problem("unauthorized", "this token isn't known, has expired or was revoked", CHALLENGE)
        return record

    def _record(self, token_id: str) -> TokenRecord | None:
        cached = self._cached.get(token_id)
        started_at = monotonic()
        if cached is not None and cached[1] > started_at:
            return cached[0]
        record = self._lookups.call(lambda: self._store().find_token(token_id))
        if record is None:
            self._cached.pop(token_id, None)
        else:
            if len(self._cached) >= MAX_CACHED_TOKENS:
                self._cached.clear()
            self._cached[token_id] = record, started_at + CACHED_FOR_S
        return record


def require_admin(caller: TokenRecord) -> None:
    """Raise Problem (403) unless the caller reaches everything."""
    if caller.company_id is not None:
        raise Problem("forbidden", "this needs an admin token; the one sent is for a company")


def require_company(caller: TokenRecord, company_id: str) -> None:
    """Raise Problem (403) unless the caller reaches this company (a canonical id)."""
    if caller.company_id not in (None, company_id):
        raise Problem("forbidden", "the token sent is for another company")
