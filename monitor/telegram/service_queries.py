"""The calls that the Telegram bot may make to the service, each with a time limit.

While the database is down or hangs, each call raises StoreUnavailable. The bot still has time to report that. Calls
succeed again once the database is back.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from keystore.store import Store
from monitor.alerts.stored_state import muted_until
from monitor.alerts.watch import Watch
from monitor.growth import GrowthReport, growth_report
from monitor.reports.check import CheckReport, check_report
from monitor.reports.key_types import TypesReport, types_report
from monitor.reports.load_time import DbHealth, db_health
from monitor.reports.perf import PerfReport, perf_report
from monitor.running.bounded_calls import BoundedCalls
from monitor.sweeper import SweepReport, sweep
from monitor.watch_settings import WatchSettings

QUERY_TIMEOUT_S = 7.0
"""Time limit of a call in seconds. The whole reply, including saving Telegram's update offset and sending, takes at
most 10 s."""

CONCURRENT_QUERIES = 2
"""Number of queries that may run at once; others wait for a free thread."""

PERF_ROUNDS = 3
"""Number of timings that a perf report from Telegram takes of each operation."""

T = TypeVar("T")


@dataclass
class ServiceQueries:
    """Reports and actions for the Telegram bot.

    A call that takes longer than QUERY_TIMEOUT_S raises TimedOut. It raises Busy if earlier calls occupy all threads
    for that time. Both are StoreUnavailable. A sweep continues after TimedOut, and ends early once `stopping` is set.
    """

    store: Store
    settings: WatchSettings
    watch: Watch
    stopping: threading.Event

    def __post_init__(self) -> None:
        self._queries = BoundedCalls(CONCURRENT_QUERIES, "telegram-query")
        self._long_work = BoundedCalls(1, "telegram-work")
        """Sweeps and perf runs have a thread of their own, so that they never block the queries."""

    def db_health(self) -> DbHealth:
        """The `check` report and a timed load."""
        return self._ask(lambda: db_health(self.store, self.settings))

    def check(self) -> CheckReport:
        """The `check` report."""
        return self._ask(lambda: check_report(self.store, self.settings.sweep_every_s))

    def types(self) -> TypesReport:
        """The `types` report."""
        return self._ask(lambda: types_report(self.store))

    def growth(self) -> GrowthReport:
        """The `growth` report."""
        return self._ask(lambda: growth_report(self.store))

    def perf(self) -> PerfReport:
        """The `perf` report, from a few rounds."""
        budget_ms = self.settings.load_budget_ms
        return self._long_work.call(lambda: perf_report(self.store, budget_ms, rounds=PERF_ROUNDS), QUERY_TIMEOUT_S)

    def sweep(self) -> SweepReport:
        """Sweep now."""
        return self._long_work.call(lambda: sweep(self.store, stopping=self.stopping), QUERY_TIMEOUT_S)

    def status(self) -> str:
        """The state of the service itself."""
        return self._ask(self.watch.status)

    def mute(self, until: datetime) -> None:
        """Send no notices until then."""
        self._ask(lambda: self.watch.mute(until))

    def unmute(self) -> list[str]:
        """Send notices again; the lines of the alerts that fire."""
        return self._ask(self.watch.unmute)

    def muted_until(self) -> datetime | None:
        """The end of the current mute; None without one."""
        return self._ask(lambda: muted_until(self.store, datetime.now(UTC)))

    def _ask(self, query: Callable[[], T]) -> T:
        return self._queries.call(query, QUERY_TIMEOUT_S)
