"""Exports every company into one archive, as of one moment, while bots go on.

The file gets its name only when it is whole: written, on the disk, and read back with all of its checksums.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from keystore import ids
from keystore.backup.snapshot import Snapshot
from keystore.errors import InvalidInput, SecretKeyMissing
from keystore.records import TokenRecord
from keystore.schema import migration_ids
from keystore.store import Store
from monitor.backup.archive import checked_backup
from monitor.backup.manifest import End, Header
from monitor.backup.writing import BackupWriter
from monitor.transfer.archive_format import STAGED_FILE, ArchiveFile
from monitor.transfer.export_staging import private_file, staged
from monitor.transfer.state import Progress, Skipped, label

if TYPE_CHECKING:
    from keystore.backup.archive_keys import ArchiveKeys


@dataclass(frozen=True, kw_only=True)
class BackupReport:
    """The companies, keys and tokens in a backup; with `dry_run`, those that would be.

    `value_bytes` is the length of all values, and `file_bytes` that of the file. `left_out` are (name, reason) of
    everything that can't be read, or that no command can name.
    """

    database: str
    target: str
    exported_at: datetime
    companies: int
    keys: int
    tokens: int
    value_bytes: int
    file_bytes: int
    sealed: bool
    left_out: tuple[Skipped, ...]
    dry_run: bool


def export_backup(
    store: Store,
    path: Path,
    keys: "ArchiveKeys | None",
    *,
    company: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BackupReport:
    """Export every company with the tokens, or one company without. If the store seals, `keys` seal the archive too.

    Raises InvalidInput if there is nothing to export, or if the file exists and `force` is not set.
    """
    company = None if company is None else ids.canonical_company(company)
    ArchiveFile(path).require_free(force=force)
    keys = keys if store.sealing == "on" else None
    exported_at = store.now()
    header = Header(
        archive=secrets.token_hex(16),
        exported_at=exported_at.isoformat(),
        program=version("signal-keystore"),
        schema=migration_ids(is_server=True)[-1],
        master_key=None if keys is None else keys.newest_id,
    )
    if dry_run:
        end, left_out = _write(store, None, header, keys, company, exported_at, progress)
    else:
        with staged(path) as folder:
            staged_file = folder / STAGED_FILE
            with private_file(staged_file) as file:
                end, left_out = _write(store, file, header, keys, company, exported_at, progress)
                file.flush()
                os.fsync(file.fileno())
            checked_backup(staged_file, keys)
            staged_file.replace(path)
            _sync_folder(path.absolute().parent)
    return BackupReport(
        database=store.database,
        target=str(path),
        exported_at=exported_at,
        companies=end.companies,
        keys=end.keys,
        tokens=end.tokens,
        value_bytes=end.value_bytes,
        file_bytes=end.length + len(end.line()),
        sealed=keys is not None,
        left_out=left_out,
        dry_run=dry_run,
    )


def _write(
    store: Store,
    file: BinaryIO | None,
    header: Header,
    keys: "ArchiveKeys | None",
    company: str | None,
    exported_at: datetime,
    progress: Progress | None,
) -> tuple[End, tuple[Skipped, ...]]:
    """Write the archive of a snapshot, or nothing without a file; return its last line, and what was left out."""

    def write(snapshot: Snapshot) -> tuple[End, tuple[Skipped, ...]]:
        if file is not None:  # After a broken connection this begins again.
            file.seek(0)
            file.truncate()
        writer = BackupWriter(len if file is None else file.write, header)
        left_out: list[Skipped] = []
        names = snapshot.companies()
        if company is not None:
            names = [name for name in names if name == company]
        if not names:
            raise InvalidInput(f"{company or 'no company'} has creds or keys in {store.database}: nothing to export")
        for done, name in enumerate(names, 1):
            left_out += _add_company(snapshot, writer, name)
            if progress is not None:
                progress(done, len(names))
        if company is None:
            writer.add_tokens(filter(partial(_is_valid, exported_at), snapshot.tokens()))
        return writer.finish(keys), tuple(left_out)

    return store.snapshot(write)


def _add_company(snapshot: Snapshot, writer: BackupWriter, name: str) -> Iterator[Skipped]:
    """Write a company's part, and yield what is left out. A company that can't be read doesn't stop the backup."""
    if not ids.is_named(name):
        yield name, "no command can name this company; `doctor` says more"
        return
    try:
        company = snapshot.company(name)
    except SecretKeyMissing as error:
        yield name, str(error)
        return
    writer.add_company(company)
    for key in company.unreadable:
        yield f"{name} {label(key)}", "it can't be read"


def _is_valid(moment: datetime, token: TokenRecord) -> bool:
    """True for a token that is valid at this moment."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > moment)


def _sync_folder(folder: Path) -> None:
    """Wait until a new name in a folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
