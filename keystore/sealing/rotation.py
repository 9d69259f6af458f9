"""The rotation of one company: its data key gets the newest master key, and its plain values are sealed.

It goes from key to key in portions. Each portion is one transaction that changes a value only if it is still the one
that was read, so a bot may write meanwhile. A rotation that broke off is repeated, and does the
rest.
"""

from collections.abc import Sequence

from keystore.records import Rotation
from keystore.sealing.data_keys import DataKeys
from keystore.sealing.queries import CREDS, Name, Reseal, SealingQueries
from keystore.sealing.sealed_form import SealingKey, full_name, key_id_of
from keystore.values.codec import PLAIN

VALUES_AT_A_TIME = 200
"""Values that one transaction seals: a write to one of these keys waits for it, some milliseconds."""


class CompanyRotation:
    """The rotation of companies in one store, with its keys."""

    def __init__(self, queries: SealingQueries, keys: DataKeys) -> None:
        self._queries = queries
        self.keys = keys

    def needs_new_wrapping(self, company: str) -> bool:
        """Return True if a company has a data key that the newest master key hasn't sealed."""
        rows = self._queries.run_upkeep("data_key", company_id=company)
        return bool(rows) and key_id_of(rows[0][1]) != self.keys.newest.id

    def rotate(self, company: str) -> Rotation:
        """Rotate a company. Raises RefusalError if it is purged meanwhile."""
        rewrapped = self._rewrap(company)
        sealed = 0
        if self._queries.run_upkeep("plain_count", company_id=company)[0][0]:
            key = self.keys.for_writing(company)
            if key is not None:
                sealed = self._seal_creds(company, key) + self._seal_keys(company, key) + self._seal_trash(company, key)
        return Rotation(company, sealed, rewrapped)

    def _rewrap(self, company: str) -> bool:
        rows = self._queries.run_upkeep("data_key", company_id=company)
        if not rows or key_id_of(rows[0][1]) == self.keys.newest.id:
            return False
        former = rows[0][1]
        self.keys.require_canary()
        sealed = self.keys.sealed(company, self.keys.opened(company, former))
        return bool(self._queries.run_upkeep("rewrap_data_key", company_id=company, sealed_key=sealed, former=former))

    def _seal_creds(self, company: str, key: SealingKey) -> int:
        creds = self._queries.stored_values(company, [CREDS]).get(CREDS)
        if creds is None or creds[:1] != PLAIN:
            return 0
        return self._queries.reseal(company, key.id, [_sealed(key, company, CREDS, creds)])

    def _seal_keys(self, company: str, key: SealingKey) -> int:
        sealed, last = 0, ("", "")
        while rows := self._queries.run_upkeep(
            "plain_values", company_id=company, after_type=last[0], after_id=last[1], limit=VALUES_AT_A_TIME
        ):
            sealed += self._queries.reseal(company, key.id, _all_sealed(key, company, rows))
            last = rows[-1][:2]
        return sealed

    def _seal_trash(self, company: str, key: SealingKey) -> int:
        sealed = 0
        while rows := self._queries.run_upkeep("plain_trash", company_id=company, limit=VALUES_AT_A_TIME):
            sealed += self._queries.reseal(
                company,
                key.id,
                [_sealed(key, company, (key_type, key_id), stored, at) for at, key_type, key_id, stored in rows],
            )
        return sealed


def _all_sealed(key: SealingKey, company: str, rows: Sequence[tuple[str, str, bytes]]) -> list[Reseal]:
    return [_sealed(key, company, (key_type, key_id), stored) for key_type, key_id, stored in rows]


def _sealed(key: SealingKey, company: str, name: Name, stored: bytes, trashed_at: object = None) -> Reseal:
    """Return the change of a plain stored form to a sealed one."""
    return Reseal(name, stored, key.seal(stored[len(PLAIN) :], full_name(company, *name)), trashed_at)
