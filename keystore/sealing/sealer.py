"""Seals the values that a store writes, and opens those that it reads.

A nonce is random, so two sealed forms of one value differ. Where a write is compared with the stored value (a pre-key
that is overwritten, the creds, an import), the stored form is read first. It is written again if its value is the same.
So the database compares bytes, as it does with plain values.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keystore.errors import CorruptValue
from keystore.sealing.data_keys import DataKeys
from keystore.sealing.queries import CREDS, UNSEALED_TYPES, Name, Reseal, SealingQueries
from keystore.sealing.rotation import CompanyRotation
from keystore.sealing.sealed_form import (
    DOES_NOT_OPEN,
    TEXT,
    InvalidTag,
    cannot_decrypt,
    full_name,
    key_id_of,
    name_part,
)
from keystore.values.codec import (
    HEAD_BYTES,
    NONCE,
    PLAIN,
    SEALED,
    Misfit,
    Opener,
    Row,
    decode,
    encode,
    name_in_words,
)
from keystore.values.identity import is_other_identity


@dataclass(frozen=True, repr=False)
class SealedWrite:
    """The stored forms of a write, in its order.

    `data_key` is the id of the key that sealed them; None for plain forms. `other_identity` is True if the creds
    replace those of another identity.
    """

    stored: list[bytes]
    data_key: bytes | None
    other_identity: bool


class Sealer:
    """Seals and opens the values of one store; thread-safe."""

    def __init__(self, queries: SealingQueries, master_keys: Sequence[bytes], canaries: Mapping[bytes, bytes]) -> None:
        """Take the keys, as `DataKeys` does. Raises SecretKeyMissing unless every canary opens."""
        self.keys = DataKeys(queries, master_keys, canaries)
        self.rotation = CompanyRotation(queries, self.keys)
        self._queries = queries

    def opener(self, company: str) -> Opener:
        """Return a function that opens the values of one company."""
        key = self.keys.held(company)
        strange_heads: set[bytes] = set()

        def open_value(key_type: str, key_id: str, stored: bytes) -> bytes:
            nonlocal key
            head = stored[:HEAD_BYTES]
            if head[:1] != SEALED:
                return decode(stored, name_in_words(company, key_type, key_id))
            if (key is None or key.head != head) and head not in strange_heads:
                key = self.keys.read(company)  # Another process may have purged the company, and made a new key.
            if key is None or key.head != head:
                strange_heads.add(head)
                raise CorruptValue(f"{name_in_words(company, key_type, key_id)}: {DOES_NOT_OPEN}")
            try:
                return key.open(stored, full_name(company, key_type, key_id))
            except CorruptValue as error:
                raise CorruptValue(f"{name_in_words(company, key_type, key_id)}: {error}") from None

        return open_value

    def open_all(
        self, company: str, rows: Iterable[Row]
    ) -> tuple[dict[str, dict[str, bytes]], list[Row], list[Misfit]]:
        """Open the rows `(key_type, key_id, stored form)` of a company, sorted by type.

        Return its keys, the rows without a type as they are, and those that don't open with the errors. A load opens
        hundreds of values, so here each takes as few steps as possible.
        """
        open_value = self.opener(company)
        key = self.keys.held(company)
        decrypt = cannot_decrypt if key is None else key.decrypt
        company_part = name_part(company)
        keys: dict[str, dict[str, bytes]] = {}
        others: list[Row] = []
        misfits: list[Misfit] = []
        last_type, by_id, first_parts = "", dict[str, bytes](), b""
        for row in rows:
            key_type, key_id, stored = row
            if key_type != last_type:
                if key_type is None:
                    others.append(row)
                    continue
                last_type, by_id = key_type, keys.setdefault(key_type, {})
                first_parts = company_part + name_part(key_type)
            try:
                if stored[0] == 1:
                    by_id[key_id] = decrypt(stored[NONCE], stored[TEXT], first_parts + key_id.encode())
                    continue
            except (InvalidTag, ValueError, IndexError):
                pass  # `open_value` tries the data key that the company has now.
            try:
                by_id[key_id] = open_value(key_type, key_id, stored)
            except CorruptValue as error:
                misfits.append(((key_type, key_id), error))
        return keys, others, misfits

    def seal(self, company: str, values: Sequence[tuple[str, str, bytes]], compared: Collection[Name]) -> SealedWrite:
        """Return the stored forms of values `(key_type, key_id, value)`; creds have an empty type and id.

        Those that are `compared` keep their stored form if it has the same value already.
        """
        key = self.keys.for_writing(company)
        if key is None:
            return SealedWrite([encode(value) for *_, value in values], None, False)
        former = self._queries.stored_values(company, [*compared]) if compared else {}
        opened = self._opened(company, former)
        stored, resealed = [], []
        for key_type, key_id, value in values:
            name = (key_type, key_id)
            if key_type in UNSEALED_TYPES:
                stored.append(encode(value))
                continue
            if opened.get(name) == value:
                if key_id_of(former[name]) == key.id and former[name][:1] == SEALED:
                    stored.append(former[name])
                    continue
                resealed.append(Reseal(name, former[name], key.seal(value, full_name(company, *name))))
                stored.append(resealed[-1].sealed)
                continue
            stored.append(key.seal(value, full_name(company, key_type, key_id)))
        if resealed:
            # The same values in another form: nothing that a lease or an undone write would have to protect.
            self._queries.reseal(company, key.id, resealed)
        new_creds = next((value for *name, value in values if tuple(name) == CREDS), None)
        old_creds = opened.get(CREDS)
        is_other = new_creds is not None and old_creds is not None and is_other_identity(old_creds, new_creds)
        return SealedWrite(stored, key.id, is_other)

    def moved(self, company: str, before: Name, after: Name, stored: bytes) -> bytes | None:
        """Return the stored form of a value that gets another name; None if it is plain and stays as it is."""
        if stored[:1] == PLAIN:
            return None
        value = self.opener(company)(*before, stored)
        return self.seal(company, [(*after, value)], ()).stored[0]

    def _opened(self, company: str, stored: dict[Name, bytes]) -> dict[Name, bytes]:
        """Return the values of those stored forms that open."""
        open_value = self.opener(company)
        values = {}
        for name, form in stored.items():
            try:
                values[name] = open_value(*name, form)
            except CorruptValue:
                continue
        return values
