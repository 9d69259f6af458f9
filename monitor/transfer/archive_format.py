"""The archive: one file of JSON lines. It preserves each value byte for byte, and the times of each key.

    {"format":"signal-keystore-archive","version":1,"company":"962302","creds":true,"keys":665,"exported_at":"…"}
    {"creds":{…}}
    {"type":"pre-key","id":"121","value":{…},"created_at":"…","updated_at":"…","expires_at":"…"}

A value is written as JSON if that gives the same bytes again, otherwise as `value_base64` (`creds_base64`). The field
`expires_at` is `"never"` for a key that never expires, and `null` for a key that has no expiry yet. The header says
whether creds follow, and how many keys, so that missing lines are noticed. Restored keys keep their times, so the next
sweep deletes those that have expired since, unless a guard keeps them.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from keystore import ids
from keystore.errors import InvalidInput, StoreUnavailable
from keystore.records import KeyRow
from keystore.store import Store
from keystore.values.fitting import fitted
from monitor.transfer.export_staging import require_parent, write_private
from monitor.transfer.state import CREDS, CompanyState, Name, Progress, Skipped, StateEntry, by_name, label

FORMAT = "signal-keystore-archive"
VERSION = 1

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Limit of a line's length. The largest value, 16 MiB, takes 22 MiB in base64; its names and times come on top."""

SNAPSHOT_TRIES = 10
"""Number of attempts to read the state twice with the same result.

The two reads take a few milliseconds, and differ only if a bot writes between them.
"""

_BEGINNING = f'{{"format":"{FORMAT}"'.encode()

NEVER = "never"
STAGED_FILE = "archive"


@dataclass(frozen=True)
class ArchiveFile:
    """An archive at `path`, with the same methods as `BaileysFolder`."""

    path: Path
    read_as = "archive"

    def read(self, progress: Progress | None) -> CompanyState:
        """Read the archive. Raises InvalidInput if the file can't be read, or has no archive's header."""
        try:
            with self.path.open("rb") as file:
                return _parsed(self.path, iter(lambda: file.readline(MAX_LINE_BYTES), b""), progress)
        except FileNotFoundError:
            raise InvalidInput(f"{self.path} doesn't exist; name an archive that `export` wrote") from None
        except OSError as error:
            raise InvalidInput(f"{self.path} can't be read: {error.strerror}") from error

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Restore the keys with their times, and delete the removed ones, in one write."""
        store.restore_rows(company, state.rows, state.creds, removed)

    def delete(self, entry: StateEntry) -> None:
        """Refuse to delete: an archive is a copy to keep."""
        raise InvalidInput("an archive is a copy to keep")

    def require_free(self, *, force: bool) -> None:
        """Raise InvalidInput unless the path is free or, with `force`, a file."""
        target = self.path
        if not target.name or target.is_dir():
            raise InvalidInput(f"{target} is a folder; name a file for the archive")
        if os.path.lexists(target) and not force:
            raise InvalidInput(f"{target} exists; name a new file, or replace it with --force")
        require_parent(target)

    def collect(self, store: Store, company: str) -> CompanyState:
        """Return the creds and keys as of one moment, each key with its times.

        Raises StoreUnavailable if a bot writes too often for a consistent copy.
        """
        for _ in range(SNAPSHOT_TRIES):
            values, rows = by_name(store.load(company)), [*map(ids.times_in_range, store.export_rows(company))]
            entries = {CREDS: StateEntry("creds", values.pop(CREDS))} if CREDS in values else {}
            if values == {(row.key_type, row.key_id): row.value for row in rows}:
                return CompanyState(company, entries | dict(map(_key_entry, rows)))
        raise StoreUnavailable(
            f"{company} in {store.database} changed {SNAPSHOT_TRIES} times while it was read; stop its bot and export "
            "again"
        )

    def write(self, folder: Path, state: CompanyState, exported_at: datetime, progress: Progress | None) -> None:
        """Write the archive as one file."""
        write_private(folder / STAGED_FILE, b"".join(_lines(state, exported_at, progress)))

    def verify(self, folder: Path, state: CompanyState) -> None:
        """Raise InvalidInput unless the file parses to the same state."""
        written = ArchiveFile(folder / STAGED_FILE).read(None)
        if (written.company, written.entries, written.skipped) != (state.company, state.entries, ()):
            raise InvalidInput(f"{self.path}: the archive reads back differently from what was written; check the disk")

    def put_in_place(self, folder: Path, *, force: bool) -> None:
        """Rename the file to the path, replacing a file that is there."""
        (folder / STAGED_FILE).replace(self.path)


def is_archive(path: Path) -> bool:
    """True if the file's first line is an archive's, whole or not. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def _key_entry(row: KeyRow) -> tuple[Name, StateEntry]:
    name = row.key_type, row.key_id
    return name, StateEntry(label(name), row.value, row)


