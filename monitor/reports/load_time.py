"""The time that a bot's start waits for: a load of the largest company's state. It renews nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.reports.check import CheckReport, Verdict, check_report
from monitor.watch_settings import WatchSettings


@dataclass(frozen=True)
class LoadTime:
    """The duration of a load of a company's state. `company` is None if no load was timed."""

    company: str | None
    keys: int
    took_ms: float
    budget_ms: float

    @property
    def within_budget(self) -> bool:
        """True if the load took no longer than its budget."""
        return self.took_ms <= self.budget_ms


@dataclass(frozen=True)
class DbHealth:
    """The check, a load timed against the budget, and the reason why the database takes no writes (None if it does)."""

    check: CheckReport
    load: LoadTime
    write_error: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The check's verdict, but never "ok" with a load over the budget, and "critical" without writes."""
        if self.write_error is not None:
            return "critical"
        if self.check.verdict == "ok" and not self.load.within_budget:
            return "warning"
        return self.check.verdict


def db_health(store: Store, settings: WatchSettings) -> DbHealth:
    """Check the table, time a load, and try a write."""
    write_error = None
    try:
        store.probe_write()
    except KeystoreError as error:
        write_error = str(error)
    load = timed_load(store, settings.load_budget_ms)
    return DbHealth(check_report(store, settings.sweep_every_s), load, write_error)


def timed_load(store: Store, budget_ms: float) -> LoadTime:
    """Time a load of the largest company's state.

    No load is timed in an empty database, nor in one that is not converted: its values can't be read.
    """
    company = store.largest_company() if store.converted else None
    return LoadTime(None, 0, 0.0, budget_ms) if company is None else time_load(store, company, budget_ms)


def time_load(store: Store, company: str, budget_ms: float, ticks: Callable[[], float] = perf_counter) -> LoadTime:
    """Time a load of this company's state; `ticks` is a clock in seconds."""
    began = ticks()
    keys = store.load(company).total
    return LoadTime(company, keys, round((ticks() - began) * 1000, 1), budget_ms)
