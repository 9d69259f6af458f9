"""The calls that the bot may make to the service, each with a time limit.

While the database is stopped or hangs, each call raises StoreUnavailable early enough for an answer that says so. Each
works again as soon as the database does.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from keystore.store import Store
from monitor.alerts import mute
from monitor.growth import GrowthReport, growth_report
from monitor.reports.check import CheckReport, check_report
from monitor.reports.key_types import TypesReport, types_report
from monitor.reports.load_time import DbHealth, db_health
from monitor.reports.perf import PerfReport, perf_report
from monitor.running.bounded_calls import BoundedCalls
from monitor.sweeper import SweepReport, sweep
from monitor.watch_settings import WatchSettings

ANSWER_WITHIN_S = 7.0
"""Time limit of a call. Saving the offset before it and sending the answer after it stay within 10 s altogether."""

CONCURRENT_QUERIES = 2
PERF_ROUNDS = 3

T = TypeVar("T")


class WatchControls(Protocol):
    """The methods of the watch that a chat may use."""

    def status(self) -> str:
        """The state of the service in plain text, without asking the database."""

    def mute(self, until: datetime) -> None:
        """Send no notices until then."""

    def unmute(self) -> None:
        """Send notices again."""


class ServiceQueries:
    """Reports and actions for the bot.

    Each call ends within ANSWER_WITHIN_S, or raises TimedOut; it raises Busy while too many others wait. A sweep
    continues after TimedOut, and ends early once `stopping` is set.
    """

    def __init__(self, store: Store, settings: WatchSettings, watch: WatchControls, stopping: threading.Event) -> None:
        self._store = store
        self._settings = settings
        self._watch = watch
        self._stopping = stopping
        self._queries = BoundedCalls(CONCURRENT_QUERIES, "telegram-query")
        self._long_work = BoundedCalls(1, "telegram-work")
        """Separate, so that a long sweep takes no thread from the queries."""

    def db_health(self) -> DbHealth:
        """The `check` report and a timed load."""
        return self._ask(lambda: db_health(self._store, self._settings))

    def check(self) -> CheckReport:
        """The `check` report."""
        return self._ask(lambda: check_report(self._store, self._settings.sweep_every_s))

    def types(self) -> TypesReport:
        """The `types` report."""
        return self._ask(lambda: types_report(self._store))

    def growth(self) -> GrowthReport:
        """The `growth` report."""
        return self._ask(lambda: growth_report(self._store))

    def perf(self) -> PerfReport:
        """The `perf` report, from a few rounds."""
        budget_ms = self._settings.load_budget_ms
        return self._long_work.call(lambda: perf_report(self._store, budget_ms, rounds=PERF_ROUNDS), ANSWER_WITHIN_S)

    def sweep(self) -> SweepReport:
        """Sweep now."""
        return self._long_work.call(lambda: sweep(self._store, stopping=self._stopping), ANSWER_WITHIN_S)

    def status(self) -> str:
        """The state of the service itself."""
        return self._ask(self._watch.status)

    def mute(self, until: datetime) -> None:
        """Send no notices until then."""
        self._ask(lambda: self._watch.mute(until))

    def unmute(self) -> None:
        """Send notices again."""
        self._ask(self._watch.unmute)

    def muted_until(self) -> datetime | None:
        """The end of the current mute; None without one."""
        return self._ask(lambda: mute.muted_until(self._store, datetime.now(UTC)))

    def _ask(self, query: Callable[[], T]) -> T:
        return self._queries.call(query, ANSWER_WITHIN_S)
