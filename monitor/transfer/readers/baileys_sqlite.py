"""The database file of Baileys' `useSqliteAuthState`: the tables `creds` and `signal_keys`."""

from collections.abc import Iterable
from pathlib import Path

from keystore.errors import InvalidInput
from keystore.sqlite.auth_state_file import has_auth_state, is_sqlite_file, read_auth_state
from monitor.transfer.readers.dump_file import DumpFile, StoredValue
from monitor.transfer.readers.key_names import key_named
from monitor.transfer.readers.text_files import Records
from monitor.transfer.state import CREDS


class BaileysSqlite(DumpFile):
    """A file of `useSqliteAuthState`."""

    read_as = "sqlite"
    describes = "the file of useSqliteAuthState"

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        return records is None and is_sqlite_file(path) and has_auth_state(path)

    def values(self) -> Iterable[StoredValue]:
        if not self.recognizes(self.path, None):
            raise InvalidInput(f"{self.path} is no file of useSqliteAuthState: it has no tables creds and signal_keys")
        creds, keys = read_auth_state(self.path)
        if creds is not None:
            yield StoredValue("", "creds", CREDS, creds)
        for key_type, key_id, text in keys:
            label = f"{key_type}-{key_id}"
            known = key_named(label) is not None
            yield StoredValue("", label, (key_type, key_id) if known else None, text)
