"""What the status page and `/metrics` say of a store: the watch's reports, each kept for some seconds.

A page view counts no table that was just counted, and a large table is counted the more seldom the longer it takes.
Each report stands by itself: one that fails, or doesn't come in time, leaves the others as they are.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Generic, TypeVar

import structlog

from keystore.errors import KeystoreError
from keystore.records import CompanyPage, SweepRun
from keystore.store import Store
from monitor.alerts import mute
from monitor.alerts.decisions import from_json
from monitor.growth import GrowthReport, growth_report
from monitor.reports.check import CheckReport, check_report
from monitor.reports.key_types import TypesReport, types_report
from monitor.reports.load_time import LoadTime, timed_load
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from monitor.watch_settings import WatchSettings

KEPT_FOR_S = 10.0
SHARE = 50
"""A report is kept for 50 times as long as it took: each worker asks for 2 % of the database's time at most."""

FAILURE_KEPT_FOR_S = 2.0
"""However long it took to fail: what was away may be back."""

WITHIN_S = 8.0
"""For all reports of a page together; with sending it, below the 10 s that a scrape or a reader waits."""

SWEEPS_SHOWN = 30
ALERTS = "alerts"
"""The note that the watch keeps its state in."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class ReportResult(Generic[T]):
    """A report as of a moment, or why there is none."""

    value: T | None
    error: str | None
    at: datetime


@dataclass(frozen=True)
class Firing:
    """An alert that stands: its rule, of whom ("" where there is only one), since when, and in words."""

    rule: str
    subject: str
    since: datetime | None
    detail: str


@dataclass(frozen=True)
class Alerts:
    """What fires, oldest first, and until when nobody is told."""

    firing: tuple[Firing, ...]
    muted_until: datetime | None


class CachedReport(Generic[T]):
    """One report and its latest answer; for any number of threads, of which one asks at a time."""

    def __init__(self, name: str, ask: Callable[[], T], ticks: Callable[[], float] = monotonic) -> None:
        self.name = name
        self._ask = ask
        self._ticks = ticks
        self._slot = BoundedCalls(1, f"page-{name}")
        self._latest: ReportResult[T] | None = None
        self._good_until = 0.0

    def answer(self, within_s: float) -> ReportResult[T]:
        """The report, asked anew if it is old. One that takes too long comes as it was, where it ever was.

        With no time left it isn't asked at all: what made the others late is still at work.
        """
        latest = self._fresh()
        if latest is not None:
            return latest
        try:
            if within_s <= 0:
                raise TimedOut("it wasn't asked for: the reports before it took all the time there was")
            return self._slot.call(self._renewed, within_s)
        except (TimedOut, Busy) as error:
            latest = self._latest
            return latest if latest is not None else ReportResult(None, str(error), datetime.now(UTC))

    def _fresh(self) -> ReportResult[T] | None:
        return self._latest if self._ticks() < self._good_until else None

    def _renewed(self) -> ReportResult[T]:
        latest = self._fresh()  # Whoever had the slot before may have asked already.
        if latest is not None:
            return latest
        began = self._ticks()
        try:
            answer = ReportResult(self._ask(), None, datetime.now(UTC))
        except KeystoreError as error:
            answer = ReportResult(None, str(error), datetime.now(UTC))
        except Exception:  # The edge of the report: the others are told all the same.
            log.exception("report_failed", report=self.name)
            answer = ReportResult(None, "it failed; the service's log says why", datetime.now(UTC))
        self._latest = answer
        ended = self._ticks()
        good_for_s = max(KEPT_FOR_S, SHARE * (ended - began)) if answer.error is None else FAILURE_KEPT_FOR_S
        self._good_until = ended + good_for_s
        return answer


class Deadline:
    """What is left of a time that several waits share."""

    def __init__(self, seconds: float = WITHIN_S, ticks: Callable[[], float] = monotonic) -> None:
        self._ticks = ticks
        self._ends_at = ticks() + seconds

    @property
    def left_s(self) -> float:
        """How long may still be waited."""
        return max(0.0, self._ends_at - self._ticks())


class CachedReports:
    """The reports on one store, each kept by itself; `store` opens it, and raises StoreUnavailable while it can't."""

    def __init__(
        self,
        store: Callable[[], Store],
        settings: WatchSettings,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        def kept(name: str, ask: Callable[[Store], T]) -> CachedReport[T]:
            return CachedReport(name, lambda: ask(store()), ticks)

        self._store = store
        self._companies = BoundedCalls(2, "page-companies")
        self.check: CachedReport[CheckReport] = kept("check", lambda store: check_report(store, settings.sweep_every_s))
        self.types: CachedReport[TypesReport] = kept("types", types_report)
        self.growth: CachedReport[GrowthReport] = kept("growth", growth_report)
        self.load: CachedReport[LoadTime] = kept("load", lambda store: timed_load(store, settings.load_budget_ms))
        self.sweeps: CachedReport[list[SweepRun]] = kept("sweeps", lambda store: store.sweep_runs(SWEEPS_SHOWN))
        self.alerts: CachedReport[Alerts] = kept("alerts", alerts)
        self.events: CachedReport[dict[tuple[str, str], int]] = kept("events", events_24h)

    @property
    def database(self) -> str:
        """Which one all of it is about. Raises StoreUnavailable."""
        return self._store().database

    def companies(self, search: str, limit: int, offset: int, within_s: float) -> ReportResult[CompanyPage]:
        """Some of the companies, as they are now."""
        now = datetime.now(UTC)
        try:
            page = self._companies.call(lambda: self._store().company_page(search, limit, offset), within_s)
        except KeystoreError as error:
            return ReportResult(None, str(error), now)
        return ReportResult(page, None, now)


def alerts(store: Store) -> Alerts:
    """What the watch has written down: what fires, and whether it is muted."""
    note = store.recall(ALERTS)
    try:
        firing = {} if note is None else from_json(note.document).firing()
    except ValueError as error:
        log.warning("alerts_not_readable", error=str(error))
        firing = {}
    told = tuple(
        Firing(rule, subject, of.above_since or of.raised_at, of.detail) for (rule, subject), of in firing.items()
    )
    return Alerts(told, mute.muted_until(store, datetime.now(UTC)))


def events_24h(store: Store) -> dict[tuple[str, str], int]:
    """What happened to keys in the last 24 hours, by type and event."""
    counted: Counter[tuple[str, str]] = Counter()
    for count in store.counts(store.now() - timedelta(hours=24)):
        counted[count.key_type, count.event] += count.keys
    return dict(counted)
