"""The report of an import or export, the same for both formats."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from monitor.transfer.state import CREDS, Name, Skipped


@dataclass(frozen=True)
class TransferReport:
    """The keys and creds that went in or out; with `dry_run`, those that would have.

    They were read back and compared, `verified` of them; a dry run verifies none. `skipped` are (name, reason) of
    everything left out. `expired` keys are past their expiry: the next sweep deletes them unless a guard keeps them.
    """

    company: str
    database: str
    source: str
    target: str
    keys: int
    by_type: dict[str, int]
    creds: bool
    verified: int
    expired: int
    skipped: tuple[Skipped, ...]
    deleted_files: int
    dry_run: bool


def count_by_type(names: Iterable[Name]) -> dict[str, int]:
    """The number of keys of each type, sorted by type; creds are not counted."""
    return dict(sorted(Counter(key_type for key_type, key_id in names if (key_type, key_id) != CREDS).items()))
