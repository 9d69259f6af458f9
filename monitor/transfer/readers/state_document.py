"""One JSON document with a whole state: `{"creds": …, "keys": {type: {id: value}}}`.

`useSingleFileAuthState` of older Baileys wrote such files, with names of its own for the types. So do some adapters.
"""

from collections.abc import Iterable
from pathlib import Path

from keystore.errors import InvalidInput
from monitor.transfer.readers.dump_file import DumpFile, StoredValue, value_text
from monitor.transfer.readers.key_names import key_named
from monitor.transfer.readers.text_files import Records, read_records
from monitor.transfer.state import CREDS

TYPES = {
    "preKeys": "pre-key",
    "sessions": "session",
    "senderKeys": "sender-key",
    "appStateSyncKeys": "app-state-sync-key",
    "appStateVersions": "app-state-sync-version",
    "senderKeyMemory": "sender-key-memory",
}
"""The names of types in `useSingleFileAuthState`."""


class StateDocument(DumpFile):
    """A JSON document with creds and keys."""

    read_as = "document"
    describes = 'JSON with "creds" and "keys" (useSingleFileAuthState)'

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        if records is None or records.form != "object":
            return False
        document = records.rows[0]
        return "creds" in document and isinstance(document.get("keys"), dict)

    def values(self) -> Iterable[StoredValue]:
        records = read_records(self.path)
        if not self.recognizes(self.path, records):
            raise InvalidInput(f"{self.path} is no JSON document with creds and keys")
        document = records.rows[0]
        yield StoredValue("", "creds", CREDS, value_text(document["creds"]))
        for kind, by_id in document["keys"].items():
            for key_id, value in by_id.items() if isinstance(by_id, dict) else ():
                name = (TYPES.get(kind, kind), key_id)
                label = "-".join(name)
                yield StoredValue("", label, name if key_named(label) is not None else None, value_text(value))
