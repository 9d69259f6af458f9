"""What the bot can ask of the service, and that no question waits for ever.

The bot sees nothing else of it. With the database stopped, or standing still, each of these raises StoreUnavailable in
time for an answer that says so; and works again once the database does.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import TypeVar

from keystore.store import Store
from monitor.growth import GrowthReport, growth_report
from monitor.reports.check import CheckReport, Verdict, check_report
from monitor.reports.key_types import TypesReport, types_report
from monitor.reports.perf import PerfReport, perf_report
from monitor.running.bounded_calls import Slots
from monitor.sweeper import SweepReport, sweep

ANSWER_WITHIN_S = 7.0
"""With saving the update's offset before, and sending the answer after it, below the 10 s that an answer may take."""

QUESTIONS_AT_ONCE = 2
PERF_ROUNDS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class LoadTime:
    """How long the largest company's state took to load; `company` None where there are no keys."""

    company: str | None
    keys: int
    took_ms: float
    budget_ms: float

    @property
    def within_budget(self) -> bool:
        """Whether a bot that reconnects now waits no longer than it may."""
        return self.took_ms <= self.budget_ms


@dataclass(frozen=True)
class DbHealth:
    """The check, and a load timed against the budget."""

    check: CheckReport
    load: LoadTime

    @property
    def verdict(self) -> Verdict:
        """The check's, and never "ok" with a load over the budget."""
        if self.check.verdict == "ok" and not self.load.within_budget:
            return "warning"
        return self.check.verdict


@dataclass(frozen=True)
class Desk:
    """The service, as far as the bot may ask it. Each raises KeystoreError; a sweep may go on after NoAnswerYet."""

    db_health: Callable[[], DbHealth]
    check: Callable[[], CheckReport]
    types: Callable[[], TypesReport]
    growth: Callable[[], GrowthReport]
    perf: Callable[[], PerfReport]
    sweep: Callable[[], SweepReport]
    status: Callable[[], str]
    mute: Callable[[datetime], None]
    unmute: Callable[[], None]
    muted_until: Callable[[], datetime | None]


def desk_of(
    store: Store,
    *,
    sweep_every_s: float,
    load_budget_ms: float,
    status: Callable[[], str],
    mute: Callable[[datetime], None],
    unmute: Callable[[], None],
    muted_until: Callable[[], datetime | None],
    stopping: threading.Event,
    within_s: float = ANSWER_WITHIN_S,
) -> Desk:
    """The desk of a store; a sweep in hand ends early once `stopping` is set."""
    questions, work = Slots(QUESTIONS_AT_ONCE, "telegram-desk"), Slots(1, "telegram-work")

    def asked(question: Callable[[], T]) -> T:
        return questions.call(question, within_s)

    return Desk(
        db_health=lambda: asked(partial(db_health, store, sweep_every_s, load_budget_ms)),
        check=lambda: asked(partial(check_report, store, sweep_every_s)),
        types=lambda: asked(partial(types_report, store)),
        growth=lambda: asked(partial(growth_report, store)),
        # Apart from the questions: a long sweep leaves them their slots.
        perf=lambda: work.call(partial(perf_report, store, load_budget_ms, rounds=PERF_ROUNDS), within_s),
        sweep=lambda: work.call(partial(sweep, store, stopping=stopping), within_s),
        status=lambda: asked(status),
        mute=lambda until: asked(partial(mute, until)),
        unmute=lambda: asked(unmute),
        muted_until=lambda: asked(muted_until),
    )


def db_health(store: Store, sweep_every_s: float, load_budget_ms: float) -> DbHealth:
    """Times a load of the largest company's state, which renews nothing, and checks the table."""
    company = store.largest_company()
    keys, took_ms = 0, 0.0
    if company is not None:
        began = perf_counter()
        keys = store.load(company).total
        took_ms = (perf_counter() - began) * 1000
    return DbHealth(check_report(store, sweep_every_s), LoadTime(company, keys, round(took_ms, 1), load_budget_ms))
