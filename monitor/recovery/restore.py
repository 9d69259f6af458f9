"""Brings back what one deletion put into a company's trash, in exchange for the company's present state."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from keystore import ids
from keystore.errors import InvalidInput
from keystore.records import Deletion, KeyRow
from keystore.store import Store
from monitor.recovery.fresh_sessions import RATCHETS, with_later_pre_keys

CREDS_VERSION = "creds of a day"
PARTIAL = "repair"
"""The reason of deletions that hold some keys of a state, not all."""


@dataclass(frozen=True, kw_only=True)
class RestoreReport:
    """The creds and keys that came back; with `dry_run`, that would.

    It was in the trash since `deleted_at`. `keys` of the deletion come back, `by_type`, and `left_out` are the ratchets
    that `fresh_sessions` leaves out. `replaced` keys are the company's until now: they go to the trash.
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


def restore_company(
    store: Store,
    company: str,
    *,
    as_of: datetime | None = None,
    creds_only: bool = False,
    fresh_sessions: bool = False,
    dry_run: bool = False,
) -> RestoreReport:
    """Bring back the latest deletion of a company, or what it had `as_of` a time; with `creds_only` the creds alone.

    The company ends with exactly that state. The deletion of a repair, and creds alone, are added to what it has. Time
    in the trash doesn't count for the expiry of a key. With `fresh_sessions` the ratchets stay away, for a state that
    was used after it was saved.

    Raises InvalidInput when the trash has nothing of the kind, and LeaseLost while a bot has the company's lease.
    """
    company = ids.canonical_company(company)
    deletion = _chosen(store, company, as_of, creds_only=creds_only)
    creds, rows = store.deleted_state(deletion)
    if creds_only:
        rows = []
    present = store.load(company)
    waited = store.now() - deletion.trashed_at
    back = [replace(row, expires_at=row.expires_at and row.expires_at + waited) for row in rows]
    if fresh_sessions:
        back = [row for row in back if row.key_type not in RATCHETS]
        if creds is not None:
            others = [present.creds] if present.creds is not None else []
            pre_key_ids = [*present.keys.get("pre-key", {}), *(row.key_id for row in rows if row.key_type == "pre-key")]
            creds = with_later_pre_keys(creds, others, pre_key_ids)
    removed = _names(present.keys) - {(row.key_type, row.key_id) for row in back}
    if creds_only or deletion.reason == PARTIAL:
        removed = set()
    if not dry_run:
        store.restore_rows(company, back, creds, removed, "restore")
        _require_back(store, company, creds, back)
    return RestoreReport(
        database=store.database,
        company=company,
        deleted_at=deletion.trashed_at,
        reason=deletion.reason,
        keys=len(back),
        by_type=dict(sorted(Counter(row.key_type for row in back).items())),
        creds=creds is not None,
        left_out=len(rows) - len(back),
        replaced=present.total,
        fresh_sessions=fresh_sessions,
        dry_run=dry_run,
    )


def _chosen(store: Store, company: str, as_of: datetime | None, *, creds_only: bool) -> Deletion:
    """Return the deletion to bring back: the latest, or the first after a time. Raises InvalidInput without one."""
    fitting = [
        deletion
        for deletion in store.deletions(company)
        if (deletion.creds if creds_only else deletion.reason != CREDS_VERSION)
    ]
    if not fitting:
        what = "creds" if creds_only else "state"
        raise InvalidInput(f"{company}: the trash has no {what} of it; `trash` lists what there is")
    if as_of is None:
        return fitting[0]
    later = [deletion for deletion in fitting if deletion.trashed_at >= as_of]
    if not later:
        raise InvalidInput(
            f"{company}: nothing was deleted or replaced after {as_of:%Y-%m-%d %H:%M:%S} UTC, so what it had then is "
            "what it has now"
        )
    return later[-1]


def _names(keys: dict[str, dict[str, bytes]]) -> set[tuple[str, str]]:
    return {(key_type, key_id) for key_type, by_id in keys.items() for key_id in by_id}


def _require_back(store: Store, company: str, creds: bytes | None, rows: list[KeyRow]) -> None:
    """Read everything back. Raises InvalidInput if it isn't what was written."""
    state = store.load(company)
    different = [row for row in rows if state.keys.get(row.key_type, {}).get(row.key_id) != row.value]
    if different or (creds is not None and state.creds != creds):
        raise InvalidInput(
            f"{company}: {len(different)} keys read back differently from what was written; is a bot using this "
            "company? Stop it, and restore again"
        )
