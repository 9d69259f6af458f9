"""The watch's measurements: what is looked at, how often, and how long anybody waits for it.

Each question to the database runs in a slot with a deadline, so that one which is frozen holds up no tick. What costs
the database something is paced by what it last cost; what is only asked for when the database answers is not asked for
when it doesn't.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from keystore.errors import KeystoreError, StoreUnavailable
from keystore.records import Burst, Census, SweepRun
from keystore.store import Store
from monitor.alerts import memory, rules
from monitor.alerts.decisions import AlertState, Sample
from monitor.forecast.backtest import JudgedForecast, judge_saved
from monitor.reports.check import SWEEPS_LOOKED_AT
from monitor.reports.load_time import time_load
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from monitor.watch_settings import WatchSettings

ANSWER_WITHIN_S = 5.0
"""For a question that one row answers."""

LOAD_WITHIN_S = 10.0
SURVEY_WITHIN_S = 30.0
SURVEY_EVERY_S = 60.0
SURVEY_SHARE = 50
"""A survey comes again after 50 times as long as the last one took: the database gives it 2 % of its time at most."""

LOADS_KEPT = 20

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class Survey:
    """What is counted over the whole table."""

    census: Census
    largest_company: str | None
    sweeps: list[SweepRun]
    low_on_pre_keys: dict[str, int]
    bursts: list[Burst]
    forecasts: tuple[JudgedForecast, ...]


class Probes:
    """The measurements of one store; used by one thread."""

    def __init__(
        self,
        store: Store,
        settings: WatchSettings,
        *,
        watching_since: datetime,
        ticks: Callable[[], float] = monotonic,
        process_memory: Callable[[], memory.ProcessMemory] = memory.measure,
    ) -> None:
        """`watching_since`: from when on this service could have seen a sweep."""
        self._store = store
        self._settings = settings
        self._watching_since = watching_since
        self._ticks = ticks
        self._process_memory = process_memory
        self._questions = BoundedCalls(1, "watch-question")
        self._loading = BoundedCalls(1, "watch-load")
        self._surveys = BoundedCalls(1, "watch-survey")
        self._survey_due_at = 0.0
        self._largest: str | None = None
        self._loads_ms: deque[float] = deque(maxlen=LOADS_KEPT)

    def ask(self, question: Callable[[], T], within_s: float = ANSWER_WITHIN_S) -> T:
        """The answer to a quick question. Raises what the store raises, StoreUnavailable when it takes too long."""
        return self._questions.call(question, within_s)

    def ask_at_length(self, question: Callable[[], T]) -> T:
        """The same for a question over the whole table."""
        return self._surveys.call(question, SURVEY_WITHIN_S)

    def of_this_machine(self) -> Iterator[Sample]:
        """What can be told whether the database answers or not."""
        yield rules.of_process(self._process_memory())
        folder = embedded_in(self._store.database)
        if folder is not None:
            try:
                usage = shutil.disk_usage(folder)
            except OSError as error:
                log.warning("disk_not_measured", folder=str(folder), error=str(error))
            else:
                yield rules.of_disk(rules.Disk(usage.total - usage.free, usage.free))

    def of_database(self, state: AlertState, now: datetime) -> Iterator[Sample]:
        """What the database can be asked. Raises StoreUnavailable when it stops answering on the way."""
        reports = self.ask(lambda: memory.bot_reports(self._store, now))
        yield from rules.of_bots(reports, _subjects(state, rules.BOT_MEMORY), now)
        yield from self._survey(state, now)
        yield from self._load()

    def _survey(self, state: AlertState, now: datetime) -> Iterator[Sample]:
        began = self._ticks()
        if began < self._survey_due_at:
            return
        try:
            found = self.ask_at_length(lambda: survey(self._store, now))
        except (TimedOut, Busy):
            # A table too large to count in time is no outage: all else may answer.
            log.warning("survey_too_slow", within_s=SURVEY_WITHIN_S)
            return
        finally:
            took_s = self._ticks() - began
            self._survey_due_at = self._ticks() + max(SURVEY_EVERY_S, SURVEY_SHARE * took_s) - took_s
        self._largest = found.largest_company
        yield from rules.of_census(found.census)
        yield rules.of_sweeps(found.sweeps, self._settings.sweep_every_s, self._watching_since, now)
        yield from rules.of_growth(found.forecasts, now)
        yield from rules.of_pre_keys(found.low_on_pre_keys, _subjects(state, rules.PRE_KEYS))
        yield from rules.of_bursts(found.bursts)

    def _load(self) -> Iterator[Sample]:
        """Times a load of the largest company's state: it renews nothing."""
        company = self._largest
        if company is None or not self._store.converted:
            return
        budget_ms, took_ms = self._settings.load_budget_ms, LOAD_WITHIN_S * 1000
        try:
            load = self._loading.call(lambda: time_load(self._store, company, budget_ms, self._ticks), LOAD_WITHIN_S)
            took_ms = load.took_ms
        except (TimedOut, Busy):
            log.warning("load_too_slow", company_id=company, within_s=LOAD_WITHIN_S)
        except StoreUnavailable:
            raise
        except KeystoreError as error:  # A value that can't be read is no matter of time.
            log.warning("load_not_timed", company_id=company, error=str(error))
            return
        self._loads_ms.append(took_ms)
        yield from rules.of_loads(self._loads_ms, budget_ms, company)


def survey(store: Store, now: datetime) -> Survey:
    """Counts the whole table. Raises what the store raises."""
    census = store.census()
    return Survey(
        census=census,
        largest_company=store.largest_company(),
        sweeps=store.sweep_runs(SWEEPS_LOOKED_AT),
        low_on_pre_keys=store.low_on_pre_keys(rules.PRE_KEYS_ENOUGH),
        bursts=store.bursts(now - rules.BURST_TOLD_FOR),
        forecasts=judge_saved(store, census),
    )


def embedded_in(database: str) -> Path | None:
    """The folder of an embedded database, None for a server's."""
    scheme, _, path = database.partition(":///")
    return Path(path).parent if scheme == "sqlite" else None


def _subjects(state: AlertState, rule: str) -> set[str]:
    """The subjects of a rule that were raised, or are about to be."""
    return {subject for of_rule, subject in state.standings if of_rule == rule}
