"""Import and export of a company's state, whichever format it has.

An import never takes a live bot back in time: ratchets that have moved on can't be replaced by older ones without
making every later message unreadable. So an import that would change a company's state is refused unless `replace` is
set. Nothing counts as imported before it was read back from the store, and no source file is deleted before that.
"""

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import AuthState
from keystore.store import Store
from monitor.transfer.export_staging import flush_to_disk, staged
from monitor.transfer.report import TransferReport, count_by_type
from monitor.transfer.state import CREDS, CompanyState, Name, Progress, Skipped, StateEntry, by_name

READS_BACK_DIFFERENTLY = "reads back differently from what was written; is a bot using this company?"


class StateFormat(Protocol):
    """A company's state in files at `path`: how to read, store, write and check it."""

    @property
    def path(self) -> Path:
        """The file or folder to read, or to write."""

    def read(self, progress: Progress | None) -> CompanyState:
        """Read the state to import. Raises InvalidInput if the path has another format or can't be read."""

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Write a state that was read to the store, and delete the `removed` keys there."""

    def delete(self, entry: StateEntry) -> None:
        """Delete the source file of an entry. Raises InvalidInput if it must stay."""

    def require_free(self, *, force: bool) -> None:
        """Raise InvalidInput unless an export may be put at the path; `force` allows replacing a former export."""

    def collect(self, store: Store, company: str) -> CompanyState:
        """Return the company's state in the store as of one moment; entries that the format can't hold are skipped."""

    def write(self, folder: Path, state: CompanyState, exported_at: datetime, progress: Progress | None) -> None:
        """Write a collected state to an empty staging folder."""

    def verify(self, folder: Path, state: CompanyState) -> None:
        """Raise InvalidInput unless the staging folder reads back as the state."""

    def put_in_place(self, folder: Path, *, force: bool) -> None:
        """Move the finished export from the staging folder to the path."""


def import_state(
    store: Store,
    company: str | None,
    source: StateFormat,
    *,
    replace: bool = False,
    dry_run: bool = False,
    delete_source: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Import a state into the store atomically, and verify it; `company` None is the one that the source names.

    Entries that can't be read are listed and don't stop the rest. With `delete_source` the files that are safely in
    the store are deleted. With `replace` the company ends with exactly the source's state. Raises InvalidInput if the
    source has another format, or the company has a state that would change.
    """
    if company is not None:
        company = ids.canonical_company(company)
    state = source.read(progress)
    company = company or ids.canonical_company(state.company or "")
    removed = _keys_to_remove(store, company, state, source=source.path, replace=replace)
    report = _unverified(store, company, state, str(source.path), store.database, store.now(), dry_run=dry_run)
    if dry_run:
        return report
    if removed is not None:
        source.save(store, company, state, removed)
    verified, different = _read_back(store, company, state, with_times=removed is not None)
    skipped = [*state.skipped, *different]
    deleted = 0
    for entry in verified.values() if delete_source else ():
        try:
            source.delete(entry)
            deleted += 1
        except InvalidInput as error:
            skipped.append((entry.label, f"imported, but not deleted: {error}"))
    by_type = count_by_type(verified)
    keys = sum(by_type.values())
    return dataclasses.replace(
        report,
        keys=keys,
        by_type=by_type,
        creds=CREDS in verified,
        verified=keys,
        skipped=tuple(skipped),
        deleted_files=deleted,
    )


def export_state(
    store: Store,
    company: str,
    target: StateFormat,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Export a company's creds and keys, as of one moment, for the file's owner alone; a failed export leaves nothing.

    Keys that the format can't hold are listed and left out. Raises InvalidInput if there is nothing to export, or if
    the target exists and `force` is not set, or is no former export.
    """
    company = ids.canonical_company(company)
    target.require_free(force=force)
    state = target.collect(store, company)
    if not state.entries and not state.skipped:
        raise InvalidInput(f"{company} has neither creds nor keys in {store.database}: nothing to export")
    now = store.now()
    report = _unverified(store, company, state, store.database, str(target.path), now, dry_run=dry_run)
    if dry_run:
        return report
    with staged(target.path) as folder:
        target.write(folder, state, now, progress)
        flush_to_disk()
        target.verify(folder, state)
        target.put_in_place(folder, force=force)
    return dataclasses.replace(report, verified=report.keys)


def _keys_to_remove(
    store: Store, company: str, state: CompanyState, *, source: Path, replace: bool
) -> frozenset[Name] | None:
    """Return the company's keys that a replacing import deletes; None if the import has nothing to write.

    A company that already holds the whole state needs no write, so a stopped import can be repeated. Keys that the
    source has but that could not be read are not deleted. Raises InvalidInput if the import would change the company's
    state and `replace` is not set.
    """
    auth_state = store.load(company)
    stored = by_name(auth_state)
    new = any(stored.get(name) != entry.value for name, entry in state.entries.items())
    if not new and not replace:
        return None
    changed = [
        name for name, value in stored.items() if name not in state.entries or state.entries[name].value != value
    ]
    if not changed:
        return frozenset() if new else None
    if not replace:
        raise InvalidInput(
            f"{company} already has {_amount(auth_state)} in {store.database}, and {source} differs from them in "
            f"{len(changed) - (CREDS in changed)} keys{' and the creds' if CREDS in changed else ''}: importing it "
            "could take a running bot back to sessions that have moved on. If the stored state may be lost, stop the "
            "bot and repeat with --replace"
        )
    if state.creds is None:
        raise InvalidInput(
            f"{source} has no readable creds: keys without the creds they belong to can't replace the "
            f"{_amount(auth_state)} that {company} has in {store.database}. Nothing was changed"
        )
    if state.unreadable is None:
        return frozenset()
    return frozenset(changed) - state.unreadable - state.entries.keys()


def _amount(state: AuthState) -> str:
    """`665 keys and creds`."""
    return f"{state.total} keys{' and creds' if state.creds is not None else ''}"


def _unverified(
    store: Store, company: str, state: CompanyState, source: str, target: str, now: datetime, *, dry_run: bool
) -> TransferReport:
    """Return the report before anything is written: the final one of a dry run."""
    by_type = count_by_type(state.entries)
    return TransferReport(
        company=company,
        database=store.database,
        source=source,
        target=target,
        keys=sum(by_type.values()),
        by_type=by_type,
        creds=CREDS in state.entries,
        verified=0,
        expired=sum(row.expires_at is not None and row.expires_at <= now for row in state.rows),
        skipped=state.skipped,
        deleted_files=0,
        dry_run=dry_run,
    )


def _read_back(
    store: Store, company: str, state: CompanyState, *, with_times: bool
) -> tuple[dict[Name, StateEntry], list[Skipped]]:
    """Return the entries that the store holds as imported, and the others; times are compared if they were written."""
    rows = {(row.key_type, row.key_id): row for row in store.export_rows(company)}
    creds = store.get_creds(company)
    verified: dict[Name, StateEntry] = {}
    different: list[Skipped] = []
    for name, entry in state.entries.items():
        row = rows.get(name)
        value = creds if name == CREDS else row and row.value
        if value == entry.value and (entry.row is None or not with_times or row == entry.row):
            verified[name] = entry
        else:
            different.append((entry.label, READS_BACK_DIFFERENTLY))
    return verified, different
