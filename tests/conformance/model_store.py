"""A model of the key store as a plain dict: the contract and the three guards in the fewest lines.

The state machine and the census are compared with it. It shares only the expiry arithmetic with the product
(`keystore.ttl`, which has tests of its own).
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keystore import ttl
from keystore.ids import canonical_company
from keystore.records import CompanyLease, Keys
from keystore.ttl import Policy
from rig.fixtures.clock import Clock

Name = tuple[str, str, str]
"""A key's company, type and id."""

GENERATION = timedelta(hours=1)
"""Pre-keys written within this time of the newest one are its generation."""


@dataclass(frozen=True)
class ModelKey:
    """One key. It has no expiry if `expires_at` is None and `never_expires` is False."""

    value: bytes
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    never_expires: bool = False


class Model:
    """A dict of keys, and a store's operations on it."""

    def __init__(self, clock: Clock, policy: Policy, *, guard: bool) -> None:
        self._clock = clock
        self._policy = policy
        self._guard = guard
        self.keys: dict[Name, ModelKey] = {}
        self.creds: dict[str, bytes] = {}
        self.leases: dict[str, CompanyLease] = {}

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        company, now = canonical_company(company_id), self._clock()
        for key_type, by_id in keys.items():
            for key_id, value in by_id.items():
                name = company, key_type, key_id
                if value is None:
                    self.keys.pop(name, None)
                    continue
                expires = ttl.expires_at(self._policy, key_type, now)
                created = self.keys[name].created_at if name in self.keys else now
                self.keys[name] = ModelKey(value, created, now, expires, expires is None)
        if creds is not None:
            self.creds[company] = creds

    def touch(self, company_id: str, key_type: str, key_ids: list[str]) -> None:
        now = self._clock()
        for key_id in key_ids:
            name = canonical_company(company_id), key_type, key_id
            key = self.keys.get(name)
            if key and key.expires_at and renewal_due(self._policy, key_type, key.expires_at, now):
                expires = ttl.expires_at(self._policy, key_type, now)
                self.keys[name] = replace(key, expires_at=expires, never_expires=expires is None)

    def get(self, company_id: str, key_type: str, key_ids: list[str]) -> dict[str, bytes]:
        self.touch(company_id, key_type, key_ids)
        company = canonical_company(company_id)
        return {
            key_id: self.keys[company, key_type, key_id].value
            for key_id in key_ids
            if (company, key_type, key_id) in self.keys
        }

    def load(self, company_id: str) -> tuple[bytes | None, dict[str, dict[str, bytes]]]:
        company = canonical_company(company_id)
        keys: dict[str, dict[str, bytes]] = {}
        for (owner, key_type, key_id), key in self.keys.items():
            if owner == company:
                keys.setdefault(key_type, {})[key_id] = key.value
        return self.creds.get(company), keys

    def clear(self, company_id: str) -> None:
        company = canonical_company(company_id)
        self.creds.pop(company, None)
        self.keys = {name: key for name, key in self.keys.items() if name[0] != company}

    def lease(self, company_id: str) -> CompanyLease | None:
        """The current lease; None if there is none or it has expired."""
        lease = self.leases.get(canonical_company(company_id))
        return lease if lease and lease.expires_at > self._clock() else None

    def may_write(self, company_id: str, epoch: int | None) -> bool:
        lease = self.lease(company_id)
        return epoch == (lease.epoch if lease else None)

    def take(self, company_id: str, holder: str, ttl_s: float, *, force: bool) -> CompanyLease | None:
        """Take and return the lease; None if another holder has it."""
        company, current = canonical_company(company_id), self.lease(company_id)
        if current and current.holder != holder and not force:
            return None
        epoch = self.leases[company].epoch + 1 if company in self.leases else 1
        self.leases[company] = CompanyLease(company, holder, epoch, self._clock() + timedelta(seconds=ttl_s))
        return self.leases[company]

    def end(self, company_id: str) -> None:
        """End the lease; its epoch is remembered."""
        company = canonical_company(company_id)
        if company in self.leases:
            self.leases[company] = replace(self.leases[company], expires_at=self._clock())

    def past(self) -> AbstractSet[Name]:
        """The keys past their expiry, guarded ones included."""
        now = self._clock()
        return {name for name, key in self.keys.items() if key.expires_at is not None and key.expires_at <= now}

    def expired(self) -> AbstractSet[Name]:
        """The keys that a sweep deletes now."""
        past = self.past()
        return {name for name in past if not self._guarded(name, past)} if self._guard else past

    def sweep(self) -> dict[str, int]:
        """Delete the expired keys and return the number of each type."""
        expired = self.expired()
        for name in expired:
            del self.keys[name]
        return dict(Counter(key_type for _, key_type, _ in expired))

    def _guarded(self, name: Name, past: AbstractSet[Name]) -> bool:
        company, key_type, _ = name
        if key_type == "app-state-sync-key":
            return True
        if key_type == "pre-key":
            newest = max(key.updated_at for (c, t, _), key in self.keys.items() if (c, t) == (company, "pre-key"))
            return self.keys[name].updated_at >= newest - GENERATION
        if key_type in ("sender-key", "sender-key-memory"):
            group = [other for other in self.keys if other[0] == company and _group(other) == _group(name)]
            has_memory = any(other[1] == "sender-key-memory" for other in group)
            return has_memory and any(other not in past for other in group)
        return False


def renewal_due(policy: Policy, key_type: str, expires: datetime, now: datetime) -> bool:
    """True when a use renews the expiry."""
    limit = ttl.renewed_before(policy, key_type, now)
    return limit is None or expires < limit


def _group(name: Name) -> str | None:
    _, key_type, key_id = name
    if key_type == "sender-key":
        return key_id.partition("::")[0]
    return key_id if key_type == "sender-key-memory" else None
