"""What is written in our archive: JSON lines that hold every value to the byte, and every time.

    {"format":"signal-keystore-archive","version":1,"company":"962302","creds":true,"keys":665,"exported_at":"…"}
    {"creds":{…}}
    {"type":"pre-key","id":"121","value":{…},"created_at":"…","updated_at":"…","expires_at":"…"}

A value stands as JSON where that gives the same bytes again, otherwise as `value_base64` (`creds_base64`). A key that
never expires says `"expires_at":"never"`, one without expiry `null`. The header's counts tell when lines are missing.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import KeyRow
from monitor.transfer.report import Name, Progress

FORMAT = "signal-keystore-archive"
VERSION = 1

MAX_LINE_BYTES = 32 * 1024 * 1024
"""A value of 16 MiB in base64, and its names and times around it."""

NEVER = "never"


@dataclass(frozen=True)
class Archive:
    """What an archive says and what of it could be read."""

    company: str
    creds: bytes | None = field(repr=False)
    rows: dict[Name, KeyRow] = field(repr=False)
    skipped: tuple[tuple[str, str], ...]


# Writing.


def archive_lines(
    company: str, now: datetime, creds: bytes | None, rows: list[KeyRow], progress: Progress | None
) -> Iterator[bytes]:
    """An archive's lines, their newlines included."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "company": company,
        "creds": creds is not None,
        "keys": len(rows),
        "exported_at": now.isoformat(),
    }
    yield _line(header)
    if creds is not None:
        yield _line(_value("creds", creds))
    for done, row in enumerate(rows, 1):
        expires_at = row.expires_at and row.expires_at.isoformat()
        yield _line(
            {
                "type": row.key_type,
                "id": row.key_id,
                **_value("value", row.value),
                "created_at": row.created_at.isoformat(),
                "updated_at": row.updated_at.isoformat(),
                "expires_at": NEVER if row.never_expires else expires_at,
            }
        )
        if progress is not None:
            progress(done, len(rows))


def _line(document: dict[str, Any]) -> bytes:
    return _compact(document) + b"\n"


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _value(name: str, value: bytes) -> dict[str, Any]:
    """A value under its name as JSON, where its bytes are that JSON's compact form, otherwise as base64."""
    try:
        document = json.loads(value.decode())
        if _compact(document) == value:
            return {name: document}
    except (ValueError, RecursionError):
        pass  # Not JSON: base64 then.
    return {f"{name}_base64": base64.b64encode(value).decode()}


# Reading.


def parsed_archive(path: Path, file: BinaryIO, progress: Progress | None) -> Archive:
    """What of an archive can be read. Raises InvalidInput where its first line says that it is none."""
    header = _header(path, file.readline(MAX_LINE_BYTES))
    rows: dict[Name, KeyRow] = {}
    creds: bytes | None = None
    skipped: list[tuple[str, str]] = []
    for number, text in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 2):
        try:
            if not text.endswith(b"\n"):
                raise InvalidInput("cut off, or too long")
            line = _document(text)
            if "creds" in line or "creds_base64" in line:
                creds = ids.checked_value("creds", _value_of("creds", line))
            else:
                row = _row(line)
                rows[row.key_type, row.key_id] = row
        except InvalidInput as error:
            skipped.append((f"line {number}", str(error)))
        if progress is not None:
            progress(min(len(rows), header.keys), header.keys)
    if header.creds and creds is None:
        skipped.append(("creds", "the archive says that it has creds, and none could be read"))
    if len(rows) != header.keys:
        skipped.append(("archive", f"{len(rows)} of its {header.keys} keys could be read"))
    return Archive(header.company, creds, rows, tuple(skipped))


@dataclass(frozen=True)
class _Header:
    company: str
    creds: bool
    keys: int


def _header(path: Path, text: bytes) -> _Header:
    """What the first line says. Raises InvalidInput where it isn't an archive's."""
    try:
        line = _document(text)
    except InvalidInput:
        line = {}
    if line.get("format") != FORMAT:
        raise InvalidInput(f"{path} is neither an archive that `export` wrote nor a Baileys folder")
    if line.get("version") != VERSION:
        raise InvalidInput(
            f"{path} is an archive of another version than {VERSION}; read it with the program of its time"
        )
    company, creds, keys = line.get("company"), line.get("creds"), line.get("keys")
    if not isinstance(company, str) or not isinstance(creds, bool) or type(keys) is not int:
        raise InvalidInput(f"{path} is an archive with a broken first line: no company, creds and keys in it")
    return _Header(company, creds, keys)


def _document(text: bytes) -> dict[str, Any]:
    """A line's JSON object. Raises InvalidInput without quoting it."""
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError):
        document = None  # The parser's error carries the line.
    if not isinstance(document, dict):
        raise InvalidInput("not a JSON object")
    return document


def _row(line: dict[str, Any]) -> KeyRow:
    """A key and its times. Raises InvalidInput that names the field."""
    key_type, key_id, expires_at = line.get("type"), line.get("id"), line.get("expires_at")
    if not isinstance(key_type, str) or not isinstance(key_id, str):
        raise InvalidInput("no type and id")
    value = _value_of("value", line)
    ids.checked_writes({key_type: {key_id: value}})
    never = expires_at == NEVER
    return KeyRow(
        key_type,
        key_id,
        value,
        _time("created_at", line.get("created_at")),
        _time("updated_at", line.get("updated_at")),
        None if never or expires_at is None else _time("expires_at", expires_at),
        never,
    )


def _value_of(name: str, line: dict[str, Any]) -> bytes:
    if name in line:
        return _compact_again(name, line[name])
    encoded = line.get(f"{name}_base64")
    try:
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        encoded = None
    raise InvalidInput(f"no {name}, and no {name}_base64 that is base64")


def _compact_again(name: str, document: object) -> bytes:
    try:
        return _compact(document)
    except (ValueError, RecursionError):
        document = None
    raise InvalidInput(f"{name}: not JSON that has a compact form")


def _time(name: str, text: object) -> datetime:
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidInput(f"{name}: no time with a time zone")
    return time
