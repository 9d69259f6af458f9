"""The operations of a bot, as far as both SQL backends share them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from keystore import ids
from keystore.errors import InvalidInput, LeaseHeld, LeaseLost
from keystore.records import AuthState, CompanyLease, Keys
from keystore.sql.link import Row
from keystore.sql.quota import Usage
from keystore.sql.tokens import SqlTokens
from keystore.sql.trash import SqlTrash
from keystore.sql.upkeep import SqlUpkeep
from keystore.store import Store
from keystore.values import codec
from keystore.values.codec import PLAIN

log = structlog.get_logger()


@dataclass(frozen=True, repr=False)
class Change:
    """A checked write. `written` is `(key_type, key_id, value)`, and `deleted` is `(key_type, key_id)`.

    `creds` are in their stored form. With `measured` the company's use is held against its quota.
    """

    company: str
    written: list[tuple[str, str, bytes]]
    deleted: list[tuple[str, str]]
    creds: bytes | None
    epoch: int | None
    seq: int | None
    measured: bool


class SqlStore(SqlUpkeep, SqlTokens, SqlTrash, Store):
    """A store on a SQL database."""

    def load(self, company_id: str) -> AuthState:
        company = ids.canonical_company(company_id)
        self._require_converted()
        creds: bytes | None = None
        epoch = seq = 0
        keys: dict[str, dict[str, bytes]] = {}
        last_type, by_id = "", dict[str, bytes]()
        for key_type, key_id, stored in self.link.rows(self._sql["load"], {"company_id": company}):
            if key_type != last_type:
                if key_type is None:
                    if key_id is None:
                        creds = codec.decode(stored, f"{company} creds")
                    else:
                        epoch, seq = map(int, key_id.split())
                    continue
                last_type, by_id = key_type, keys.setdefault(key_type, {})
            # The first byte is looked at without a copy, because a load has hundreds of keys.
            is_plain = stored and not stored[0]
            by_id[key_id] = stored[1:] if is_plain else codec.decode(stored, f"{company} {key_type} {key_id}")
        return AuthState(creds, keys, epoch, seq)

    def set(
        self,
        company_id: str,
        keys: Keys,
        creds: bytes | None = None,
        *,
        epoch: int | None = None,
        seq: int | None = None,
    ) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        seq = ids.checked_seq(seq, epoch)
        written, deleted = ids.checked_writes(keys)
        stored_creds = None if creds is None else codec.encode(ids.checked_value("creds", creds))
        if not written and not deleted and stored_creds is None:
            return
        size = Usage(len(written), sum(len(value) for _, _, value in written))
        measured = bool(written) and not self._allowances.spend(company, size)
        events, rewritten = self._set(Change(company, written, deleted, stored_creds, epoch, seq, measured))
        self._count_events(company, events)
        self._warn_rewritten(company, rewritten)

    @abstractmethod
    def _set(self, change: Change) -> tuple[list[tuple[Any, str, int]], list[str]]:
        """Make a change. Return the events `(event, key_type, keys)` to count, and the ids of rewritten pre-keys."""

    def clear(self, company_id: str, *, epoch: int | None = None, seq: int | None = None) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        cleared = self._clear(company, epoch, ids.checked_seq(seq, epoch))
        self._count_events(company, [("cleared", key_type, keys) for key_type, keys in cleared])

    @abstractmethod
    def _clear(self, company: str, epoch: int | None, seq: int | None) -> list[Row]:
        """Delete a company's creds and keys. Return `(key_type, keys)` of the deleted ones."""

    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        company = ids.canonical_company(company_id)
        used = sorted(
            (ids.checked_name("key_type", key_type), key_id)
            for key_type in keys
            for key_id in ids.checked_ids(keys[key_type])
        )
        if not used:
            return {}
        renewed, missing = self._touch(company, used)
        self._count_events(company, [("renewed", key_type, keys) for key_type, keys in renewed.items()])
        return missing

    @abstractmethod
    def _touch(self, company: str, used: list[tuple[str, str]]) -> tuple[dict[str, int], dict[str, list[str]]]:
        """Mark keys `(key_type, key_id)` as used. Return how many of each type were renewed, and those not stored."""

    def get_creds(self, company_id: str) -> bytes | None:
        company = ids.canonical_company(company_id)
        rows = self._run_for_bot("get_creds", company_id=company)
        stored = rows[0][0] if rows else None
        return None if stored is None else codec.decode(stored, f"{company} creds")

    def set_creds(self, company_id: str, creds: bytes, *, epoch: int | None = None, seq: int | None = None) -> None:
        self.set(company_id, {}, ids.checked_value("creds", creds), epoch=epoch, seq=seq)

    def lease_company(
        self, company_id: str, holder: str, ttl_s: float, *, epoch: int | None = None, force: bool = False
    ) -> CompanyLease:
        company, holder = ids.canonical_company(company_id), ids.checked_name("holder", holder)
        params = {"company_id": company, "holder": holder, "ttl_s": ids.checked_lease_s(ttl_s)}
        epoch = ids.checked_epoch(epoch)
        if epoch is not None:
            if force:
                raise InvalidInput("epoch, force: a lease is renewed with its epoch or taken by force; pass only one")
            renewed = self._run_for_bot("renew_company", epoch=epoch, **params)
            if not renewed:
                raise LeaseLost(
                    f"{company}: the lease of {holder} with epoch {epoch} has run out or passed to another holder; "
                    "stop writing, and acquire it again to go on"
                )
            ((_, renewed_until, seq),) = renewed
            return CompanyLease(company, holder, epoch, self._time(renewed_until), seq)
        (lease,) = self._run_for_bot("lease_company", force=bool(force), **params)
        current_holder, current_epoch, stored, seq = lease
        expires_at = self._time(stored)
        if current_holder != holder:
            raise LeaseHeld(
                f"{company}: {current_holder} has the lease until {expires_at:%Y-%m-%d %H:%M:%S} UTC; wait until "
                "then, or take it with force",
                current_holder,
                expires_at,
            )
        return CompanyLease(company, holder, current_epoch, expires_at, seq)

    def release_company(self, company_id: str, holder: str, epoch: int) -> bool:
        company, holder = ids.canonical_company(company_id), ids.checked_name("holder", holder)
        params = {"company_id": company, "holder": holder, "epoch": ids.checked_epoch(epoch)}
        rows = self._run_for_bot("release_company", **params)
        return bool(rows and rows[0][0])

    def last_write(self, company_id: str) -> tuple[int, int]:
        rows = self._run_for_bot("last_write", company_id=ids.canonical_company(company_id))
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def _wrong_epoch(self, company: str, epoch: int | None, holder: str | None, live_epoch: int | None) -> LeaseLost:
        """Return the error of a write whose epoch isn't that of the live lease; `live_epoch` is None without one."""
        if live_epoch is None:
            reason = (
                f"the lease with epoch {epoch} has run out or was ended; stop writing, and acquire it again to go on"
            )
        elif epoch is None:
            reason = (
                f"{holder} has the lease (epoch {live_epoch}) and this write carries no epoch; stop {holder}, or wait "
                "until its lease ends"
            )
        else:
            reason = f"{holder} has the lease (epoch {live_epoch}) and this write carries {epoch}; stop writing"
        return LeaseLost(f"{company}: nothing was written, because {reason}")

    def _values(self, company: str, key_type: str, rows: Iterable[Row]) -> dict[str, bytes]:
        """Return `{key_id: value}` of rows that begin with the id and the stored value."""
        return {
            key_id: stored[1:] if stored[:1] == PLAIN else codec.decode(stored, f"{company} {key_type} {key_id}")
            for key_id, stored, *_ in rows
        }

    def _warn_rewritten(self, company_id: str, pre_key_ids: list[str]) -> None:
        """Log that unused pre-keys got another value: messages encrypted for the old one can't be read."""
        if pre_key_ids:
            log.warning(
                "pre_key_rewritten", company_id=company_id, count=len(pre_key_ids), key_ids=sorted(pre_key_ids)[:10]
            )
