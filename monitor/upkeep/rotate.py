"""Seals plain values, and seals each company's data key by the newest master key, while bots read and write."""

from collections.abc import Callable
from dataclasses import dataclass

from keystore.errors import InvalidInput
from keystore.store import Store


@dataclass(frozen=True)
class RotationReport:
    """The values that were sealed, and the companies whose data key got the newest master key; with `dry_run`, would.

    `keys` is the number of sealed values, with creds and trash. `companies` were looked at. `old_keys_needed` is False
    when the newest master key alone opens everything.
    """

    database: str
    keys: int
    companies: int
    rewrapped: int
    old_keys_needed: bool
    dry_run: bool


def rotate_companies(
    store: Store, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
) -> RotationReport:
    """Rotate every company; with `dry_run`, only count. A rotation that broke off goes on with the rest.

    Raises InvalidInput for a store without secret keys.
    """
    if store.sealing != "on":
        raise InvalidInput(
            f"{store.database}: there is no secret key to seal with; set KEYSTORE_SECRET_KEYS (docs/sealing.md)"
        )
    companies = store.companies_to_rotate()
    sealed = rewrapped = 0
    for done, company in enumerate(companies, 1):
        if dry_run:
            sealed += store.unsealed_values(company)
            rewrapped += store.needs_new_wrapping(company)
        else:
            rotation = store.rotate_company(company)
            sealed += rotation.sealed
            rewrapped += rotation.rewrapped
        if progress is not None:
            progress(done, len(companies))
    if not dry_run:
        store.forget_master_keys()
    needed = bool(rewrapped) if dry_run else any(map(store.needs_new_wrapping, companies))
    return RotationReport(store.database, sealed, len(companies), rewrapped, needed, dry_run)
