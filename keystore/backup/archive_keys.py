"""The keys of a sealed archive: each company's part has a data key, and a master key seals that and the checksum.

Sealed values stand in an archive as they stand in the database. A value that is plain there is sealed for the archive,
by the company's data key, or by a key that only the archive has. The seal of the checksum shows that somebody with the
master key wrote the whole archive, names and times too. `docs/sealing.md` describes it for other programs.
"""

import os
from collections.abc import Sequence

from keystore.backup.opening import missing_master
from keystore.errors import CorruptValue, InvalidInput
from keystore.sealing.data_keys import DATA_KEY, DataKeys
from keystore.sealing.sealed_form import SealingKey, full_name, key_id_of
from keystore.sealing.secret_keys import KEY_BYTES
from keystore.values.codec import SEALED, Opener, decode, name_in_words

ARCHIVE = "archive"
"""The type in the name under which a master key seals the checksum of an archive."""


class ArchiveKeys:
    """Master keys, newest first, that seal and open archives without a database."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        masters = [SealingKey(raw) for raw in master_keys]
        self._newest = masters[0]
        self._masters = {master.id: master for master in masters}

    @property
    def newest_id(self) -> str:
        """The id of the master key that seals new archives."""
        return self._newest.id.hex()

    def require(self, key_id: str) -> None:
        """Raise SecretKeyMissing unless the master key with this id is here."""
        if key_id not in {known.hex() for known in self._masters}:
            raise missing_master(key_id)

    def opener(self, company: str, sealed_key: bytes) -> Opener:
        """Return a function that opens the values of one company's part.

        Raises SecretKeyMissing if the part's data key was sealed by an unknown master key, and InvalidInput if it
        doesn't open.
        """
        self.require(key_id_of(sealed_key).hex())
        try:
            raw = self._masters[key_id_of(sealed_key)].open(sealed_key, full_name(company, DATA_KEY, ""))
        except CorruptValue:
            raise InvalidInput(f"{company}: its data key in the archive doesn't open") from None
        key = SealingKey(raw)
        return lambda key_type, key_id, sealed: key.open(sealed, full_name(company, key_type, key_id))

    def sealed_checksum(self, archive_id: str, checksum: bytes) -> bytes:
        """Return the seal of an archive: its checksum, sealed by the newest master key."""
        return self._newest.seal(checksum, full_name("", ARCHIVE, archive_id))

    def checksum(self, archive_id: str, seal: bytes) -> bytes:
        """Return the checksum in a seal. Raises CorruptValue if it is another archive's, or was changed."""
        master = self._masters.get(key_id_of(seal), self._newest)
        return master.open(seal, full_name("", ARCHIVE, archive_id))


class PartSealer:
    """Seals one company's values for an archive. `data_key` is the key that opens them, sealed by a master key."""

    def __init__(self, company: str, keys: DataKeys, stored_data_key: bytes | None) -> None:
        """Use the company's data key, which is read from the database, or a new one. Raises SecretKeyMissing."""
        self._company = company
        raw = os.urandom(KEY_BYTES) if stored_data_key is None else keys.opened(company, stored_data_key)
        self._key = SealingKey(raw)
        self.data_key = keys.sealed(company, raw)

    def sealed(self, key_type: str, key_id: str, stored: bytes) -> tuple[bytes, int]:
        """Return the sealed form of a value for the archive, and the length of the value. Raises CorruptValue."""
        name = full_name(self._company, key_type, key_id)
        if stored[:1] == SEALED:
            return stored, len(self._key.open(stored, name))
        value = decode(stored, name_in_words(self._company, key_type, key_id))
        return self._key.seal(value, name), len(value)
