"""Gives an expiry to keys that have none, in short batches that delay no bot; it can be stopped and resumed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from keystore.store import Store

BATCH_KEYS = 1_000


@dataclass(frozen=True)
class BackfillReport:
    """The keys that got an expiry; with `dry_run`, that would.

    `enforced`: the database refuses keys without an expiry. `enforce`: the command was asked to make it do so.
    """

    database: str
    updated: int
    by_type: dict[str, int]
    enforced: bool
    dry_run: bool
    enforce: bool = False

    @property
    def keys(self) -> int:
        """The number of keys that got an expiry, under the name that all commands share."""
        return self.updated


def backfill_expiries(
    store: Store,
    *,
    enforce: bool = False,
    dry_run: bool = False,
    batch_keys: int = BATCH_KEYS,
    progress: Callable[[int, int], None] | None = None,
) -> BackfillReport:
    """Give an expiry to every key without one; with `enforce`, then make the database reject such keys.

    Expiries count from now, by the policy of the store. Raises what the store raises; completed batches stay.
    """
    lacking = {count.key_type: count.without_expiry for count in store.census().by_type if count.without_expiry}
    total = sum(lacking.values())
    if enforce and not store.converted:
        store.enforce_expiry()  # Raises beside a running bot: before anything is changed, not after.
    if dry_run:
        return BackfillReport(store.database, total, lacking, store.expiry_enforced, dry_run=True, enforce=enforce)
    by_type: Counter[str] = Counter()
    while batch := store.backfill(batch_keys):
        by_type.update(batch)
        if progress is not None:
            progress(by_type.total(), max(total, by_type.total()))
    if enforce:
        store.enforce_expiry()
    counts = dict(by_type)
    return BackfillReport(
        store.database, by_type.total(), counts, store.expiry_enforced, dry_run=False, enforce=enforce
    )
