"""Brings back one deletion from a company's trash. The company's present state goes to the trash in its place."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import CREDS_OF_A_DAY, REPAIR, Deletion, KeyRow
from keystore.store import Store
from keystore.values.codec import is_sealed_by_bot
from monitor.recovery.fresh_sessions import RATCHETS, with_later_pre_keys
from monitor.transfer.state import CREDS, by_name


@dataclass(frozen=True, kw_only=True)
class RestoreReport:
    """The creds and keys that came back, or that would come back (`dry_run`).

    They went to the trash at `deleted_at`. `keys` is their number, in all and by type. `left_out` is the number of
    ratchets that `fresh_sessions` left out. With `counters_stay` the bot has sealed its creds, so that `fresh_sessions`
    couldn't raise the pre-key counters in them. `replaced` is the number of keys that the company had, which go to the
    trash.
    """

    database: str
    company: str
    deleted_at: datetime
    reason: str
    keys: int
    by_type: dict[str, int]
    creds: bool
    left_out: int
    replaced: int
    fresh_sessions: bool
    dry_run: bool
    counters_stay: bool = False


def restore_company(
    store: Store,
    company: str,
    *,
    as_of: datetime | None = None,
    creds_only: bool = False,
    fresh_sessions: bool = False,
    dry_run: bool = False,
) -> RestoreReport:
    """Bring back the latest deletion of a company, or the first one from the time `as_of` on.

    The company then has exactly the state of that deletion. Its other keys stay if a key comes back that a repair
    deleted, or if the creds come back alone (`creds_only`). Time in the trash doesn't count for the expiry of a key.
    With `fresh_sessions` the ratchets are left out, for a state that was used after it was saved.

    Raises InvalidInput when the trash has no such deletion, and LeaseLost while a bot has the company's lease.
    """
    company = ids.canonical_company(company)
    deletion = _chosen(store, company, as_of, creds_only=creds_only)
    creds, rows = store.deleted_state(deletion)
    if creds_only:
        rows = []
    present = store.load(company)
    time_in_trash = store.now() - deletion.trashed_at
    restored = [replace(row, expires_at=row.expires_at and row.expires_at + time_in_trash) for row in rows]
    if fresh_sessions:
        restored = [row for row in restored if row.key_type not in RATCHETS]
        if creds is not None:
            others = [present.creds] if present.creds is not None else []
            pre_key_ids = [*present.keys.get("pre-key", {}), *(row.key_id for row in rows if row.key_type == "pre-key")]
            creds = with_later_pre_keys(creds, others, pre_key_ids)
    removed = by_name(present).keys() - {CREDS} - {(row.key_type, row.key_id) for row in restored}
    if creds_only or deletion.reason == REPAIR:
        removed = set()
    if not dry_run:
        store.restore_rows(company, restored, creds, removed, "restore")
        _require_restored(store, company, creds, restored)
    return RestoreReport(
        database=store.database,
        company=company,
        deleted_at=deletion.trashed_at,
        reason=deletion.reason,
        keys=len(restored),
        by_type=dict(sorted(Counter(row.key_type for row in restored).items())),
        creds=creds is not None,
        left_out=len(rows) - len(restored),
        replaced=present.total,
        fresh_sessions=fresh_sessions,
        dry_run=dry_run,
        counters_stay=fresh_sessions and creds is not None and is_sealed_by_bot(creds),
    )


def _chosen(store: Store, company: str, as_of: datetime | None, *, creds_only: bool) -> Deletion:
    """Return the deletion to bring back: the latest, or the first from `as_of` on. Raises InvalidInput."""
    fitting = [
        deletion
        for deletion in store.deletions(company)
        if (deletion.creds if creds_only else deletion.reason != CREDS_OF_A_DAY)
    ]
    if not fitting:
        missing = "creds" if creds_only else "state"
        raise InvalidInput(f"{company}: the trash has no {missing} of it; `trash` lists every deletion")
    # A key that a repair deleted comes back only where there is no whole state.
    fitting = [deletion for deletion in fitting if deletion.reason != REPAIR] or fitting
    if as_of is None:
        return fitting[0]
    later = [deletion for deletion in fitting if deletion.trashed_at >= as_of]
    if not later:
        raise InvalidInput(
            f"{company}: nothing was deleted or replaced after {as_of:%Y-%m-%d %H:%M:%S} UTC, so it still has "
            "the state of then"
        )
    return later[-1]


def _require_restored(store: Store, company: str, creds: bytes | None, rows: list[KeyRow]) -> None:
    """Read the creds and keys back. Raises InvalidInput if they differ from those that were written."""
    values = by_name(store.load(company))
    different = [row for row in rows if values.get((row.key_type, row.key_id)) != row.value]
    if different or (creds is not None and values.get(CREDS) != creds):
        raise InvalidInput(
            f"{company}: {len(different)} keys read back differently from what was written; is a bot using this "
            "company? Stop it, and restore again"
        )
