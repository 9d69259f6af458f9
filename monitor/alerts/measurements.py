"""The watch's measurements: of this machine and of the database, each at its own pace and with a time limit.

Every question to the database runs in a thread with a time limit, so a frozen database holds up no look. The more time
a count of the table takes, the longer the pause after it. While the database is away it isn't asked anything else.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from keystore.errors import KeystoreError, StoreUnavailable
from keystore.records import SweepRun
from keystore.sql.link import StatementTimedOut
from keystore.store import Store
from monitor.alerts import memory, rules, samples
from monitor.alerts.decisions import AlertState, Sample
from monitor.alerts.lost_writes import lost_writes
from monitor.forecast.backtest import judge_saved
from monitor.reports.check import SWEEPS_LOOKED_AT
from monitor.reports.load_time import time_load
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from monitor.running.clock_steps import EventAge
from monitor.watch_settings import WatchSettings

LOAD_WITHIN_S = 10.0
SURVEY_WITHIN_S = 30.0
"""Time limit for a question that reads the whole table."""

SURVEY_EVERY_S = 60.0
SURVEY_SHARE = 50
"""A survey is repeated after 50 times as long as the last one took: it takes at most 2 % of the database's time."""

LATEST_LOADS = 20
"""Number of timed loads that are judged together."""

log = structlog.get_logger()


@dataclass
class Measurements:
    """The measurements of one store, for one thread. From `watching_since` on this service could have seen a sweep."""

    store: Store
    settings: WatchSettings
    questions: BoundedCalls
    surveys: BoundedCalls
    watching_since: datetime
    ticks: Callable[[], float]
    process_memory: Callable[[], memory.ProcessMemory]

    def __post_init__(self) -> None:
        self._loads = BoundedCalls(1, "watch-load")
        self._heartbeat_ages: dict[str, EventAge] = {}
        self._reachable_at = self.ticks()
        self._survey_due_at = 0.0
        self._largest_company: str | None = None
        self._sweep_age = EventAge(self.ticks)
        self._loads_ms: deque[float] = deque(maxlen=LATEST_LOADS)

    def of_this_machine(self) -> Iterator[Sample]:
        """The samples that don't need the database."""
        yield samples.of_process(self.process_memory())
        folder = embedded_in(self.store.database)
        if folder is not None:
            try:
                usage = shutil.disk_usage(folder)
            except OSError as error:
                log.warning("disk_not_measured", folder=str(folder), error=str(error))
            else:
                yield samples.of_disk(usage.total - usage.free, usage.free)

    def of_database(self, state: AlertState, now: datetime) -> Iterator[Sample]:
        """The samples that the database is asked for. Raises KeystoreError when it stops answering or taking writes."""
        self.questions.call(self.store.probe_write)
        reports = self.questions.call(lambda: memory.bot_reports(self.store, now))
        yield from samples.of_bots(
            reports,
            self._ages(reports, now),
            state,
            timedelta(seconds=self.ticks() - self._reachable_at),
            self.settings.zone,
        )
        lost = self.questions.call(lambda: lost_writes(self.store, now))
        yield from samples.of_lost_writes(lost, state.subjects(rules.WENT_BACK))
        unreadable = self.questions.call(self.store.unreadable)
        yield from samples.of_unreadable(unreadable, state.subjects(rules.UNREADABLE))
        yield from self._survey(state, now)
        yield from self._load()

    def miss_no_earlier_heartbeat(self) -> None:
        """Let a bot be silent from this moment on at the earliest: heartbeats couldn't arrive, or have no true time."""
        self._reachable_at = self.ticks()

    def _ages(self, reports: Mapping[str, memory.BotReport], now: datetime) -> dict[str, timedelta]:
        """The time since the last heartbeat of each bot, which a step of the clock doesn't change."""
        self._heartbeat_ages = {
            company: self._heartbeat_ages.get(company) or EventAge(self.ticks) for company in reports
        }
        return {
            company: timedelta(seconds=self._heartbeat_ages[company].seconds(report.reported_at, now))
            for company, report in reports.items()
        }

    def _survey(self, state: AlertState, now: datetime) -> list[Sample]:
        """The samples of the whole table; none while a survey isn't due yet."""
        began = self.ticks()
        if began < self._survey_due_at:
            return []
        try:
            self._largest_company, counted = self.surveys.call(lambda: self._counted(state, now), SURVEY_WITHIN_S)
        except (TimedOut, Busy, StatementTimedOut):
            # A table too large to count in time is no outage: all else may answer.
            log.warning("survey_too_slow", within_s=SURVEY_WITHIN_S)
            return []
        finally:
            took_s = self.ticks() - began
            self._survey_due_at = self.ticks() + max(SURVEY_EVERY_S, SURVEY_SHARE * took_s) - took_s
        return counted

    def _counted(self, state: AlertState, now: datetime) -> tuple[str | None, list[Sample]]:
        """The largest company, and the samples that need a count of the whole table."""
        store = self.store
        census, largest_company = store.census(), store.largest_company()
        runs = store.sweep_runs(SWEEPS_LOOKED_AT)
        low_on_pre_keys = store.low_on_pre_keys(rules.PRE_KEYS_ENOUGH)
        return largest_company, [
            *samples.of_census(census),
            self._sweeper(runs, now),
            *samples.of_held_back(runs),
            *samples.of_growth(judge_saved(store, census), now),
            *samples.of_pre_keys(low_on_pre_keys, state.subjects(rules.PRE_KEYS)),
            *samples.of_bursts(store.bursts(now - rules.BURST_REPORTED_FOR), now, self.settings.zone),
        ]

    def _sweeper(self, runs: list[SweepRun], now: datetime) -> Sample:
        """The time since the last sweep, which a step of the clock neither hides nor makes up."""
        since, event = samples.last_sweep(runs, self.watching_since)
        return samples.of_sweeps(event, self._sweep_age.seconds(since, now), self.settings.sweep_every_s)

    def _load(self) -> Iterator[Sample]:
        """Time a load of the largest company's state, which renews no key."""
        company = self._largest_company
        if company is None or not self.store.converted:
            return
        budget_ms, took_ms = self.settings.load_budget_ms, LOAD_WITHIN_S * 1000
        try:
            load = self._loads.call(lambda: time_load(self.store, company, budget_ms, self.ticks), LOAD_WITHIN_S)
            took_ms = load.took_ms
        except (TimedOut, Busy):
            log.warning("load_too_slow", company_id=company, within_s=LOAD_WITHIN_S)
        except StoreUnavailable:
            raise
        except KeystoreError as error:  # An unreadable value says nothing about the time that a load takes.
            log.warning("load_not_timed", company_id=company, error=str(error))
            return
        self._loads_ms.append(took_ms)
        yield from samples.of_loads(self._loads_ms, budget_ms, company)


def embedded_in(database: str) -> Path | None:
    """The folder of an embedded database; None for a server's."""
    scheme, _, path = database.partition(":///")
    return Path(path).parent if scheme == "sqlite" else None