def _lines(state: CompanyState, exported_at: datetime, progress: Progress | None) -> Iterator[bytes]:
    """The archive's lines, with their newlines."""
    rows = state.rows
    header = {
        "format": FORMAT,
        "version": VERSION,
        "company": state.company,
        "creds": state.creds is not None,
        "keys": len(rows),
        "exported_at": exported_at.isoformat(),
    }
    yield _compact(header) + b"\n"
    if state.creds is not None:
        yield _compact(_value_field("creds", state.creds)) + b"\n"
    for done, row in enumerate(rows, 1):
        line = {
            "type": row.key_type,
            "id": row.key_id,
            **_value_field("value", row.value),
            "created_at": row.created_at.isoformat(),
            "updated_at": row.updated_at.isoformat(),
            "expires_at": NEVER if row.never_expires else row.expires_at and row.expires_at.isoformat(),
        }
        yield _compact(line) + b"\n"
        if progress is not None:
            progress(done, len(rows))


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _value_field(name: str, value: bytes) -> dict[str, Any]:
    """The field of a line for a value: its JSON if the bytes are JSON in compact form, otherwise its base64."""
    with suppress(ValueError, RecursionError):
        document = json.loads(value.decode())
        if _compact(document) == value:
            return {name: document}
    return {f"{name}_base64": base64.b64encode(value).decode()}


def _parsed(path: Path, lines: Iterator[bytes], progress: Progress | None) -> CompanyState:
    """Parse an archive, and skip lines that can't be read. Raises InvalidInput if the first line is no header."""
    company, has_creds, total = _header(path, next(lines, b""))
    entries: dict[Name, StateEntry] = {}
    skipped: list[Skipped] = []
    for number, line_bytes in enumerate(lines, 2):
        try:
            if not line_bytes.endswith(b"\n"):
                raise InvalidInput("cut off, or too long")
            line = _document(line_bytes)
            if "creds" in line or "creds_base64" in line:
                entries[CREDS] = StateEntry("creds", ids.checked_value("creds", _value(line, "creds")))
            else:
                name, entry = _key_entry(_row(line))
                entries[name] = entry
        except InvalidInput as error:
            skipped.append((f"line {number}", str(error)))
        if progress is not None:
            progress(min(len(entries), total), total)
    if has_creds and CREDS not in entries:
        skipped.append(("creds", "the archive says that it has creds, but none could be read"))
    keys = len(entries.keys() - {CREDS})
    if keys != total:
        skipped.append(("archive", f"{keys} of its {total} keys could be read"))
    # A skipped line may hold any key, so the unreadable keys aren't known.
    unreadable = None if skipped else frozenset[Name]()
    return CompanyState(company, entries, tuple(skipped), unreadable, odd=tuple(_odd(entries)))


def _odd(entries: dict[Name, StateEntry]) -> Iterator[Skipped]:
    """The values that don't have their type's shape. An archive restores them as they are: they came from a store."""
    for name, entry in entries.items():
        try:
            fitted(name, entry.value)
        except InvalidInput as error:
            yield entry.label, str(error)


def _header(path: Path, line_bytes: bytes) -> tuple[str, bool, int]:
    """Return `(company, has_creds, keys)` of the header. Raises InvalidInput if this line isn't an archive's header."""
    try:
        line = _document(line_bytes)
    except InvalidInput:
        line = {}
    if line.get("format") != FORMAT:
        raise InvalidInput(f"{path} is neither an archive that `export` wrote nor a Baileys folder")
    if line.get("version") != VERSION:
        wrong_version = f"{path} is an archive of another version than {VERSION}"
        raise InvalidInput(f"{wrong_version}; import it with the release of this program that wrote it")
    company, creds, keys = line.get("company"), line.get("creds"), line.get("keys")
    if not isinstance(company, str) or not isinstance(creds, bool) or type(keys) is not int:
        raise InvalidInput(f"{path} is an archive with a broken first line: it needs company, creds and keys")
    return company, creds, keys


def _document(line_bytes: bytes) -> dict[str, Any]:
    """Return a line's JSON object. Raises InvalidInput, whose message doesn't quote the line."""
    with suppress(ValueError, RecursionError):  # The parser's error would quote the line.
        document = json.loads(line_bytes.decode())
        if isinstance(document, dict):
            return document
    raise InvalidInput("not a JSON object")


def _row(line: dict[str, Any]) -> KeyRow:
    """Return a line's key with its times. Raises InvalidInput with the name of the broken field."""
    key_type, key_id, expires_at = line.get("type"), line.get("id"), line.get("expires_at")
    if not isinstance(key_type, str) or not isinstance(key_id, str):
        raise InvalidInput("type or id is missing")
    value = _value(line, "value")
    ids.checked_writes({key_type: {key_id: value}})
    created_at, updated_at = _time(line, "created_at"), _time(line, "updated_at")
    expiry = None if expires_at in (None, NEVER) else _time(line, "expires_at")
    row = KeyRow(key_type, key_id, value, created_at, updated_at, expiry, expires_at == NEVER)
    ids.check_times(row)
    return row


def _value(line: dict[str, Any], name: str) -> bytes:
    """Return the bytes of a line's value. Raises InvalidInput, whose message doesn't quote the value."""
    problem = f"neither {name} nor valid base64 in {name}_base64"
    with suppress(ValueError, RecursionError):  # These errors would quote the value.
        if name in line:
            problem = f"{name}: this JSON can't be written back"
            return _compact(line[name])
        encoded = line.get(f"{name}_base64")
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    raise InvalidInput(problem)


def _time(line: dict[str, Any], name: str) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(line[name])
    raise InvalidInput(f"{name}: not a time")
