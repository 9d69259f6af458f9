"""Gives keys without expiry one: in batches, so that no bot waits long, and resumable after a stop at any moment."""

from collections.abc import Callable
from dataclasses import dataclass

from keystore.store import Store

BATCH_KEYS = 1_000


@dataclass(frozen=True)
class BackfillReport:
    """How many keys got an expiry; with `dry_run`, how many would. `enforced`: the database refuses keys without."""

    database: str
    updated: int
    by_type: dict[str, int]
    enforced: bool
    dry_run: bool


def backfill(
    store: Store,
    *,
    enforce: bool = False,
    dry_run: bool = False,
    batch_keys: int = BATCH_KEYS,
    progress: Callable[[int, int], None] | None = None,
) -> BackfillReport:
    """Backfills everything, then, with `enforce`, makes the database refuse keys without expiry.

    Expiries count from now, by the policy of the store. Raises what the store raises; what was done stays done.
    """
    lacking = {count.key_type: count.without_expiry for count in store.census().by_type if count.without_expiry}
    total = sum(lacking.values())
    if dry_run:
        return BackfillReport(store.database, total, lacking, store.expiry_enforced, dry_run=True)
    if enforce and not store.converted:
        store.enforce_expiry()  # Refused beside a running bot: before anything is changed, not after.
    by_type: dict[str, int] = {}
    while batch := store.backfill(batch_keys):
        for key_type, keys in batch.items():
            by_type[key_type] = by_type.get(key_type, 0) + keys
        if progress is not None:
            done = sum(by_type.values())
            progress(done, max(total, done))
    if enforce:
        store.enforce_expiry()
    return BackfillReport(store.database, sum(by_type.values()), by_type, store.expiry_enforced, dry_run=False)
