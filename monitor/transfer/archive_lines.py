"""The lines of an archive: a company's creds and its keys with their times, each a JSON object, written and read.

A value is written as JSON if that gives the same bytes again, otherwise as `value_base64` (`creds_base64`). In a sealed
archive it is the base64 of its sealed form, as `value_sealed` (`creds_sealed`).
"""

import base64
import json
from contextlib import suppress
from datetime import datetime
from typing import Any

from keystore import ids
from keystore.errors import CorruptValue, InvalidInput
from keystore.records import KeyRow
from keystore.values.codec import Opener
from monitor.transfer.state import CREDS, Name, StateEntry, label

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Limit of a line's length. The largest value, 16 MiB, takes 22 MiB in base64; its names and times come on top."""

NEVER = "never"
"""The expiry of a key that never expires."""


def line_of(document: object) -> bytes:
    """Return a document as a line."""
    return _compact(document) + b"\n"


def creds_line(creds: bytes, *, sealed: bool = False) -> bytes:
    """Return the line of the creds."""
    return line_of(_value_field("creds", creds, sealed=sealed))


def key_line(row: KeyRow, *, sealed: bool = False) -> bytes:
    """Return the line of a key."""
    return line_of(
        {
            "type": row.key_type,
            "id": row.key_id,
            **_value_field("value", row.value, sealed=sealed),
            "created_at": row.created_at.isoformat(),
            "updated_at": row.updated_at.isoformat(),
            "expires_at": NEVER if row.never_expires else row.expires_at and row.expires_at.isoformat(),
        }
    )


def document_of(line_bytes: bytes) -> dict[str, Any]:
    """Return a line's JSON object. Raises InvalidInput, whose message doesn't quote the line."""
    with suppress(ValueError, RecursionError):  # The parser's error would quote the line.
        document = json.loads(line_bytes.decode())
        if isinstance(document, dict):
            return document
    raise InvalidInput("not a JSON object")


def creds_entry(line: dict[str, Any], open_value: Opener | None = None) -> StateEntry:
    """Return the creds of a line. `open_value` opens them in a sealed archive. Raises InvalidInput."""
    return StateEntry("creds", ids.checked_value("creds", _value(line, "creds", CREDS, open_value)))


def key_entry(row: KeyRow) -> tuple[Name, StateEntry]:
    """Return a key's name, and the key."""
    name = row.key_type, row.key_id
    return name, StateEntry(label(name), row.value, row)


def read_key(line: dict[str, Any], open_value: Opener | None = None) -> KeyRow:
    """Return a line's key with its times. Raises InvalidInput with the name of the broken field."""
    key_type, key_id, expires_at = line.get("type"), line.get("id"), line.get("expires_at")
    if not isinstance(key_type, str) or not isinstance(key_id, str):
        raise InvalidInput("type or id is missing")
    value = _value(line, "value", (key_type, key_id), open_value)
    ids.checked_writes({key_type: {key_id: value}})
    created_at, updated_at = time_of(line, "created_at"), time_of(line, "updated_at")
    expiry = None if expires_at in (None, NEVER) else time_of(line, "expires_at")
    row = KeyRow(key_type, key_id, value, created_at, updated_at, expiry, expires_at == NEVER)
    ids.check_times(row)
    return row


def base64_of(line: dict[str, Any], name: str) -> bytes:
    """Return the bytes of a field in base64. Raises InvalidInput, whose message doesn't quote them."""
    with suppress(KeyError, TypeError, ValueError):
        return base64.b64decode(line[name], validate=True)
    raise InvalidInput(f"{name}: not valid base64")


def time_of(line: dict[str, Any], name: str) -> datetime:
    """Return the time in a field. Raises InvalidInput."""
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line[name])
    raise InvalidInput(f"{name}: not a time")


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _value_field(name: str, value: bytes, *, sealed: bool) -> dict[str, Any]:
    """The field of a line for a value: its sealed form, its JSON if that is compact, or its base64."""
    if sealed:
        return {f"{name}_sealed": base64.b64encode(value).decode()}
    with suppress(ValueError, RecursionError):
        document = json.loads(value.decode())
        if _compact(document) == value:
            return {name: document}
    return {f"{name}_base64": base64.b64encode(value).decode()}


def _value(line: dict[str, Any], field: str, name: Name, open_value: Opener | None) -> bytes:
    """Return the bytes of a line's value. Raises InvalidInput, whose message doesn't quote the value."""
    if open_value is not None:
        try:
            return open_value(*name, base64_of(line, f"{field}_sealed"))
        except CorruptValue as error:
            raise InvalidInput(f"{label(name)}: {error}") from None
    problem = f"neither {field} nor valid base64 in {field}_base64"
    with suppress(ValueError, RecursionError):  # These errors would quote the value.
        if field in line:
            problem = f"{field}: this JSON can't be written back"
            return _compact(line[field])
        encoded = line.get(f"{field}_base64")
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    raise InvalidInput(problem)
