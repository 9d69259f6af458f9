"""Makes a database safe that was restored from a backup, if bots went on after the backup was made.

Every company loses its ratchets, and its creds pass the pre-key ids that may have been given out since. The former
state goes to the trash.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keystore.errors import LeaseLost
from keystore.ids import canonical_company
from keystore.store import Store
from monitor.note_names import WENT_BACK
from monitor.recovery.fresh_sessions import RATCHETS, with_later_pre_keys

PAGE = 1_000
"""Companies that are listed at once."""


@dataclass(frozen=True)
class RolledBackReport:
    """The number of companies, and of the ratchets that they lost, or would lose (`dry_run`).

    `leased` are further companies, whose bots were running: nothing of theirs was changed.
    """

    database: str
    companies: int
    keys: int
    leased: tuple[str, ...]
    dry_run: bool


def drop_ratchets(
    store: Store,
    companies: Iterable[str] | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RolledBackReport:
    """Drop the ratchets of these companies, or of all. If it is interrupted, repeat it before the bots start."""
    names = store.companies() if companies is None else [canonical_company(name) for name in companies]
    changed, dropped, leased = 0, 0, []
    running = _leased(store) if dry_run else set()
    for done, company in enumerate(names, 1):
        state = store.load(company)
        ratchets = [(key_type, key_id) for key_type in RATCHETS for key_id in state.keys.get(key_type, {})]
        creds = state.creds and with_later_pre_keys(state.creds, [], state.keys.get("pre-key", {}))
        try:
            if company in running:
                raise LeaseLost(f"{company}: its bot is running")
            if not dry_run:
                store.restore_rows(company, [], creds, ratchets, "rolled back")
                store.remember(f"{WENT_BACK}{company}", None)
            changed += 1
            dropped += len(ratchets)
        except LeaseLost:
            leased.append(company)
        if progress is not None:
            progress(done, len(names))
    return RolledBackReport(store.database, changed, dropped, tuple(leased), dry_run)


def _leased(store: Store) -> set[str]:
    """Return the companies with a live lease."""
    leased: set[str] = set()
    offset = 0
    while companies := store.company_page(limit=PAGE, offset=offset).companies:
        leased |= {summary.company_id for summary in companies if summary.lease is not None}
        offset += PAGE
    return leased
