"""Makes a database safe that was restored from a backup, if bots went on after the backup was made.

Every company loses its ratchets, and its creds pass the pre-key ids that may have been given out since. The former
state goes to the trash.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keystore.errors import LeaseLost
from keystore.ids import canonical_company
from keystore.store import Store
from monitor.company_summaries import company_summaries
from monitor.note_names import WENT_BACK
from monitor.recovery.fresh_sessions import RATCHETS, with_later_pre_keys


@dataclass(frozen=True)
class RolledBackReport:
    """The number of companies, and of the ratchets that they lost, or would lose (`dry_run`).

    `leased` are further companies, whose bots were running: nothing of theirs was changed. The creds of `sealed` are
    sealed by their bots, so their pre-key counters are as they were.
    """

    database: str
    companies: int
    keys: int
    leased: tuple[str, ...]
    dry_run: bool
    sealed: tuple[str, ...] = ()


def drop_ratchets(
    store: Store,
    companies: Iterable[str] | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RolledBackReport:
    """Drop the ratchets of these companies, or of all. If it is interrupted, repeat it before the bots start."""
    names = store.companies() if companies is None else [canonical_company(name) for name in companies]
    running = {each.company_id for each in company_summaries(store) if each.lease is not None} if dry_run else set()
    changed, dropped, leased = 0, 0, []
    for done, company in enumerate(names, 1):
        try:
            ratchets = None if company in running else _drop(store, company, dry_run=dry_run)
        except LeaseLost:
            ratchets = None
        if ratchets is None:
            leased.append(company)
        else:
            changed += 1
            dropped += ratchets
        if progress is not None:
            progress(done, len(names))
    sealed = sorted(set(names) & set(store.companies_sealed_by_bots()) - set(leased))
    return RolledBackReport(store.database, changed, dropped, tuple(leased), dry_run, tuple(sealed))


def _drop(store: Store, company: str, *, dry_run: bool) -> int:
    """Drop a company's ratchets, and return their number. Raises LeaseLost while its bot is running."""
    state = store.load(company)
    ratchets = [(key_type, key_id) for key_type in RATCHETS for key_id in state.keys.get(key_type, {})]
    if not dry_run:
        creds = state.creds and with_later_pre_keys(state.creds, [], state.keys.get("pre-key", {}))
        store.restore_rows(company, [], creds, ratchets, "rolled back")
        store.remember(f"{WENT_BACK}{company}", None)
    return len(ratchets)
