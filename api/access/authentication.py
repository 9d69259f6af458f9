"""Bearer authentication: the token that a request carries, and the companies that it reaches.

A token is `kst_<token_id>_<secret>`; the database stores the SHA-256 of the secret. (The secret is 256 random bits, so
a slow hash would not make it harder to guess.) Each worker caches a token's record for 5 seconds, so that a bot's
request stays one round trip to the database. A revoked token is refused within that time.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from api.access.strangers import StrangerLimit
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
        self._strangers = StrangerLimit()
        self._cached: dict[str, tuple[TokenRecord, float]] = {}
        """Each record, and the time until which it is fresh."""
        self._unknown: dict[str, float] = {}
        """Ids that no token has, and the time until which they aren't looked up again."""

    def bearer(self, authorization: str | None, address: str) -> TokenRecord:
        """Return the caller of an `Authorization` header from an address. Raises as `caller`."""
        return self.caller(_token_in(authorization), address)

    def seen(self, authorization: str | None, address: str) -> TokenRecord | None:
        """Return the caller without a look-up, or None if it needs one. Raises Problem (401, 429)."""
        token = _token_in(authorization)
        match = TOKEN.fullmatch(token)
        if match is not None and self._needs_lookup(match[1], monotonic()):
            self._require_allowance(match[1], address)
            return None
        return self.caller(token, address)

    def caller(self, token: str, address: str) -> TokenRecord:
        """Return the caller of a token from an address. Raises Problem (401, 429), StoreUnavailable."""
        match = TOKEN.fullmatch(token)
        record = None if match is None else self._record(match[1], address)
        expected = NO_HASH if record is None else record.secret_hash
        matches = hmac.compare_digest(hash_of("" if match is None else match[2]), expected)
        if record is None or not matches or not in_force(record, datetime.now(UTC)):
            raise Problem("unauthorized", "this token isn't known, has expired or was revoked", CHALLENGE)
        return record

    def _record(self, token_id: str, address: str) -> TokenRecord | None:
        started_at = monotonic()
        if not self._needs_lookup(token_id, started_at):
            cached = self._cached.get(token_id)
            return None if cached is None else cached[0]
        self._require_allowance(token_id, address)
        record = self._lookups.call(lambda: self._store().find_token(token_id))
        fresh_until = started_at + CACHED_FOR_S
        if record is None:
            self._cached.pop(token_id, None)
            self._strangers.count(address)
            if len(self._unknown) >= MAX_CACHED_TOKENS:
                self._unknown = {}
            self._unknown[token_id] = fresh_until
        else:
            if len(self._cached) >= MAX_CACHED_TOKENS:
                self._cached = {}
            self._cached[token_id] = record, fresh_until
        return record

    def _needs_lookup(self, token_id: str, now: float) -> bool:
        cached = self._cached.get(token_id)
        return (cached is None or cached[1] <= now) and self._unknown.get(token_id, 0.0) <= now

    def _require_allowance(self, token_id: str, address: str) -> None:
        """Raise Problem (429) for a token that was never known, from an address that sent too many of those."""
        if token_id not in self._cached:
            self._strangers.require_allowance(address)


def _token_in(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(
            "unauthorized", f"send Authorization: Bearer with a token of `{command('token create')}`", CHALLENGE
        )
    return token.strip()


def require_admin(caller: TokenRecord) -> None:
    """Raise Problem (403) unless the caller reaches everything."""
    if not caller.is_admin:
        raise Problem("forbidden", "this needs an admin token; the one sent is for a company")


def require_company(caller: TokenRecord, company_id: str) -> None:
    """Raise Problem (403) unless the caller reaches this company (a canonical id)."""
    if not caller.reaches(company_id):
        raise Problem("forbidden", "the token sent isn't for this company")
