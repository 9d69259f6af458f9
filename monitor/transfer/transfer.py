"""Import and export of a company's state, whichever format it has.

An import never takes a live bot back in time: ratchets that have moved on can't be replaced by older ones without
making every later message unreadable. So an import that would change a company's state is refused unless `replace` is
set. A source that isn't whole is refused as well, unless `partial` is set: a bot without some of its keys can't be told
from a broken one. Nothing counts as imported before it was read back from the store, and no source file is deleted
before that.
"""

import dataclasses
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from keystore import ids
from keystore.baileys import CREDS_FILE, copied_from
from keystore.errors import InvalidInput
from keystore.records import AuthState
from keystore.store import Store
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.export_staging import staged
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.state import (
    CREDS,
    CompanyState,
    Name,
    Progress,
    Skipped,
    StateEntry,
    StateSource,
    TransferReport,
    by_name,
    by_type,
)

READS_BACK_DIFFERENTLY = "reads back differently from what was written; is a bot using this company?"

MOST_NAMED = 3
"""The most entries that a refusal names."""

StateFormat: TypeAlias = ArchiveFile | BaileysFolder
"""A company's state in files: how to read, store, write and check it."""


def import_state(
    store: Store,
    company: str | None,
    source: StateSource,
    *,
    replace: bool = False,
    partial: bool = False,
    dry_run: bool = False,
    delete_source: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Import a state into the store atomically, and verify it; `company` None is the one that the source names.

    With `partial` the rest is imported where some of the source can't be read; a dry run lists that too. With
    `delete_source` the files that are safely in the store are deleted, unless something was left out. With `replace`
    the company ends with exactly the source's state. Raises InvalidInput if the source has another format or isn't
    whole, or if the company has a state that would change.
    """
    if company is not None:
        company = ids.canonical_company(company)
    state = source.read(progress)
    company = company or ids.canonical_company(state.company or "")
    if state.skipped and not partial and not dry_run:
        raise InvalidInput(_not_whole(source.path, state))
    removed = _keys_to_remove(store, company, state, source=source.path, replace=replace)
    report = _unverified(store, company, state, str(source.path), store.database, store.now(), dry_run=dry_run)
    missing = not report.creds and store.get_creds(company) is None
    report = dataclasses.replace(report, removed=len(removed or ()), read_as=source.read_as, creds_missing=missing)
    if dry_run:
        return report
    if removed is not None:
        source.save(store, company, state, removed)
    verified = _verified(store, company, state, with_times=removed is not None)
    different = [entry.label for name, entry in state.entries.items() if name not in verified]
    skipped = [*state.skipped, *((label, READS_BACK_DIFFERENTLY) for label in different)]
    stays = _reason_to_stay(store, company, state) if delete_source else ""
    deleted, undeleted = _delete_sources(source, verified) if delete_source and not stays else (0, [])
    counts = _count_by_type(verified)
    keys, creds = sum(counts.values()), CREDS in verified
    report = dataclasses.replace(report, keys=keys, verified=keys, by_type=counts, creds=creds)
    return dataclasses.replace(report, skipped=(*skipped, *undeleted), deleted_files=deleted, source_stays=stays)


def _not_whole(source: Path, state: CompanyState) -> str:
    """Say what is missing from a source, and how to go on."""
    named = "; ".join(f"{label}: {reason}" for label, reason in state.skipped[:MOST_NAMED])
    more = len(state.skipped) - MOST_NAMED
    advice = "" if CREDS in state.entries else _creds_advice(state)
    return (
        f"{source} isn't whole, so nothing was imported: {named}{f'; and {more} more' if more > 0 else ''}.{advice} "
        "--dry-run lists everything; --partial imports the rest"
    )


def _creds_advice(state: CompanyState) -> str:
    """Name a copy of the creds, where they themselves can't be read."""
    copies = [label for label, _ in (*state.ignored, *state.skipped) if copied_from(label) == CREDS_FILE]
    named = f": {', '.join(copies[:MOST_NAMED])} may hold them, under the name {CREDS_FILE}" if copies else ""
    return f" No bot can connect without its creds{named}."


def _reason_to_stay(store: Store, company: str, state: CompanyState) -> str:
    """The reason to delete no source file; empty if they may be deleted."""
    if state.skipped:
        return "not all of the source could be taken"
    if store.get_creds(company) is None:
        return f"{company} has no creds: these keys are of no use without them"
    return ""


def _delete_sources(source: StateSource, verified: dict[Name, StateEntry]) -> tuple[int, list[Skipped]]:
    """Delete the source files of these entries; return how many, and those that stay."""
    deleted, undeleted = 0, []
    for entry in verified.values():
        try:
            source.delete(entry)
            deleted += 1
        except InvalidInput as error:
            undeleted.append((entry.label, f"imported, but not deleted: {error}"))
    return deleted, undeleted


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
    unreadable = [
        (f"{value.key_type} {value.key_id}", "it can't be read")
        for value in store.unreadable()
        if value.company_id == company
    ]
    state = dataclasses.replace(state, skipped=(*state.skipped, *unreadable))
    if not state.entries and not state.skipped:
        raise InvalidInput(f"{company} has neither creds nor keys in {store.database}: nothing to export")
    now = store.now()
    report = _unverified(store, company, state, store.database, str(target.path), now, dry_run=dry_run)
    report = dataclasses.replace(report, creds_missing=not report.creds)
    if dry_run:
        return report
    with staged(target.path) as folder:
        target.write(folder, state, now, progress)
        # A rename must not get to the disk before the files. One sync serves them all: one for each file of thousands
        # would wait for the disk each time.
        os.sync()
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
    if not replace and not _only_adds(auth_state, state):
        raise InvalidInput(
            f"{company} already has {_amount(auth_state)} in {store.database}, and {source} differs from them in "
            f"{len(changed) - (CREDS in changed)} keys{' and the creds' if CREDS in changed else ''}: importing it "
            "could take a running bot back to sessions that have moved on. If the stored state may be lost, stop the "
            "bot and repeat with --replace"
        )
    if not replace:
        return frozenset()
    if state.creds is None:
        raise InvalidInput(
            f"{source} has no readable creds: keys without the creds they belong to can't replace the "
            f"{_amount(auth_state)} that {company} has in {store.database}. Nothing was changed"
        )
    if auth_state.total and not state.entries.keys() - {CREDS}:
        advice = "" if auth_state.creds is not None else "; without --replace they are added to the keys"
        raise InvalidInput(
            f"{source} has creds and no keys: replacing would delete the {auth_state.total} keys that {company} has in "
            f"{store.database}{advice}. Nothing was changed"
        )
    if state.unreadable is None:
        return frozenset()
    return frozenset(changed) - state.unreadable - state.entries.keys()


def _only_adds(stored: AuthState, state: CompanyState) -> bool:
    """True if a state adds to an incomplete one, which no bot can have used: it has no creds, or nothing else."""
    incomplete = stored.creds is None or not stored.total
    values = by_name(stored)
    return incomplete and all(values.get(name, entry.value) == entry.value for name, entry in state.entries.items())


def _amount(state: AuthState) -> str:
    """`665 keys and creds`."""
    return f"{state.total} keys{' and creds' if state.creds is not None else ''}"


def _unverified(
    store: Store, company: str, state: CompanyState, source: str, target: str, now: datetime, *, dry_run: bool
) -> TransferReport:
    """Return the report before anything is written: the final one of a dry run."""
    counts = _count_by_type(state.entries)
    return TransferReport(
        company=company,
        database=store.database,
        source=source,
        target=target,
        keys=sum(counts.values()),
        by_type=counts,
        creds=CREDS in state.entries,
        expired=sum(row.expires_at is not None and row.expires_at <= now for row in state.rows),
        skipped=state.skipped,
        ignored=state.ignored,
        unwrapped=state.unwrapped,
        odd=state.odd,
        sealed_by_bot=state.sealed_by_bot,
        dry_run=dry_run,
    )


def _verified(store: Store, company: str, state: CompanyState, *, with_times: bool) -> dict[Name, StateEntry]:
    """Return the entries that the store holds as imported; times are compared if they were written."""
    rows = {(row.key_type, row.key_id): row for row in store.export_rows(company)}
    creds = store.get_creds(company)

    def is_stored(name: Name, entry: StateEntry) -> bool:
        row = rows.get(name)
        value = creds if name == CREDS else row and row.value
        return value == entry.value and (entry.row is None or not with_times or row == entry.row)

    return {name: entry for name, entry in state.entries.items() if is_stored(name, entry)}


def _count_by_type(names: Iterable[Name]) -> dict[str, int]:
    """Return the number of keys of each type, sorted by type; creds are not counted."""
    return {key_type: len(keys) for key_type, keys in sorted(by_type(dict.fromkeys(names)).items())}
