"""The quota of one company: when a write has to look at the company's use, and what it may find there.

Counting a company's keys in every write would read all of them for each message. So a write that counted receives an
allowance, a small part of the quota, for this process's next writes. Only the write that uses it up counts again
(decision 18).
"""

import threading
from dataclasses import dataclass

from keystore.errors import QuotaExceeded
from keystore.ids import MAX_OTHER_TYPES
from keystore.records import Quota
from keystore.sql.link import RefusalError

ALLOWANCE_SHARE = 64
"""An allowance is at most this part of the quota. Each further process can exceed the quota by one allowance."""

MOST_COMPANIES = 20_000
"""Limit of allowances held at a time; the oldest goes first, and costs its company one more count."""


@dataclass(frozen=True)
class Usage:
    """The keys of a company and the bytes of their values."""

    keys: int
    value_bytes: int


class Allowances:
    """The writes left to each company before its use is counted again; thread-safe."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._lock = threading.Lock()
        self._left: dict[str, Usage] = {}

    def spend(self, company: str, written: Usage) -> bool:
        """Take a write from the company's allowance; return False if its use must be counted first."""
        with self._lock:
            left = self._left.get(company)
            if left is None or left.keys < written.keys or left.value_bytes < written.value_bytes:
                return False
            self._left[company] = Usage(left.keys - written.keys, left.value_bytes - written.value_bytes)
            return True

    def grant(self, company: str, used: Usage) -> None:
        """Allow further writes to a company of which `used` was counted."""
        keys = min(self.quota.keys // ALLOWANCE_SHARE, self.quota.keys - used.keys)
        value_bytes = min(self.quota.value_bytes // ALLOWANCE_SHARE, self.quota.value_bytes - used.value_bytes)
        with self._lock:
            self._left.pop(company, None)
            self._left[company] = Usage(max(0, keys), max(0, value_bytes))
            if len(self._left) > MOST_COMPANIES:
                del self._left[next(iter(self._left))]

    def exceeded(self, company: str, before: Usage, after: Usage) -> QuotaExceeded:
        """Return the error of a write that grows the company beyond its quota."""
        if after.keys > max(self.quota.keys, before.keys):
            return QuotaExceeded(
                f"{company}: nothing was written: it would have {after.keys:,} keys, and its quota is "
                f"{self.quota.keys:,} (KEYSTORE_COMPANY_KEYS); delete keys, or raise the quota"
            )
        return QuotaExceeded(
            f"{company}: nothing was written: its values would take {after.value_bytes:,} bytes, and its quota is "
            f"{self.quota.value_bytes:,} (KEYSTORE_COMPANY_MB); delete keys, or raise the quota"
        )


def require_room(quota: Quota, before: Usage, after: Usage) -> None:
    """Refuse a write that grows a company beyond its quota. One that shrinks it is always allowed."""
    if after.keys > max(quota.keys, before.keys) or after.value_bytes > max(quota.value_bytes, before.value_bytes):
        facts = {"keys": before.keys, "bytes": before.value_bytes}
        raise RefusalError("KS002", {**facts, "keys_after": after.keys, "bytes_after": after.value_bytes})


def too_many_types(company: str, types: int) -> QuotaExceeded:
    """Return the error of a write after which a company would have this number of types besides the known ones."""
    return QuotaExceeded(
        f"{company}: nothing was written: it would have {types:,} key types besides Baileys' own, and may have "
        f"{MAX_OTHER_TYPES}; the type is a kind of key, and the id names one key"
    )
