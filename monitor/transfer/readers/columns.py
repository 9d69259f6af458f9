"""The names that tables and documents give the columns for a bot, a key's name, its type and id, and its value."""

from collections.abc import Iterable, Iterator, Sequence, Set

from monitor.transfer.readers.dump_file import StoredValue, value_text
from monitor.transfer.readers.key_names import key_named, prefixes, split_name
from monitor.transfer.readers.text_files import Records
from monitor.transfer.state import CREDS

STATE_COLUMNS = (
    "session",
    "sessionid",
    "session_id",
    "sessionname",
    "session_name",
    "device_id",
    "deviceid",
    "company_id",
    "instance",
    "instanceid",
    "instance_id",
    "instancename",
    "bot_id",
    "botid",
    "account_id",
    "client_id",
    "user_id",
    "userid",
    "phone",
)
TYPE_COLUMNS = ("key_type", "keytype", "type", "category")
KEY_COLUMNS = ("key", "key_id", "keyid", "id", "_id", "name", "data_key", "field", "filename", "_key")
VALUE_COLUMNS = ("value", "data", "key_value", "keyvalue", "data_value", "val", "content", "creds", "json", "session")
"""In lower case, in order of preference."""


def column(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the column with the first of these names; None if there is none."""
    by_lower_case = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower_case[name] for name in wanted if name in by_lower_case), None)


def values_in_columns(records: Records, columns: Set[str], key: str, value: str) -> Iterator[StoredValue]:
    """Yield the values of rows with these columns, of which two hold the key's name, or its id, and the value."""
    others = columns - {key, value}
    state, key_type = column(others, STATE_COLUMNS), column(others, TYPE_COLUMNS)
    if key_type is not None:
        return _typed_values(records, state, key_type, key, value)
    return _stored_values(records, state, key, value)


def _stored_values(records: Records, state: str | None, key: str, value: str) -> Iterator[StoredValue]:
    """Yield the values of rows with a column for the key's name."""
    names = [str(row.get(key, "")) for row in records.rows]
    before = prefixes(names)
    for row, name in zip(records.rows, names, strict=True):
        prefix, key_name = split_name(name, before)
        yield StoredValue(str(row.get(state, "")) if state else prefix, name, key_name, value_text(row.get(value)))
    yield from unreadable(records)


def _typed_values(records: Records, state: str | None, key_type: str, key: str, value: str) -> Iterator[StoredValue]:
    """Yield the values of rows with columns for the key's type and its id."""
    for row in records.rows:
        kind, key_id = str(row.get(key_type, "")), str(row.get(key, ""))
        label = f"{kind}-{key_id}" if key_id else kind
        name = CREDS if kind == "creds" else key_named(label)
        yield StoredValue(str(row.get(state, "")) if state else "", label, name, value_text(row.get(value)))
    yield from unreadable(records)


def unreadable(records: Records) -> Iterator[StoredValue]:
    """Yield the lines that hold no row: each may be any key of any bot."""
    return (StoredValue("", line, None, reason=reason) for line, reason in records.unreadable)
