"""The store on a SQL database: it checks, counts, decodes, and words errors, once for both backends.

Its queries (`keystore.sql.queries`) are those of the database.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from keystore import ids
from keystore.backup.snapshot import Snapshot
from keystore.errors import (
    CorruptValue,
    InvalidInput,
    KeystoreError,
    LeaseHeld,
    LeaseLost,
    SchemaMismatch,
    SecretKeyMissing,
)
from keystore.records import AuthState, CompanyLease, Keys, Rotation, SealingState, UnreadableValue, Write
from keystore.sealing.quarantine import NOTES, noted_values
from keystore.sealing.queries import COMPARED_TYPES, CREDS, KEY_ERASED
from keystore.sql.link import RefusalError, Run, T
from keystore.sql.queries import Change, Changed, Outcome
from keystore.sql.quota import Usage
from keystore.sql.tokens import SqlTokens
from keystore.sql.trash import SqlTrash
from keystore.sql.upkeep import SqlUpkeep
from keystore.store import Store
from keystore.values import codec
from keystore.values.codec import PLAIN, open_plain

if TYPE_CHECKING:
    from keystore.sealing.rotation import CompanyRotation

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
        open_value = self._opener(company)
        try:
            return {
                key_id: stored[1:] if stored[:1] == PLAIN else open_value(key_type, key_id, stored)
                for key_id, stored, *_ in rows
            }
        except CorruptValue:
            readable = self._readable(company, ((key_type, key_id, stored) for key_id, stored, *_ in rows))
            return {key_id: value for (_, key_id), value in readable.items()}

    def load(self, company_id: str) -> AuthState:
        company = ids.canonical_company(company_id)
        self._require_converted()
        rows = self.queries.run("load", company_id=company)
        keys, others, misfits = (
            open_plain(company, rows) if self._sealer is None else self._sealer.open_all(company, rows)
        )
        creds: bytes | None = None
        epoch = seq = 0
        for _, numbers, stored in others:
            if numbers is None:
                creds = self._opened_creds(company, stored)
            else:
                epoch, seq = map(int, numbers.split())
        if misfits:
            for name, error in misfits:
                self._quarantine.put(company, name, error)
            keys = {key_type: by_id for key_type, by_id in keys.items() if by_id}
        return AuthState(creds, keys, epoch, seq)

    def set(
        self,
        company_id: str,
        keys: Keys,
        creds: bytes | None = None,
        *,
        epoch: int | None = None,
        seq: int | None = None,
        acknowledged: int | None = None,
    ) -> None:
        change = self._change(Write(company_id, keys, creds, epoch, seq, acknowledged))
        if change is None:
            return
        self._require_converted()
        self._note_change(change, self._set(change))

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
        forms: dict[int, Change] = {}
        for place, change in changes.items():
            try:
                forms[place] = self._stored_form(change)
            except SecretKeyMissing as error:
                errors[place] = error
        outcomes = self.queries.set_all(list(forms.values())) if forms else []
        for place, outcome in zip(forms, outcomes, strict=True):
            try:
                self._note_change(changes[place], self._made(changes[place], outcome))
            except KeystoreError as error:
                errors[place] = error
        return errors

    def _made(self, change: Change, outcome: Outcome) -> Changed:
        """Return the outcome of a change that was made among others, or raise its error."""
        if isinstance(outcome, Changed):
            return outcome
        if self._sealer is not None and isinstance(outcome, RefusalError) and outcome.reason == KEY_ERASED:
            self._sealer.keys.forget(change.company)
            return self._set(change)
        with self._refused(change.company, change.epoch):
            raise outcome

    def _change(self, write: Write) -> Change | None:
        """Return a write's change, with its values in clear; None for no change.

        It has the quota if the company's use must be counted.
        """
        company, epoch = ids.canonical_company(write.company_id), ids.checked_epoch(write.epoch)
        seq = ids.checked_seq(write.seq, epoch)
        acknowledged = ids.checked_acknowledged(write.acknowledged, seq)
        written, deleted = ids.checked_writes(write.keys)
        creds = None if write.creds is None else ids.checked_value("creds", write.creds)
        if not written and not deleted and creds is None:
            return None
        size = Usage(len(written), sum(len(value) for _, _, value in written))
        quota = None if not written or self._allowances.spend(company, size) else self._allowances.quota
        return Change(company, written, deleted, creds, epoch, seq, acknowledged, quota)

    def _note_change(self, change: Change, changed: Changed) -> None:
        if changed.used is not None:
            self._allowances.grant(change.company, changed.used)
        self._count_events(change.company, changed.events)
        self._warn_rewritten(change.company, changed.rewritten)

    def _set(self, change: Change) -> Changed:
        """Make a change that has its values in clear. If its company was purged meanwhile, seal them with a new key."""
        while True:
            form = self._stored_form(change)
            try:
                with self._refused(change.company, change.epoch):
                    return self.queries.set(form)
            except RefusalError as refused:
                if self._sealer is None or refused.reason != KEY_ERASED:
                    raise
                self._sealer.keys.forget(change.company)

    def _stored_form(self, change: Change) -> Change:
        """Return a change with its values in their stored form. Raises SecretKeyMissing."""
        if self._sealer is None:
            stored = [(key_type, key_id, codec.encode(value)) for key_type, key_id, value in change.written]
            return replace(change, written=stored, creds=None if change.creds is None else codec.encode(change.creds))
        compared = [(key_type, key_id) for key_type, key_id, _ in change.written if key_type in COMPARED_TYPES]
        values = change.written
        if change.creds is not None:
            values, compared = [*values, (*CREDS, change.creds)], [*compared, CREDS]
        sealed = self._sealer.seal(change.company, values, compared)
        stored = [(*name, form) for name, form in zip(((row[0], row[1]) for row in values), sealed.stored, strict=True)]
        creds = None if change.creds is None else stored.pop()[2]
        return replace(
            change, written=stored, creds=creds, data_key=sealed.data_key, other_identity=sealed.other_identity
        )

    def clear(
        self,
        company_id: str,
        *,
        keys_only: bool = False,
        epoch: int | None = None,
        seq: int | None = None,
        acknowledged: int | None = None,
    ) -> None:
        company, epoch = ids.canonical_company(company_id), ids.checked_epoch(epoch)
        seq = ids.checked_seq(seq, epoch)
        numbers = epoch, seq, ids.checked_acknowledged(acknowledged, seq)
        self._require_converted()
        with self._refused(company, epoch):
            cleared = self.queries.clear(company, numbers, keys_only=keys_only)
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
        return None if stored is None else self._opened_creds(company, stored)

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

    # Sealed values, and unreadable ones.

    @property
    def sealing(self) -> SealingState:
        return self._sealing

    def unreadable(self) -> list[UnreadableValue]:
        notes = self.notes(NOTES) if self.converted else {}
        try:
            if notes and self._sealing != "locked":
                return self._quarantine.still_unreadable(notes, self._opener)
        except SchemaMismatch:
            pass  # A role that only counts may read no value.
        return noted_values(notes)

    def companies_sealed_by_bots(self) -> list[str]:
        if not self.converted:
            return []
        try:
            return [row[0] for row in self.queries.run_upkeep("companies_sealed_by_bots")]
        except SchemaMismatch:
            return []  # A role that only counts may read no value.

    def companies_to_rotate(self) -> list[str]:
        self._require_converted()
        names = ("companies", "trash_companies", "data_keys")
        stored = {row[0] for name in names for row in self.queries.run_upkeep(name)}
        return sorted(stored - self.queries.companies_with_logins())

    def unsealed_values(self, company_id: str) -> int:
        ((values,),) = self.queries.run_upkeep("plain_count", company_id=company_id)
        return int(values)

    def needs_new_wrapping(self, company_id: str) -> bool:
        return self._rotation().needs_new_wrapping(company_id)

    def rotate_company(self, company_id: str) -> Rotation:
        return self._rotation().rotate(company_id)

    def forget_master_keys(self) -> int:
        keys = self._rotation().keys
        return len(self.queries.run_upkeep("forget_master_keys", key_id=keys.newest.id))

    def snapshot(self, read: Callable[[Snapshot], T]) -> T:
        self._require_converted()

        def read_all(run: Run) -> T:
            return read(Snapshot(partial(self.queries.run_within, run), self.queries.time, self._token, self._sealer))

        return self.link.work(read_all, snapshot=True)

    def _rotation(self) -> "CompanyRotation":
        self.queries.run_upkeep("master_keys")  # A closed store says that it is closed.
        if self._sealer is None:
            raise InvalidInput(
                f"{self.database}: no secret key is set, so nothing can be sealed; set KEYSTORE_SECRET_KEYS"
            )
        return self._sealer.rotation

    def _warn_rewritten(self, company_id: str, pre_key_ids: list[str]) -> None:
        """Log that unused pre-keys got another value: messages encrypted for the old one can't be read."""
        if pre_key_ids:
            log.warning(
                "pre_key_rewritten", company_id=company_id, count=len(pre_key_ids), key_ids=sorted(pre_key_ids)[:10]
            )
