"""The keys of a store: master keys from the settings, and a data key for each company from the database.

A data key is made when a company's first value is sealed. It stands in the database, sealed by the newest master key.
So a rotation of master keys changes one row for each company, and no value.
"""

import os
import threading
from collections.abc import Mapping, Sequence

from keystore.errors import CorruptValue, SecretKeyMissing
from keystore.sealing.queries import SealingQueries
from keystore.sealing.sealed_form import SealingKey, full_name, key_id_of
from keystore.sealing.secret_keys import KEY_BYTES, require_masters

DATA_KEY, CANARY = "data key", "canary"
"""Types in the names under which a master key seals a company's data key, and the canary of company ''."""

CANARY_TEXT = b"Signal Keystore"

MOST_COMPANIES = 20_000
"""Limit of data keys held at a time; the oldest goes first, and is read again when it is needed."""


class DataKeys:
    """The master keys, and the companies' data keys; thread-safe."""

    def __init__(self, queries: SealingQueries, master_keys: Sequence[bytes], canaries: Mapping[bytes, bytes]) -> None:
        """`master_keys` are raw, newest first, and `canaries` those in the database by the id of their master key.

        Raises SecretKeyMissing unless every canary opens.
        """
        self._queries = queries
        masters = [SealingKey(raw) for raw in master_keys]
        self.newest = masters[0]
        self._masters = {master.id: master for master in masters}
        self._held: dict[str, SealingKey] = {}
        self._lock = threading.Lock()
        self._check(canaries)
        self._has_canary = self.newest.id in canaries

    def _check(self, canaries: Mapping[bytes, bytes]) -> None:
        """Raise SecretKeyMissing for a canary that doesn't open."""
        require_masters(canaries, self._masters)
        for key_id, canary in canaries.items():
            try:
                self._masters[key_id].open(canary, full_name("", CANARY, ""))
            except CorruptValue:
                raise SecretKeyMissing(
                    f"KEYSTORE_SECRET_KEYS: the key {key_id.hex()} doesn't open the text in keystore_master_keys "
                    "that it sealed; the table was changed, so restore it from a backup"
                ) from None

    def held(self, company: str) -> SealingKey | None:
        """Return the data key of a company if it was used before."""
        return self._held.get(company)

    def read(self, company: str) -> SealingKey | None:
        """Read the data key of a company from the database; None if it has none. Raises SecretKeyMissing."""
        rows = self._queries.run("data_key", company_id=company)
        if not rows:
            self.forget(company)
            return None
        key = SealingKey(self.opened(company, rows[0][1]))
        with self._lock:
            self._held[company] = key
            if len(self._held) > MOST_COMPANIES:
                del self._held[next(iter(self._held))]
        return key

    def for_writing(self, company: str) -> SealingKey | None:
        """Return the data key of a company, and make it if there is none.

        It is None for a company whose bot has a login of its own. That bot reads the table without us.
        """
        key = self.held(company) or self.read(company)
        if key is not None:
            return key
        self.require_canary()
        raw = os.urandom(KEY_BYTES)
        sealed = self.sealed(company, raw)
        self._queries.run("add_data_key", company_id=company, key_id=SealingKey(raw).id, sealed_key=sealed)
        return self.read(company)  # Another process may have been first.

    def require_canary(self) -> None:
        """Write the canary of the newest master key, unless there is one."""
        if not self._has_canary:
            canary = self.newest.seal(CANARY_TEXT, full_name("", CANARY, ""))
            self._queries.run("add_master_key", key_id=self.newest.id, canary=canary)
            self._has_canary = True

    def forget(self, company: str) -> None:
        """Drop the data key that is held: the company was purged."""
        with self._lock:
            self._held.pop(company, None)

    def sealed(self, company: str, raw: bytes) -> bytes:
        """Return a data key as it is stored, sealed by the newest master key."""
        return self.newest.seal(raw, full_name(company, DATA_KEY, ""))

    def opened(self, company: str, sealed: bytes) -> bytes:
        """Return a data key that was read. Raises SecretKeyMissing."""
        master = self._masters.get(key_id_of(sealed))
        if master is None:
            raise SecretKeyMissing(
                f"{company}: its data key is sealed by the master key {key_id_of(sealed).hex()}, which isn't in "
                "KEYSTORE_SECRET_KEYS; add it"
            )
        try:
            return master.open(sealed, full_name(company, DATA_KEY, ""))
        except CorruptValue:
            raise SecretKeyMissing(
                f"{company}: its data key doesn't open; its row in keystore_data_keys was changed or is another "
                "company's, so restore that row from a backup"
            ) from None
