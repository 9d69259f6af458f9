"""A model of the key store as a plain dict: the contract and the guards in the fewest lines.

The state machine and the census are compared with it. It shares only the expiry arithmetic with the product
(`keystore.ttl`, which has tests of its own).
"""

import json
import re
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

NEWEST_PRE_KEYS = 1_000
"""The number of a company's pre-keys that a sweep never deletes."""


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

    def clear(self, company_id: str, *, keys_only: bool) -> None:
        company = canonical_company(company_id)
        if not keys_only:
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
        company, key_type, key_id = name
        staying = [other for other in self.keys if other[0] == company and other not in past]
        if key_type in ("app-state-sync-key", "app-state-sync-version"):
            return True
        if key_type == "pre-key":
            pre_keys = [(key.updated_at, len(n[2]), n[2]) for n, key in self.keys.items() if n[:2] == name[:2]]
            return (self.keys[name].updated_at, len(key_id), key_id) in sorted(pre_keys)[-NEWEST_PRE_KEYS:]
        if key_type in ("sender-key", "sender-key-memory"):
            has_memory = any(
                _group(other) == _group(name) and other[1] == "sender-key-memory"
                for other in self.keys
                if other[0] == company
            )
            return has_memory and any(_group(other) == _group(name) for other in staying)
        if key_type == "lid-mapping":
            pair = self._pair(name)
            same = [other for other in self.keys if other[:2] == name[:2] and self._pair(other)[1] == pair[1]]
            addresses = {address for other in same for address in self._pair(other)}
            return any(other in staying for other in same) or any(
                _user(other) in addresses for other in staying if other[1] in ("session", "tctoken")
            )
        if key_type in ("identity-key", "device-list"):
            pairs = [self._pair(other) for other in self.keys if other[:2] == (company, "lid-mapping")]
            addresses = {_user(name)}.union(*(pair for pair in pairs if _user(name) in pair))
            return any(_user(other) in addresses for other in staying if other[1] == "session")
        return False

    def _pair(self, name: Name) -> tuple[str, str]:
        """The number and the LID of a row of lid-mapping."""
        mapped = json.loads(self.keys[name].value)
        return (mapped, _user(name)) if name[2].endswith("_reverse") else (name[2], mapped)


def renewal_due(policy: Policy, key_type: str, expires: datetime, now: datetime) -> bool:
    """True when a use renews the expiry."""
    limit = ttl.renewed_before(policy, key_type, now)
    return limit is None or expires < limit


def _group(name: Name) -> str | None:
    _, key_type, key_id = name
    if key_type == "sender-key":
        return key_id.partition("::")[0]
    return key_id if key_type == "sender-key-memory" else None


def _user(name: Name) -> str:
    return re.split("[._@]", name[2])[0]
