"""The archive: one file of JSON lines. It preserves each value byte for byte, and the times of each key.

    {"format":"signal-keystore-archive","version":1,"company":"962302","creds":true,"keys":665,"exported_at":"…"}
    {"creds":{…}}
    {"type":"pre-key","id":"121","value":{…},"created_at":"…","updated_at":"…","expires_at":"…"}

A value is written as JSON if that gives the same bytes again, otherwise as `value_base64` (`creds_base64`). The field
`expires_at` is `"never"` for a key that never expires, and `null` for a key that has no expiry yet. The header says
whether creds follow, and how many keys, so that missing lines are noticed. Restored keys keep their times, so the next
sweep deletes those that have expired since, unless a guard keeps them.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from keystore import ids
from keystore.errors import InvalidInput, StoreUnavailable
from keystore.store import Store
from keystore.values.fitting import fitted
from monitor.transfer.archive_lines import (
    MAX_LINE_BYTES,
    creds_entry,
    creds_line,
    document_of,
    key_entry,
    key_line,
    line_of,
    read_key,
)
from monitor.transfer.export_staging import require_parent, write_private
from monitor.transfer.state import CREDS, CompanyState, Name, Progress, Skipped, StateEntry, by_name

FORMAT = "signal-keystore-archive"
VERSION = 1

SNAPSHOT_TRIES = 10
"""Number of attempts to read the state twice with the same result.

The two reads take a few milliseconds, and differ only if a bot writes between them.
"""

_BEGINNING = f'{{"format":"{FORMAT}"'.encode()

STAGED_FILE = "archive"


@contextmanager
def opened_archive(path: Path) -> Iterator[BinaryIO]:
    """Open an archive to read it in the block. Raises InvalidInput if it can't be read."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise InvalidInput(f"{path} doesn't exist; name an archive that `export` wrote") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error


class ArchiveSource:
    """An archive as a source to import: how its state is stored, whichever form it has."""

    read_as = "archive"

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Restore the keys with their times, and delete the removed ones, in one write."""
        store.restore_rows(company, state.rows, state.creds, removed)

    def delete(self, entry: StateEntry) -> None:
        """Refuse to delete: an archive is a copy to keep."""
        raise InvalidInput("an archive is a copy to keep")


@dataclass(frozen=True)
class ArchiveFile(ArchiveSource):
    """An archive at `path`, with the same methods as `BaileysFolder`."""

    path: Path

    def read(self, progress: Progress | None) -> CompanyState:
        """Read the archive. Raises InvalidInput if the file can't be read, or has no archive's header."""
        with opened_archive(self.path) as file:
            return _parsed(self.path, iter(lambda: file.readline(MAX_LINE_BYTES), b""), progress)

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
                return CompanyState(company, entries | dict(map(key_entry, rows)))
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
    yield line_of(header)
    if state.creds is not None:
        yield creds_line(state.creds)
    for done, row in enumerate(rows, 1):
        yield key_line(row)
        if progress is not None:
            progress(done, len(rows))


def _parsed(path: Path, lines: Iterator[bytes], progress: Progress | None) -> CompanyState:
    """Parse an archive, and skip lines that can't be read. Raises InvalidInput if the first line is no header."""
    company, has_creds, total = _header(path, next(lines, b""))
    entries: dict[Name, StateEntry] = {}
    skipped: list[Skipped] = []
    for number, line_bytes in enumerate(lines, 2):
        try:
            if not line_bytes.endswith(b"\n"):
                raise InvalidInput("cut off, or too long")
            line = document_of(line_bytes)
            if "creds" in line or "creds_base64" in line:
                entries[CREDS] = creds_entry(line)
            else:
                name, entry = key_entry(read_key(line))
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
        line = document_of(line_bytes)
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
