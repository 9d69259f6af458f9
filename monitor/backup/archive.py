"""Reads a backup: its checksums first, all of them, and then one company at a time.

Nothing of an archive is used before the whole file was found to be what was written. A part is compared with its
checksum once more when it is read, in case the disk returns something else the second time.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from keystore import ids
from keystore.backup.opening import missing_master
from keystore.errors import CorruptValue, InvalidInput
from keystore.records import TokenRecord
from keystore.values.codec import Opener
from monitor.backup.manifest import VERSION, End, Header, Part, totals
from monitor.backup.token_lines import read_token
from monitor.transfer.archive_format import FORMAT, ArchiveSource, opened_archive
from monitor.transfer.archive_lines import (
    MAX_LINE_BYTES,
    base64_of,
    creds_entry,
    document_of,
    key_entry,
    read_key,
)
from monitor.transfer.state import CREDS, CompanyState, Name, Progress, StateEntry

if TYPE_CHECKING:
    from keystore.backup.archive_keys import ArchiveKeys

TAIL_BYTES = 64 * 1024
"""Bytes at the end of a file among which its last line is looked for. It takes some 500."""

_BEGINNING = f'{{"format":"{FORMAT}","version":{VERSION},'.encode()
_LAST_LINE = b'{"archive":"'


@dataclass(frozen=True)
class Backup:
    """An archive of several companies whose checksums are right."""

    path: Path
    header: Header
    parts: tuple[Part, ...]
    end: End
    keys: "ArchiveKeys | None"

    @property
    def sealed(self) -> bool:
        """True if its values are sealed."""
        return self.header.master_key is not None

    @property
    def companies(self) -> tuple[Part, ...]:
        """The parts that hold a company each."""
        return tuple(part for part in self.parts if part.part is not None)

    def part_of(self, company: str) -> Part:
        """Return the part of a company. Raises InvalidInput if there is none."""
        for part in self.companies:
            if part.part == company:
                return part
        raise InvalidInput(f"{self.path} has no company {company}; it has {len(self.companies)} others")

    def state(self, part: Part) -> CompanyState:
        """Return a company's creds and keys. Raises InvalidInput if the part isn't what the manifest says."""
        with opened_archive(self.path) as file:
            return _company_state(self.path, part, _content(self.path, file, part), self.keys)

    def tokens(self) -> list[TokenRecord]:
        """Return the tokens of the API. Raises InvalidInput."""
        with opened_archive(self.path) as file:
            return [
                token
                for part in self.parts
                if part.part is None
                for token in _tokens(self.path, part, _content(self.path, file, part))
            ]


@dataclass(frozen=True)
class BackupPart(ArchiveSource):
    """A company of a backup as a source to import, with the same methods as `BaileysFolder`."""

    backup: Backup
    part: Part

    @property
    def path(self) -> Path:
        """The archive's file."""
        return self.backup.path

    def read(self, progress: Progress | None) -> CompanyState:
        """Return the company's state."""
        state = self.backup.state(self.part)
        if progress is not None:
            progress(self.part.keys, self.part.keys)
        return state


