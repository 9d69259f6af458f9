"""Imports a backup, each company whole or not at all. An import that broke off is repeated, and does the rest."""

from dataclasses import dataclass
from datetime import datetime

from keystore.errors import InvalidInput, LeaseLost, QuotaExceeded
from keystore.records import TokenRecord
from keystore.store import Store
from monitor.backup.archive import Backup, BackupPart
from monitor.transfer.state import Progress, Skipped
from monitor.transfer.transfer import import_state


@dataclass(frozen=True, kw_only=True)
class BackupImportReport:
    """The companies that the database now has as in the backup; with `dry_run`, those that it would have.

    `keys` is the number of their keys, and `tokens` that of the tokens which were added. `refused` are
    (company, reason) of those that were left as they are.
    """

    database: str
    source: str
    exported_at: datetime
    companies: int
    keys: int
    tokens: int
    refused: tuple[Skipped, ...]
    dry_run: bool


def import_backup(
    store: Store,
    backup: Backup,
    *,
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BackupImportReport:
    """Import every company of a checked backup, by the rules of an import, and the tokens that aren't there.

    A company is refused alone if its bot has its lease, or if it has another state and `replace` is not set.
    """
    companies = keys = 0
    refused: list[Skipped] = []
    for done, part in enumerate(backup.companies, 1):
        try:
            report = import_state(store, part.part, BackupPart(backup, part), replace=replace, dry_run=dry_run)
            if report.partial:
                name, reason = report.skipped[0]
                raise InvalidInput(f"{name} {reason}")
            companies += 1
            keys += report.keys
        except (InvalidInput, LeaseLost, QuotaExceeded) as error:
            refused.append((part.name, str(error)))
        if progress is not None:
            progress(done, len(backup.companies))
    return BackupImportReport(
        database=store.database,
        source=str(backup.path),
        exported_at=backup.header.moment,
        companies=companies,
        keys=keys,
        tokens=_add_tokens(store, backup.tokens(), dry_run=dry_run),
        refused=tuple(refused),
        dry_run=dry_run,
    )


def _add_tokens(store: Store, tokens: list[TokenRecord], *, dry_run: bool) -> int:
    """Add the tokens that the database doesn't know, and return their number. A revoked one stays revoked."""
    stored = {token.token_id for token in store.tokens()}
    missing = [token for token in tokens if token.token_id not in stored]
    if not dry_run:
        for token in missing:
            store.add_token(token)
    return len(missing)
