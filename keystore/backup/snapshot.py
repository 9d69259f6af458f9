"""A snapshot of the whole database: every company's creds and keys as of one moment, read one company at a time."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from keystore.errors import CorruptValue
from keystore.records import CompanySnapshot, KeyRow, TokenRecord
from keystore.sealing.queries import CREDS, Name
from keystore.values.codec import decode, name_in_words

if TYPE_CHECKING:
    from keystore.sealing.sealer import Sealer

Row = tuple[Any, ...]
Form = Callable[[str, str, bytes], tuple[bytes, int]]
"""Returns a value for the archive and the value's length, from a type, an id and the stored form."""


class Read(Protocol):
    """Runs a named statement within the snapshot's transaction, and returns its rows."""

    def __call__(self, name: str, /, **params: Any) -> list[Row]: ...


class Snapshot:
    """The database as of one moment, while its transaction lasts. Any method may raise StoreUnavailable."""

    def __init__(
        self,
        read: Read,
        time: Callable[[Any], datetime],
        token: Callable[[Row], TokenRecord],
        sealer: "Sealer | None",
    ) -> None:
        self._read = read
        self._time = time
        self._token = token
        self._sealer = sealer

    def companies(self) -> list[str]:
        """Return every company with creds or keys, sorted."""
        return sorted(company for (company,) in self._read("companies"))

    def tokens(self) -> list[TokenRecord]:
        """Return every token of the API."""
        return [self._token(row) for row in self._read("tokens")]

    def company(self, company: str) -> CompanySnapshot:
        """Return one company. Its values are sealed if the store seals. Raises SecretKeyMissing.

        A value that can't be read is left out, and named.
        """
        form, data_key = self._form(company)
        unreadable: list[Name] = []
        value_bytes = 0

        def archived(key_type: str, key_id: str, stored: bytes) -> bytes | None:
            nonlocal value_bytes
            try:
                value, length = form(key_type, key_id, bytes(stored))
            except CorruptValue:
                unreadable.append((key_type, key_id))
                return None
            value_bytes += length
            return value

        creds = None
        for (stored,) in self._read("get_creds", company_id=company):
            creds = None if stored is None else archived(*CREDS, stored)
        rows = []
        for key_type, key_id, stored, created, updated, expires, never in self._read("export_rows", company_id=company):
            value = archived(key_type, key_id, stored)
            if value is not None:
                times = self._time(created), self._time(updated), None if expires is None else self._time(expires)
                rows.append(KeyRow(key_type, key_id, value, *times, never_expires=bool(never)))
        return CompanySnapshot(company, creds, rows, value_bytes, data_key, tuple(unreadable))

    def _form(self, company: str) -> tuple[Form, bytes | None]:
        """Return how a value of this company goes into an archive, and the company's sealed data key."""
        if self._sealer is None:
            return lambda *name_and_form: _plain(company, *name_and_form), None
        from keystore.backup.archive_keys import PartSealer  # It imports cryptography, which only sealed values need.

        # Read in the snapshot: a company that is purged meanwhile is in the archive with its key.
        rows = self._read("data_key", company_id=company)
        part = PartSealer(company, self._sealer.keys, rows[0][1] if rows else None)
        return part.sealed, part.data_key


def _plain(company: str, key_type: str, key_id: str, stored: bytes) -> tuple[bytes, int]:
    value = decode(stored, name_in_words(company, key_type, key_id))
    return value, len(value)