def is_backup(path: Path) -> bool:
    """True if a file begins or ends as a backup does: its first or its last line may be damaged."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(len(_BEGINNING))
        last = _tail(file).rstrip(b"\n").rpartition(b"\n")[2]
    return first == _BEGINNING or (last.startswith(_LAST_LINE) and b'"manifest_at":' in last)


def checked_backup(path: Path, keys: "ArchiveKeys | None", progress: Progress | None = None) -> Backup:
    """Check all of a backup, and return it. It holds one company in memory at a time.

    The checksums come first, then the key, then each company is read. Raises InvalidInput, which says what is damaged
    and where, and SecretKeyMissing for a sealed backup without its key.
    """
    with opened_archive(path) as file:
        backup = _with_right_checksums(path, file)
        if backup.header.master_key is not None:
            backup = replace(backup, keys=_require_seal(backup, keys))
        for done, part in enumerate(backup.parts, 1):
            content = _content(path, file, part)
            if part.part is None:
                _tokens(path, part, content)
            else:
                _company_state(path, part, content, backup.keys)
            if progress is not None:
                progress(done, len(backup.parts))
        return backup


def _with_right_checksums(path: Path, file: BinaryIO) -> Backup:
    """Return a backup that is the file that was written, as far as checksums show it. Raises InvalidInput."""
    end = _end(path, file)
    header_line = _header_line(file)
    header = _header(path, header_line, end)
    moved_by = os.fstat(file.fileno()).st_size - len(end.line()) - end.length
    manifest_at = end.manifest_at + moved_by
    parts = tuple(_manifest(path, file, manifest_at, end.length + moved_by))
    ends = [part.offset + part.length for part in parts]
    if ends != [*(part.offset for part in parts[1:]), *[end.manifest_at][: len(parts)]]:
        raise _damaged(path, "its manifest was changed: the parts that it names don't follow each other")
    whole = sha256(header_line)
    at = len(header_line)
    for part in parts:
        file.seek(at)
        content = file.read(part.length) if part.length <= manifest_at - at else b""
        if part.offset != at or sha256(content).hexdigest() != part.sha256:
            raise _damaged(path, _not_there(part, at, content))
        whole.update(content)
        at += part.length
    if at != manifest_at or moved_by:
        raise _damaged(path, f"{abs(manifest_at - at):,} bytes before its manifest belong to no part")
    for part in parts:
        whole.update(part.line())
    if whole.hexdigest() != end.sha256:
        raise _damaged(path, "its first line or its manifest was changed: the checksum over the whole is another")
    doubled = len({part.part for part in parts}) < len(parts)
    if doubled or totals(parts) != {name: vars(end)[name] for name in totals(())}:
        raise _damaged(path, "its last line counts other companies or keys than its parts have")
    if (header.master_key is None) != (end.seal is None):
        raise _damaged(path, "its first line and its last line don't agree on a seal")
    return Backup(path, header, parts, end, None)


def _require_seal(backup: Backup, keys: "ArchiveKeys | None") -> "ArchiveKeys":
    """Return the keys if a holder of the master key wrote this archive. Raises SecretKeyMissing, InvalidInput."""
    end, master_key = backup.end, backup.header.master_key or ""
    if keys is None:
        raise missing_master(master_key)
    keys.require(master_key)
    try:
        checksum = keys.checksum(end.archive, base64_of(vars(end), "seal"))
    except (CorruptValue, InvalidInput):
        checksum = b""
    if checksum.hex() != end.sha256:
        raise _damaged(backup.path, "the seal in its last line doesn't open, or seals another checksum")
    return keys


def _tail(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    return file.read(TAIL_BYTES)


def _end(path: Path, file: BinaryIO) -> End:
    """Return the last line of a backup. Raises InvalidInput if it isn't whole, or isn't the last."""
    lines = _tail(file).splitlines(keepends=True)
    for after in range(len(lines)):
        try:
            end = End.read(lines[len(lines) - 1 - after])
        except InvalidInput:
            continue
        if after:
            behind = sum(map(len, lines[len(lines) - after :]))
            raise _damaged(path, f"{behind:,} bytes follow after its last line")
        return end
    size = file.seek(0, os.SEEK_END)
    raise _damaged(path, f"it is cut off after {size:,} bytes, or its last line was changed")


def _header_line(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.readline(TAIL_BYTES)


def _header(path: Path, line: bytes, end: End) -> Header:
    try:
        header = Header.read(line)
        header.moment  # noqa: B018
    except InvalidInput as error:
        raise _damaged(path, f"its first line was changed: {error}") from None
    if header.archive != end.archive:
        raise _damaged(path, f"its manifest is of another archive: {end.archive} in place of {header.archive}")
    return header


def _manifest(path: Path, file: BinaryIO, begin: int, end: int) -> Iterator[Part]:
    """Yield the parts that the manifest names. Raises InvalidInput at a line that isn't exactly a part's."""
    if begin < 0 or begin > end:
        raise _damaged(path, f"its manifest would begin at byte {begin:,} of {end:,}")
    file.seek(begin)
    at = begin
    while at < end:
        line = file.readline(min(TAIL_BYTES, end - at))
        try:
            part = Part.read(line)
        except InvalidInput as error:
            raise _damaged(path, f"its manifest at byte {at:,} was changed: {error}") from None
        if part.line() != line:
            raise _damaged(path, f"its manifest at byte {at:,} was changed")
        at += len(line)
        yield part


def _not_there(part: Part, at: int, content: bytes) -> str:
    """Say what stands at the place of a part."""
    place = f"bytes {at:,} to {at + part.length:,}, where {part.name} should be,"
    try:
        first = document_of(content.partition(b"\n")[0])
    except InvalidInput:
        return f"{place} were changed"
    company = first.get("company")
    if part.part is not None and isinstance(company, str) and ids.is_named(company) and company != part.part:
        return f"{place} begin with company {company}"
    return f"{place} were changed"


def _damaged(path: Path, problem: str) -> InvalidInput:
    return InvalidInput(f"{path} is damaged, and nothing was changed: {problem}. Take another backup")


def _content(path: Path, file: BinaryIO, part: Part) -> bytes:
    """Return the bytes of a part. Raises InvalidInput if they aren't those of the check."""
    file.seek(part.offset)
    content = file.read(part.length)
    if sha256(content).hexdigest() != part.sha256:
        raise InvalidInput(f"{path}: {part.name} reads differently from a moment ago; check the disk")
    return content


