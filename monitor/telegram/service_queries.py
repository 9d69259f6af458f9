"""What the bot can ask of the service, and that no question waits for ever.

The bot sees nothing else of it. With the database stopped, or standing still, each of these raises StoreUnavailable in
time for an answer that says so; and works again once the database does.
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
"""With saving the update's offset before, and sending the answer after it, below the 10 s that an answer may take."""

QUESTIONS_AT_ONCE = 2
PERF_ROUNDS = 3

T = TypeVar("T")


class WatchControls(Protocol):
    """The part of the watch that a chat may use."""

    def status(self) -> str:
        """The state of the service in plain text, without asking the database."""
        ...

    def mute(self, until: datetime) -> None:
        """Send no notices until then."""
        ...

    def unmute(self) -> None:
        """Send notices again."""
        ...


class ServiceQueries:
    """The questions that the bot may put to the service.

    Each answers within `within_s` or raises StoreUnavailable, and raises Busy while too many wait. A sweep goes on
    after TimedOut, and ends early once `stopping` is set.
    """

    def __init__(
        self,
        store: Store,
        settings: WatchSettings,
        watch: WatchControls,
        stopping: threading.Event,
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._store = store
        self._settings = settings
        self._watch = watch
        self._stopping = stopping
        self._within_s = within_s
        self._questions = BoundedCalls(QUESTIONS_AT_ONCE, "telegram-question")
        self._work = BoundedCalls(1, "telegram-work")
        """Apart from the questions: a long sweep leaves them their threads."""

    def db_health(self) -> DbHealth:
        """The check, and a timed load."""
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
        """The `perf` report, of a few rounds."""
        budget_ms = self._settings.load_budget_ms
        return self._work.call(lambda: perf_report(self._store, budget_ms, rounds=PERF_ROUNDS), self._within_s)

    def sweep(self) -> SweepReport:
        """Sweep now."""
        return self._work.call(lambda: sweep(self._store, stopping=self._stopping), self._within_s)

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
        """The end of the mute in force; None without one."""
        return self._ask(lambda: mute.muted_until(self._store, datetime.now(UTC)))

    def _ask(self, question: Callable[[], T]) -> T:
        return self._questions.call(question, self._within_s)
