"""The reports that the status page and `/metrics` show, each cached for some seconds.

A page view doesn't count a table that was just counted, and the longer a report takes, the longer it is cached. Each
report is independent: if it fails or is late, the others are shown all the same.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Generic, TypeVar

import structlog

from keystore.errors import KeystoreError
from keystore.records import CompanyOrder, CompanyPage
from keystore.store import Store
from monitor.alerts.decisions import AlertState
from monitor.alerts.memory import bot_reports
from monitor.alerts.stored_state import muted_until, read_state
from monitor.growth import growth_report
from monitor.instances import instances
from monitor.reports.check import check_report
from monitor.reports.key_types import types_report
from monitor.reports.load_time import timed_load
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from monitor.watch_settings import WatchSettings

CACHED_FOR_S = 10.0
CACHE_FACTOR = 50
"""Ratio of the time that a report is cached to the time it took. A worker takes at most 2 % of the database's time."""

FAILURE_CACHED_FOR_S = 2.0
"""Time that a failure is cached, however long it took: the database may be back."""

REPORTS_TIMEOUT_S = 8.0
"""Time for all reports of a page together. With sending the page it stays below the 10 s that a scrape or a reader
waits."""

SWEEPS_SHOWN = 30

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class ReportResult(Generic[T]):
    """A report as of a moment, or the error that it ended with.

    `late` is true for a result that is shown again because a newer one didn't come in time.
    """

    value: T | None
    error: str | None
    at: datetime
    late: bool = False


@dataclass(frozen=True)
class FiringAlert:
    """An alert that fires; `subject` is "" for a rule that has only one."""

    rule: str
    subject: str
    since: datetime | None
    detail: str


@dataclass(frozen=True)
class Alerts:
    """The alerts that fire, oldest first, and the end of the mute; None if alerts aren't muted."""

    firing: tuple[FiringAlert, ...]
    muted_until: datetime | None


class CachedReport(Generic[T]):
    """A report and its latest result, for any number of threads, of which one makes the report at a time."""

    def __init__(self, name: str, make: Callable[[], T], ticks: Callable[[], float] = monotonic) -> None:
        self.name = name
        self._make = make
        self._ticks = ticks
        self._calls = BoundedCalls(1, f"report-{name}")
        self._latest: ReportResult[T] | None = None
        self._fresh_until = 0.0

    def result(self, within_s: float) -> ReportResult[T]:
        """Return the report, made again if it is old. If that takes too long, return the latest result, if any.

        With no time left the report isn't made at all: the work that made the others late still runs.
        """
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        try:
            if within_s <= 0:
                raise TimedOut("it wasn't asked for: the reports before it took all the time there was")
            return self._calls.call(self._refresh, within_s)
        except (TimedOut, Busy) as error:
            if self._latest is None:
                return ReportResult(None, str(error), datetime.now(UTC))
            return replace(self._latest, late=True)

    def _fresh(self) -> ReportResult[T] | None:
        return self._latest if self._ticks() < self._fresh_until else None

    def _refresh(self) -> ReportResult[T]:
        fresh = self._fresh()  # An earlier call may have made it while this one waited.
        if fresh is not None:
            return fresh
        started_at = self._ticks()
        value, error = None, None
        try:
            value = self._make()
        except KeystoreError as failure:
            error = str(failure)
        except Exception:  # The edge of the report: the other reports are shown all the same.
            log.exception("report_failed", report=self.name)
            error = "it failed; the service's log says why"
        self._latest = result = ReportResult(value, error, datetime.now(UTC))
        now = self._ticks()
        fresh_for_s = max(CACHED_FOR_S, CACHE_FACTOR * (now - started_at))
        self._fresh_until = now + (fresh_for_s if result.error is None else FAILURE_CACHED_FOR_S)
        return result


class Deadline:
    """The end of a time that several waits share."""

    def __init__(self, seconds: float = REPORTS_TIMEOUT_S, ticks: Callable[[], float] = monotonic) -> None:
        self._ticks = ticks
        self._ends_at = ticks() + seconds

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, 0 after it."""
        return max(0.0, self._ends_at - self._ticks())


class CachedReports:
    """The reports on one store; `store` opens it, and raises StoreUnavailable while it can't."""

    def __init__(self, store: Callable[[], Store], settings: WatchSettings) -> None:
        def cached(name: str, make: Callable[[Store], T]) -> CachedReport[T]:
            return CachedReport(name, lambda: make(store()))

        self._store = store
        self._companies = BoundedCalls(2, "report-companies")
        self.check = cached("check", lambda store: check_report(store, settings.sweep_every_s))
        self.types = cached("types", types_report)
        self.growth = cached("growth", growth_report)
        self.load = cached("load", lambda store: timed_load(store, settings.load_budget_ms))
        self.sweeps = cached("sweeps", lambda store: store.sweep_runs(SWEEPS_SHOWN))
        self.alerts = cached("alerts", alerts)
        self.events = cached("events", events_24h)
        self.bots = cached("bots", lambda store: bot_reports(store, store.now()))
        self.instances = cached("instances", instances)

    @property
    def database(self) -> str:
        """The database that the reports are about. Raises StoreUnavailable."""
        return self._store().database

    def companies(
        self, search: str, limit: int, offset: int, order: CompanyOrder, within_s: float
    ) -> ReportResult[CompanyPage]:
        """Return a page of the companies, which isn't cached."""
        now = datetime.now(UTC)
        try:
            page = self._companies.call(lambda: self._store().company_page(search, limit, offset, order), within_s)
            return ReportResult(page, None, now)
        except KeystoreError as error:
            return ReportResult(None, str(error), now)


def alerts(store: Store) -> Alerts:
    """Return the alerts that fire, as the watch wrote them down."""
    firing = (read_state(store) or AlertState()).firing()
    firing_alerts = tuple(
        FiringAlert(rule, subject, standing.above_since or standing.raised_at, standing.detail)
        for (rule, subject), standing in firing.items()
    )
    return Alerts(firing_alerts, muted_until(store, datetime.now(UTC)))


def events_24h(store: Store) -> dict[tuple[str, str], int]:
    """Return the events of keys in the last 24 hours, counted by type and event."""
    events: Counter[tuple[str, str]] = Counter()
    for count in store.counts(store.now() - timedelta(hours=24)):
        events[count.key_type, count.event] += count.keys
    return dict(events)
