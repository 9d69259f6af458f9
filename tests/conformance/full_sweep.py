"""A full sweep in the contract's own steps, as the sweeper takes them."""

from keystore import Store
from keystore.records import SweepRun

LEASE_S = 60.0


def sweep(store: Store, holder: str = "tester") -> SweepRun:
    """Sweep every due company once, and return the finished run."""
    lease = store.acquire_lease("sweep", holder, LEASE_S)
    assert lease is not None, "another holder is sweeping"
    run = store.start_sweep(holder)
    due = [company.company_id for company in store.due_companies()]
    if due:
        run = store.sweep_companies(lease, run, due, LEASE_S)
    run = store.finish_sweep(run, 1.5, None)
    store.release_lease(lease)
    return run
