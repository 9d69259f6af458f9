"""A company's state in and out of one file, our archive (`monitor.transfer.archive_format` says what is in it).

Unlike a Baileys folder it keeps every value to the byte, of any type, and every time: restored keys go on with the life
they had, and one that is past its expiry by then goes with the next sweep.
"""

import dataclasses
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from keystore import ids
from keystore.errors import InvalidInput, StoreUnavailable
from keystore.records import KeyRow
from keystore.store import Store
from monitor.transfer.archive_format import Archive, archive_lines, parsed_archive
from monitor.transfer.report import READS_BACK_DIFFERENTLY, Name, Progress, TransferReport, counted, planned, unverified
from monitor.transfer.staging import settle, staged, write_private

SNAPSHOT_TRIES = 10
"""Two reads see the same state unless a bot writes in the few milliseconds between them."""


def import_archive(
    store: Store,
    company: str | None,
    path: Path | str,
    *,
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Takes an archive into the store with the times it carries, atomically; `company` None is the archive's own.

    Lines that can't be read are listed and don't stop the rest. With `replace` the company ends with what the archive
    has. Raises InvalidInput where it isn't an archive, or the company has a state that would change.
    """
    path = Path(path)
    archive = _read_archive(path, progress)
    company = ids.canonical_company(archive.company if company is None else company)
    values: dict[str, dict[str, bytes]] = {}
    for row in archive.rows.values():
        values.setdefault(row.key_type, {})[row.key_id] = row.value
    plan = planned(store, company, values, archive.creds, source=path, replace=replace)
    report = unverified(
        store,
        company,
        list(archive.rows),
        source=str(path),
        target=store.database,
        creds=archive.creds is not None,
        skipped=archive.skipped,
        expired=_expired(archive.rows.values(), store.now()),
        dry_run=dry_run,
    )
    if dry_run:
        return report
    if plan.writes:
        store.restore_rows(company, archive.rows.values(), archive.creds)
        removed: dict[str, dict[str, bytes | None]] = {}
        # A line that can't be read may be any key: then nothing is removed.
        for key_type, key_id in () if archive.skipped else plan.removed:
            removed.setdefault(key_type, {})[key_id] = None
        # After the restore, not before: stopped in between, the company has too much, never too little.
        store.set(company, removed)
    return _verified(store, report, archive, with_times=plan.writes)


def export_archive(
    store: Store,
    company: str,
    path: Path | str,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Writes a company's creds and keys, as of one moment, to a new file for its owner alone; never half of it.

    Raises InvalidInput where there is nothing to export, or a file stands at `path` and `force` isn't given, and
    StoreUnavailable while a bot writes too busily for a consistent copy.
    """
    company, target = ids.canonical_company(company), Path(path)
    _require_free(target, force=force)
    creds, rows = _snapshot(store, company)
    if creds is None and not rows:
        raise InvalidInput(f"{company} has neither creds nor keys in {store.database}: nothing to export")
    names = [(row.key_type, row.key_id) for row in rows]
    now = store.now()
    report = unverified(
        store,
        company,
        names,
        source=store.database,
        target=str(target),
        creds=creds is not None,
        expired=_expired(rows, now),
        dry_run=dry_run,
    )
    if dry_run:
        return report
    with staged(target) as partial:
        file = partial / "archive"
        write_private(file, b"".join(archive_lines(company, now, creds, rows, progress)))
        settle()
        written = _read_archive(file, None)
        if written.skipped or written.creds != creds or list(written.rows.values()) != rows:
            raise InvalidInput(f"{target}: the archive reads back differently from what was written; check the disk")
        file.replace(target)
    return dataclasses.replace(report, verified=len(rows))


def _snapshot(store: Store, company: str) -> tuple[bytes | None, list[KeyRow]]:
    """Creds and rows that belong together: what `load` gives as of one moment, with the times of the same values."""
    for _ in range(SNAPSHOT_TRIES):
        state, rows = store.load(company), store.export_rows(company)
        if len(rows) == state.total and all(
            state.keys.get(row.key_type, {}).get(row.key_id) == row.value for row in rows
        ):
            return state.creds, rows
    raise StoreUnavailable(
        f"{company} in {store.database} changed {SNAPSHOT_TRIES} times while it was read; stop its bot for the export, "
        "or repeat it"
    )


def _expired(rows: Iterable[KeyRow], now: datetime) -> int:
    """How many are past their expiry."""
    return sum(row.expires_at is not None and row.expires_at <= now for row in rows)


def _read_archive(path: Path, progress: Progress | None) -> Archive:
    """Raises InvalidInput where it is no archive of ours at all."""
    try:
        with path.open("rb") as file:
            return parsed_archive(path, file, progress)
    except FileNotFoundError:
        raise InvalidInput(f"{path} doesn't exist; name an archive that `export` wrote") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error


def _verified(store: Store, report: TransferReport, archive: Archive, *, with_times: bool) -> TransferReport:
    """The report after reading everything back; the times are compared where they were written."""
    there = {(row.key_type, row.key_id): row for row in store.export_rows(report.company)}
    safe: list[Name] = []
    skipped = list(report.skipped)
    for name, row in archive.rows.items():
        found = there.get(name)
        if found is not None and (found == row if with_times else found.value == row.value):
            safe.append(name)
        else:
            skipped.append((f"{row.key_type} {row.key_id}", READS_BACK_DIFFERENTLY))
    creds = archive.creds is not None and store.get_creds(report.company) == archive.creds
    if archive.creds is not None and not creds:
        skipped.append(("creds", READS_BACK_DIFFERENTLY))
    return dataclasses.replace(
        report,
        keys=len(safe),
        by_type=counted(safe),
        creds=creds,
        verified=len(safe),
        skipped=tuple(skipped),
    )


def _require_free(target: Path, *, force: bool) -> None:
    """Raises InvalidInput unless an archive may stand at `target`."""
    if not target.name or target.is_dir():
        raise InvalidInput(f"{target} is a folder; name a file for the archive")
    if os.path.lexists(target) and not force:
        raise InvalidInput(f"{target} exists; name a new file, or replace it with --force")
    if not target.absolute().parent.is_dir():
        raise InvalidInput(f"{target.absolute().parent} doesn't exist; create it first")
