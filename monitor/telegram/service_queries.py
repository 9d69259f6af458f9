"""The calls that the bot may make to the service, each with a time limit.

While the database is stopped or hangs, each call raises StoreUnavailable early enough for an answer that says so. Each
works again as soon as the database does.
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

ANSWER_WITHIN_S = 7.0
"""Time limit of a call. Saving the offset before it and sending the answer after it stay within 10 s altogether."""

CONCURRENT_QUERIES = 2
PERF_ROUNDS = 3

T = TypeVar("T")


@dataclass
class ServiceQueries:
    """Reports and actions for the bot.

    Each call ends within ANSWER_WITHIN_S, or raises TimedOut; it raises Busy while too many others wait. A sweep
    continues after TimedOut, and ends early once `stopping` is set.
    """

    store: Store
    settings: WatchSettings
    watch: Watch
    stopping: threading.Event

    def __post_init__(self) -> None:
        self._queries = BoundedCalls(CONCURRENT_QUERIES, "telegram-query")
        self._long_work = BoundedCalls(1, "telegram-work")
        """Separate, so that a long sweep takes no thread from the queries."""

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
        return self._long_work.call(lambda: perf_report(self.store, budget_ms, rounds=PERF_ROUNDS), ANSWER_WITHIN_S)

    def sweep(self) -> SweepReport:
        """Sweep now."""
        return self._long_work.call(lambda: sweep(self.store, stopping=self.stopping), ANSWER_WITHIN_S)

    def status(self) -> str:
        """The state of the service itself."""
        return self._ask(self.watch.status)

    def mute(self, until: datetime) -> None:
        """Send no notices until then."""
        self._ask(lambda: self.watch.mute(until))

    def unmute(self) -> None:
        """Send notices again."""
        self._ask(self.watch.unmute)

    def muted_until(self) -> datetime | None:
        """The end of the current mute; None without one."""
        return self._ask(lambda: muted_until(self.store, datetime.now(UTC)))

    def _ask(self, query: Callable[[], T]) -> T:
        return self._queries.call(query, ANSWER_WITHIN_S)
