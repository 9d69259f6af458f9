"""Tries a backup: its checksums, then a restore into a scratch database, which is compared key by key."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from keystore.errors import InvalidInput
from keystore.opening import open_link, open_store
from keystore.schema import statements_for
from keystore.store import Store
from monitor.backup.archive import Backup
from monitor.backup.restore import import_backup
from monitor.transfer.state import CREDS, CompanyState, Progress, Skipped, label

MOST_DIFFERENCES = 100
"""The most differences that a report names."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """The result of a trial. The backup is `good` if its scratch database has exactly what the backup has.

    `companies`, `keys` and `creds` were compared. `differences` are (name, problem) of the first ones that differ.
    """

    archive: str
    exported_at: datetime
    program: str
    sealed: bool
    scratch: str
    companies: int
    keys: int
    creds: int
    tokens: int
    value_bytes: int
    differences: tuple[Skipped, ...]

    @property
    def good(self) -> bool:
        """True if nothing differs."""
        return not self.differences


def verify_backup(
    backup: Backup, secret_keys: str, scratch_url: str | None, progress: Progress | None = None
) -> VerifyReport:
    """Restore a checked backup into an empty database, a temporary SQLite file without `scratch_url`, and compare.

    Raises InvalidInput if the scratch database isn't empty.
    """
    with _scratch_address(scratch_url) as url:
        _require_empty(url)
        with open_store(url, secret_keys=secret_keys) as store:
            restored = import_backup(store, backup, progress=progress)
            different = islice(chain(restored.refused, differences(store, backup)), MOST_DIFFERENCES)
            return VerifyReport(
                archive=str(backup.path),
                exported_at=backup.header.moment,
                program=backup.header.program,
                sealed=backup.sealed,
                scratch="a temporary SQLite file" if scratch_url is None else store.database,
                companies=backup.end.companies,
                keys=backup.end.keys,
                creds=sum(part.creds for part in backup.companies),
                tokens=backup.end.tokens,
                value_bytes=backup.end.value_bytes,
                differences=tuple(different),
            )


@contextmanager
def _scratch_address(url: str | None) -> Iterator[str]:
    """Yield the address of the scratch database; a temporary one is removed afterwards."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="signal-keystore-") as folder:
        yield f"sqlite:///{Path(folder).absolute()}/scratch.db"


def _require_empty(url: str) -> None:
    """Raise InvalidInput unless a database has no table."""
    link = open_link(url)
    try:
        ((tables, first),) = link.rows(statements_for(link)["tables"], {})
        if tables:
            raise InvalidInput(
                f"{link.name} isn't empty: it has {tables} tables (for example {first}). Name an empty database as the "
                "scratch; nothing was changed"
            )
    finally:
        link.close()


def differences(store: Store, backup: Backup) -> Iterator[Skipped]:
    """Yield every difference between a database and a backup, by name."""
    companies = [part.part for part in backup.companies]
    for company in sorted({*store.companies()} ^ {company for company in companies if company}):
        yield f"company {company}", "it is only in the scratch database, or only in the backup"
    for part in backup.companies:
        yield from _company_differences(store, part.part or "", backup.state(part))
    if sorted(store.tokens(), key=lambda token: token.token_id) != sorted(
        backup.tokens(), key=lambda token: token.token_id
    ):
        yield "the tokens", "they differ"


def _company_differences(store: Store, company: str, state: CompanyState) -> Iterator[Skipped]:
    """Yield the keys and creds of a company that differ in type, id, value or times."""
    if store.get_creds(company) != state.creds:
        yield f"{company} creds", "they differ"
    restored = {(row.key_type, row.key_id): row for row in store.export_rows(company)}
    archived = {name: entry.row for name, entry in state.entries.items() if name != CREDS}
    for name in sorted({*restored, *archived}):
        if restored.get(name) != archived.get(name):
            yield f"{company} {label(name)}", "its value or its times differ, or it is missing on one side"