def _company_state(path: Path, part: Part, content: bytes, keys: "ArchiveKeys | None") -> CompanyState:
    """Return the state in a part. Raises InvalidInput if it isn't what the manifest counts."""
    first, *lines = content.split(b"\n")
    entries: dict[Name, StateEntry] = {}
    try:
        document = document_of(first)
        if document.get("company") != part.part or part.part is None or not ids.is_named(part.part):
            raise InvalidInput("not the beginning of this company")
        open_value = _opener(part.part, document, keys)
        for line_bytes in lines[:-1]:
            line = document_of(line_bytes[:MAX_LINE_BYTES])
            name, entry = (
                key_entry(read_key(line, open_value)) if "type" in line else (CREDS, creds_entry(line, open_value))
            )
            if name in entries:
                raise InvalidInput("a key for the second time")
            entries[name] = entry
    except InvalidInput as error:
        raise _damaged(path, f"{part.name}, line {len(entries) + 2} of its part: {error}") from None
    counted = len(entries.keys() - {CREDS}), CREDS in entries, sum(len(entry.value) for entry in entries.values())
    if counted != (part.keys, part.creds, part.value_bytes) or lines[-1:] != [b""]:
        raise _damaged(path, f"{part.name} has other keys than its manifest counts")
    return CompanyState(part.part, entries)


def _opener(company: str, first: dict[str, object], keys: "ArchiveKeys | None") -> Opener | None:
    """Return the function that opens the values of a part; None where nothing is sealed. Raises InvalidInput."""
    if ("data_key" in first) != (keys is not None):
        raise InvalidInput("a part must be sealed exactly where the archive is")
    return None if keys is None else keys.opener(company, base64_of(first, "data_key"))


def _tokens(path: Path, part: Part, content: bytes) -> list[TokenRecord]:
    """Return the tokens in a part. Raises InvalidInput."""
    first, *lines = content.split(b"\n")
    try:
        if document_of(first) != {"tokens": len(lines) - 1} or part.tokens != len(lines) - 1:
            raise InvalidInput("another number of tokens than the manifest counts")
        return [read_token(document_of(line)) for line in lines[:-1]]
    except InvalidInput as error:
        raise _damaged(path, f"{part.name}: {error}") from None
