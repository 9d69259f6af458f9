"""Rows of the table `Session` of Evolution API: the creds of each instance, as JSON in a JSON string.

Evolution has the keys elsewhere: in a folder `instances/<id>` as Baileys names files, or in a Redis hash. Import both,
in either order: creds are added to keys that came alone, and keys to creds.
"""

from collections.abc import Iterable
from pathlib import Path

from keystore.errors import InvalidInput
from monitor.transfer.readers.columns import unreadable
from monitor.transfer.readers.dump_file import DumpFile, StoredValue, value_text
from monitor.transfer.readers.text_files import Records, read_records
from monitor.transfer.state import CREDS


class EvolutionSessions(DumpFile):
    """CSV or JSON of Evolution API's `Session` rows."""

    read_as = "evolution"
    describes = "creds in Evolution API's table Session, as CSV or JSON"

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        return records is not None and {"sessionId", "creds"} <= records.columns

    def values(self) -> Iterable[StoredValue]:
        records = read_records(self.path)
        if not self.recognizes(self.path, records):
            raise InvalidInput(f"{self.path} has no Session rows of Evolution API: it needs sessionId and creds")
        for row in records.rows:
            instance = str(row.get("sessionId"))
            if row.get("creds") not in (None, "", "NULL", "\\N"):
                yield StoredValue(instance, f"creds of {instance}", CREDS, value_text(row["creds"]))
        yield from unreadable(records)
