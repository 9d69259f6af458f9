"""Documents that mongoexport wrote: JSON lines or an array, with MongoDB's extended JSON.

A document's `_id` is the key's name (mongo-baileys and most others), and the value is the rest of it; or it has fields
for the name and the value, as a mongoose model does. A value is a document or JSON in a string.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from keystore.errors import InvalidInput
from monitor.transfer.readers.columns import (
    KEY_COLUMNS,
    STATE_COLUMNS,
    VALUE_COLUMNS,
    column,
    unreadable,
    values_in_columns,
)
from monitor.transfer.readers.dump_file import DumpFile, StoredValue, value_text
from monitor.transfer.readers.key_names import prefixes, split_name
from monitor.transfer.readers.text_files import Records, read_records

NO_VALUE = ("_id", "__v")
"""The fields of a document that are no part of its value. In the second one mongoose counts versions."""


class MongoDump(DumpFile):
    """Documents of a MongoDB collection."""

    read_as = "mongo"
    describes = "mongoexport (mongo-baileys, mongoose models)"

    @classmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        return records is not None and records.form == "rows" and "_id" in records.columns

    def values(self) -> Iterable[StoredValue]:
        records = read_records(self.path)
        if records.form == "object":
            records = Records("rows", records.rows)
        if not self.recognizes(self.path, records):
            raise InvalidInput(f"{self.path} has no documents of MongoDB: they have an _id")
        before = prefixes(str(row.get("_id")) for row in records.rows)
        if any(split_name(str(row.get("_id")), before)[1] is not None for row in records.rows):
            return chain((_named_by_id(row, before) for row in records.rows), unreadable(records))
        return self._with_fields(records)

    def _with_fields(self, records: Records) -> Iterable[StoredValue]:
        """The values of documents that have fields for the key's name and the value."""
        columns = records.columns - set(NO_VALUE)
        key, value = column(columns, KEY_COLUMNS), column(columns, VALUE_COLUMNS)
        if key is None or value is None:
            raise InvalidInput(f"{self.path} has documents without a field for the key's name and one for its value")
        return values_in_columns(records, columns, key, value)


def _named_by_id(document: dict[str, Any], before: Sequence[str]) -> StoredValue:
    """The value of a document whose `_id` is the key's name: its only field with a value's name, or all of them."""
    bot, name = split_name(str(document.get("_id")), before)
    rest = {field: part for field, part in document.items() if field not in NO_VALUE}
    state = column(rest, STATE_COLUMNS)
    value = column(rest, VALUE_COLUMNS)
    if value is not None and rest.keys() - {state} <= {value}:
        bot = str(rest[state]) if state is not None and state != value else bot
        return StoredValue(bot, str(document["_id"]), name, value_text(rest[value]))
    return StoredValue(bot, str(document.get("_id")), name, value_text(rest))
