"""The store on a SQL database: it checks, counts, decodes, and words errors, once for both backends.

Its queries (`keystore.sql.queries`) are those of the database.
"""

from collections.abc import Iterable, Mapping

import structlog

from keystore import ids
from keystore.errors import InvalidInput, KeystoreError, LeaseHeld, LeaseLost
from keystore.records import AuthState, CompanyLease, Keys, Write
from keystore.sql.queries import Change, Changed
from keystore.sql.quota import Usage
from keystore.sql.tokens import SqlTokens
from keystore.sql.trash import SqlTrash
from keystore.sql.upkeep import SqlUpkeep
from keystore.store import Store
from keystore.values import codec
from keystore.values.codec import PLAIN

log = structlog.get_logger()


class SqlStore(SqlUpkeep, SqlTokens, SqlTrash, Store):
    """A store on a SQL database."""

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        company, key_type = ids.canonical_company(company_id), ids.checked_name("key_type", key_type)
        wanted = ids.checked_ids(key_ids)
        self._require_converted()
        if not wanted:
            return {}
        rows, renewed = self.queries.get(company, key_type, wanted)
        if renewed:
            self._count_events(company, [("renewed", key_type, renewed)])
        return {
            key_id: stored[1:] if stored[:1] == PLAIN else codec.decode(stored, f"{company} {key_type} {key_id}")
            for key_id, stored, *_ in rows
        }

    def load(self, company_id: str) -> AuthState:
        company = ids.canonical_company(company_id)
        self._require_converted()
        creds: bytes | None = None
        epoch = seq = 0
        keys: dict[str, dict[str, bytes]] = {}
        last_type, by_id = "", dict[str, bytes]()
        for key_type, key_id, stored in self.queries.run("load", company_id=company):
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
        change = self._change(Write(company_id, keys, creds, epoch, seq))
        if change is None:
            return
        self._require_converted()
        with self._refused(change.company, change.epoch):
            changed = self.queries.set(change)
        self._note_change(change, changed)

    def set_all(self, writes: Iterable[Write]) -> list[KeystoreError | None]:
        errors: list[KeystoreError | None] = []
        changes: dict[int, Change] = {}
        for place, write in enumerate(writes):
            errors.append(None)
            try:
                change = self._change(write)
            except InvalidInput as error:
                errors[place] = error
                continue
            if change is not None:
                changes[place] = change
        if len({change.company for change in changes.values()}) < len(changes):
            raise InvalidInput("writes: a company is there twice; one call has one write of each")
        self._require_converted()
        outcomes = self.queries.set_all(list(changes.values())) if changes else []
        for (place, change), outcome in zip(changes.items(), outcomes, strict=True):
            if isinstance(outcome, Changed):
                self._note_change(change, outcome)
                continue
            try:
                with self._refused(change.company, change.epoch):
                    raise outcome
            except KeystoreError as error:
                errors[place] = error
        return errors

    def _change(self, write: Write) -> Change | None:
        """Return a write's change, with the quota if the company's use must be counted; None for no change."""
        company, epoch = ids.canonical_company(write.company_id), ids.checked_epoch(write.epoch)
        seq = ids.checked_seq(write.seq, epoch)
        written, deleted = ids.checked_writes(write.keys)
        creds = None if write.creds is None else codec.encode(ids.checked_value("creds", write.creds))
        if not written and not deleted and creds is None:
            return None
        size = Usage(len(written), sum(len(value) for _, _, value in written))
        quota = None if not written or self._allowances.spend(company, size) else self._allowances.quota
        stored = [(key_type, key_id, codec.encode(value)) for key_type, key_id, value in written]
        return Change(company, stored, deleted, creds, epoch, seq, quota)

    def _note_change(self, change: Change, changed: Changed) -> None:
        if changed.used is not None:
            self._allowances.grant(change.company, changed.used)
        self._count_events(change.company, changed.events)
        self._warn_rewritten(change.company, changed.rewritten)

    def clear(
        self, company_id: str, *, keys_only: bool = False, epoch: int | None = None, seq: int | None = None
    ) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        seq = ids.checked_seq(seq, epoch)
        self._require_converted()
        with self._refused(company, epoch):
            cleared = self.queries.clear(company, epoch, seq, keys_only=keys_only)
        self._count_events(company, [("cleared", key_type, keys) for key_type, keys in cleared])

    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        company = ids.canonical_company(company_id)
        used = sorted(
            (ids.checked_name("key_type", key_type), key_id)
            for key_type in keys
            for key_id in ids.checked_ids(keys[key_type])
        )
        if not used:
            return {}
        self._require_converted()
        renewed, missing = self.queries.touch(company, used)
        counts = self._by_type(renewed)
        self._count_events(company, [("renewed", key_type, keys) for key_type, keys in counts.items()])
        return missing

    def get_creds(self, company_id: str) -> bytes | None:
        company = ids.canonical_company(company_id)
        self._require_converted()
        rows = self.queries.run("get_creds", company_id=company)
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
        self._require_converted()
        if epoch is not None:
            if force:
                raise InvalidInput("epoch, force: a lease is renewed with its epoch or taken by force; pass only one")
            renewed = self.queries.run("renew_company", epoch=epoch, **params)
            if not renewed:
                raise LeaseLost(
                    f"{company}: the lease of {holder} with epoch {epoch} was ended, or somebody else has written "
                    "since it ran out; stop writing, and acquire it and load again to go on"
                )
            ((_, renewed_until, seq),) = renewed
            return CompanyLease(company, holder, epoch, self.queries.time(renewed_until), seq)
        (lease,) = self.queries.run("lease_company", force=bool(force), **params)
        current_holder, current_epoch, stored, seq = lease
        expires_at = self.queries.time(stored)
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
        self._require_converted()
        rows = self.queries.run("release_company", **params)
        return bool(rows and rows[0][0])

    def last_write(self, company_id: str) -> tuple[int, int]:
        company = ids.canonical_company(company_id)
        self._require_converted()
        rows = self.queries.run("last_write", company_id=company)
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def _warn_rewritten(self, company_id: str, pre_key_ids: list[str]) -> None:
        """Log that unused pre-keys got another value: messages encrypted for the old one can't be read."""
        if pre_key_ids:
            log.warning(
                "pre_key_rewritten", company_id=company_id, count=len(pre_key_ids), key_ids=sorted(pre_key_ids)[:10]
            )
