"""Lists the deletions in the trash."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from keystore.store import Store


@dataclass(frozen=True)
class Entry:
    """A part of the trash that one operation put there. If `kept_until` is None, it is kept until the next sweep."""

    company: str
    deleted_at: datetime
    kept_until: datetime | None
    reason: str
    keys: int
    creds: bool
    value_bytes: int


@dataclass(frozen=True)
class TrashReport:
    """The trash of a company, or of all, newest first."""

    database: str
    trash_days: float
    entries: tuple[Entry, ...]

    @property
    def keys(self) -> int:
        """The number of keys in the trash."""
        return sum(entry.keys for entry in self.entries)


def trash_report(store: Store, company: str | None = None) -> TrashReport:
    """List the deletions in the trash of a company, or of all companies."""
    trash_s = store.trash_s
    entries = tuple(
        Entry(
            deletion.company_id,
            deletion.trashed_at,
            deletion.trashed_at + timedelta(seconds=trash_s) if trash_s else None,
            deletion.reason,
            deletion.keys,
            deletion.creds,
            deletion.value_bytes,
        )
        for deletion in store.deletions(company)
    )
    return TrashReport(store.database, round(trash_s / 86_400, 3), entries)
