"""Deletes expired keys. One run is a function, apart from the loop that repeats it.

One sweeper at a time works on a database: it holds a lease. Each batch renews the lease in the transaction that
deletes, so a sweeper that lost its lease finds out before it deletes anything. A batch holds a few companies; one that
times out is halved (the idea is river's `job_cleaner`). A run is recorded as it goes.

A scheduled sweep holds companies back that would lose an unusual share of their sessions (`monitor/held_back.py`).
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter

import structlog

from keystore.errors import KeystoreError, StoreUnavailable
from keystore.records import Census, DueCompany, DueSessions, Lease, SweepRun
from keystore.store import Store
from monitor.held_back import LONGEST_LEAD, error_of, error_of_clock, losing_most
from monitor.running.clock_steps import ClockLead
from monitor.running.leader import new_holder

LEASE = "sweep"
LEASE_S = 30.0
BATCH_KEYS = 5_000
"""Due keys in a batch, roughly: a company is never split, because its guards look at all of its keys."""

REST = 9.0
"""The service's rest after a batch, in multiples of the batch's duration: nobody waits for a sweep, and bots share the
database's processors with it. (The idea is autovacuum's cost delay.)"""

LONGEST_REST_S = 5.0
"""The limit of a rest, far below the duration of the lease."""

log = structlog.get_logger()


@dataclass(frozen=True)
class SweepReport:
    """One sweep; with `dry_run`, the keys that it would delete.

    `skipped`: another sweeper is at work, so nothing was done. `stopped`: the sweep was stopped before its end.
    `losing_most`: the companies that lose an unusual share of their sessions; with `held_back` they were left out, or
    everything was, because the clock went ahead.
    """

    database: str
    deleted: int
    by_type: dict[str, int]
    took_ms: float
    skipped: bool = False
    stopped: bool = False
    dry_run: bool = False
    losing_most: tuple[DueSessions, ...] = ()
    held_back: bool = False

    @property
    def keys(self) -> int:
        """The number of deleted keys, under the name that all commands share."""
        return self.deleted


def sweep(
    store: Store,
    *,
    batch_keys: int = BATCH_KEYS,
    rest: float = 0.0,
    holding_back: bool = False,
    clock: ClockLead | None = None,
    stopping: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepReport:
    """Sweep everything that is due, once. After each batch, rest `rest` times as long as the batch took.

    With `holding_back` it leaves out the companies that would lose an unusual share of their sessions, and records that
    as the run's error. It leaves out everything while `clock`, the database's, is far ahead of the time that passed. A
    sweep that leaves out nothing also empties the trash.

    Ends between two batches once `stopping` is set. Calls `progress` with the companies done and all due ones. Raises
    what the store raises; the failure is recorded if the database still accepts it.
    """
    began = perf_counter()
    sweeper = new_holder()
    lease = store.acquire_lease(LEASE, sweeper, LEASE_S)
    if lease is None:
        return SweepReport(store.database, 0, {}, _ms_since(began), skipped=True)
    run = store.start_sweep(sweeper)
    stopping = threading.Event() if stopping is None else stopping
    stopped = False
    try:
        lead = clock.lead(run.started_at) if clock is not None else timedelta(0)
        if lead >= LONGEST_LEAD:
            store.finish_sweep(run, _ms_since(began), error_of_clock(lead))
            store.release_lease(lease)
            return SweepReport(store.database, 0, {}, _ms_since(began), held_back=True)
        losing = losing_most(store.due_sessions())
        held = {company.company_id for company in losing} if holding_back else set()
        due = [company for company in store.due_companies() if company.company_id not in held]
        done, rest_s = 0, 0.0
        for batch in _batches(due, batch_keys):
            if stopping.wait(rest_s):
                stopped = True
                break
            batch_began = perf_counter()
            run = _sweep_batch(store, lease, run, batch)
            rest_s = min(rest * (perf_counter() - batch_began), LONGEST_REST_S)
            done += len(batch)
            if progress is not None:
                progress(done, len(due))
        if not stopped and not held:  # A clock that jumped ahead makes the trash seem old too.
            store.empty_trash()
    except (KeystoreError, KeyboardInterrupt, SystemExit) as error:
        reason = str(error) if isinstance(error, KeystoreError) else "interrupted"
        _record_failure(store, lease, run, _ms_since(began), reason)
        raise
    incomplete = "stopped before its end" if stopped else error_of(losing) if held else None
    run = store.finish_sweep(run, _ms_since(began), incomplete)
    store.release_lease(lease)
    return SweepReport(
        store.database,
        run.deleted,
        run.by_type,
        run.took_ms,
        stopped=stopped,
        losing_most=losing,
        held_back=bool(held),
    )


def sweep_and_log(store: Store, stopping: threading.Event, clock: ClockLead | None = None) -> float | None:
    """Sweep once, as a job of a loop, and log the result. `clock` is the lead of the database's clock.

    If another sweeper holds the lease, returns the seconds until the next try: it may be at work, or have died.
    """
    report = sweep(store, rest=REST, holding_back=True, clock=clock, stopping=stopping)
    if report.skipped:
        log.info("sweep_skipped", database=report.database, reason="another sweeper is at work")
        return LEASE_S
    if report.held_back and not report.losing_most:
        log.warning("sweep_held_back", database=report.database, reason="the clock of the database went far ahead")
    elif report.held_back:
        log.warning(
            "sweep_held_back",
            database=report.database,
            companies=len(report.losing_most),
            due_sessions=sum(company.due for company in report.losing_most),
            sessions=sum(company.total for company in report.losing_most),
            largest=report.losing_most[0].company_id,
        )
    log.info(
        "sweep_finished",
        database=report.database,
        deleted=report.deleted,
        by_type=report.by_type,
        took_ms=report.took_ms,
        stopped=report.stopped,
    )
    return None


def due_now(census: Census) -> dict[str, int]:
    """The keys that a sweep at the time of the census would delete, by type."""
    return {count.key_type: count.expired for count in census.by_type if count.expired}


def _sweep_batch(store: Store, lease: Lease, run: SweepRun, company_ids: list[str]) -> SweepRun:
    try:
        return store.sweep_companies(lease, run, company_ids, LEASE_S)
    except StoreUnavailable:
        if len(company_ids) == 1:
            raise
        half = len(company_ids) // 2
        log.warning("sweep_batch_halved", companies=len(company_ids))
        run = _sweep_batch(store, lease, run, company_ids[:half])
        return _sweep_batch(store, lease, run, company_ids[half:])


def _record_failure(store: Store, lease: Lease, run: SweepRun, took_ms: float, reason: str) -> None:
    try:
        store.finish_sweep(run, took_ms, reason)
        store.release_lease(lease)
    except KeystoreError as error:
        log.warning("sweep_failure_not_recorded", error=str(error))


def _batches(due: list[DueCompany], batch_keys: int) -> Iterator[list[str]]:
    """Groups of companies, in order, with about `batch_keys` due keys each."""
    batch: list[str] = []
    keys = 0
    for company in due:
        if batch and keys + company.keys > batch_keys:
            yield batch
            batch, keys = [], 0
        batch.append(company.company_id)
        keys += company.keys
    if batch:
        yield batch


def _ms_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 1)
