"""A table of keys, as CSV or JSON lines: of mysql-baileys, Prisma adapters, Supabase tables, and our own old tables.

A row has a column for the key's name (`id` or `key`, with `pre-key-1` in it) or two for its type and id, one for the
value, and mostly one for the bot (`session`, `sessionId`, `device_id`). mysql-baileys writes a text as it is, so a
mapping looks like a number.
"""

from collections.abc import Iterable
from pathlib import Path

from keystore.errors import InvalidInput
from monitor.transfer.readers.columns import KEY_COLUMNS, VALUE_COLUMNS, column, values_in_columns
from monitor.transfer.readers.dump_file import DumpFile, StoredValue
from monitor.transfer.readers.text_files import Records, read_records


class TableDump(DumpFile):
    """CSV or JSON lines of a table of keys."""

    read_as = "table"
    describes = "a table as CSV or JSON lines (mysql-baileys, Prisma)"

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        if records is None or records.form != "rows":
            return False
        key, value = column(records.columns, KEY_COLUMNS), column(records.columns, VALUE_COLUMNS)
        return key is not None and value is not None

    def values(self) -> Iterable[StoredValue]:
        records = read_records(self.path)
        columns = records.columns
        key, value = column(columns, KEY_COLUMNS), column(columns, VALUE_COLUMNS)
        if records.form != "rows" or key is None or value is None:
            raise InvalidInput(f"{self.path} is no table of keys: it needs columns for a key's name and its value")
        return values_in_columns(records, columns, key, value)
