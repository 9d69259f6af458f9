"""A simulated month: a company lives it through the real store, policy and sweeper, and forecasts are checked by it.

A clock of its own drives everything, so the same seed gives the same month.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median

from msgspec import Struct

from bench.limits import Limit
from bench.measuring import Progress
from bench.simulate.traffic import HOUR, Company, Mix
from keystore import KeystoreError, Store
from monitor.forecast.daily_records import write_daily_records
from monitor.growth import growth_report
from monitor.sweeper import sweep
from monitor.upkeep.backfill import backfill_expiries
from monitor.upkeep.demo import COMPANY
from monitor.upkeep.demo import seed as seed_demo

DAY_0 = datetime(2025, 10, 8, 9, 0, tzinfo=UTC)
DAYS = 30
FORECAST_ON = (7, 14)
SWEEP_HOURS = 6
COUNT_HOURS = 1
MEDIAN_LIMIT, WORST_LIMIT = Limit(10, "% in the median"), Limit(20, "% at worst")
"""The errors that the forecast of day 14 for day 30 may have, over all mixes."""


@dataclass
class Clock:
    """The simulated time."""

    now: datetime = DAY_0

    def __call__(self) -> datetime:
        return self.now


class ForecastOutcome(Struct, frozen=True):
    """One forecast, made on a day for day 30, and the number of keys then (`came`). Errors are in percent of it.

    `diary` is the projection of the original operator's arithmetic on the same day.
    """

    made_on: int
    low: int
    expected: int
    high: int
    came: int
    error_percent: float
    within: bool
    diary: int
    diary_error_percent: float


class Month(Struct, frozen=True):
    """One simulated month: the number of keys on each day, and the outcomes of its forecasts."""

    mix: Mix
    totals: tuple[int, ...]
    forecasts: tuple[ForecastOutcome, ...]
    swept: int
    messages: int


class Accuracy(Struct, frozen=True):
    """The errors of one day's forecasts over all mixes in percent, and those of the original operator's arithmetic."""

    made_on: int
    mixes: int
    median_percent: float
    worst_percent: float
    within: int
    diary_median_percent: float
    diary_worst_percent: float

    @property
    def met(self) -> bool:
        """True if the errors keep to their limits."""
        return MEDIAN_LIMIT.allows(self.median_percent) and WORST_LIMIT.allows(self.worst_percent)


def month(
    store: Store, clock: Clock, mix: Mix, *, from_demo: bool, progress: Progress, began: datetime = DAY_0
) -> Month:
    """Live one month of a mix on an empty store, or from the 665 keys of the demo data."""
    clock.now = began
    if from_demo:
        seed_demo(store, COMPANY)
        backfill_expiries(store)
    company = Company(store, COMPANY, mix, began, paired=from_demo)
    totals, swept, made = [], 0, []
    for hours in range(DAYS * 24 + 1):
        hour = began + hours * HOUR
        clock.now = hour
        if hours % SWEEP_HOURS == 0:
            swept += sweep(store).deleted
        if hours % COUNT_HOURS == 0:
            write_daily_records(store)
        if hours % 24 == 0:
            day = hours // 24
            totals.append(store.census().total)
            if day in FORECAST_ON:
                report = growth_report(store)
                if report.forecast is None:
                    raise KeystoreError(f"no forecast on day {day}: {report.forecast_waits_for}")
                made.append((day, report.forecast.keys_at(DAYS - day), report.diary["7"].keys))
            progress(day, DAYS)
        if hours < DAYS * 24:
            company.live(hour, partial(setattr, clock, "now"))
    outcomes = tuple(_outcome(*forecast, totals[-1]) for forecast in made)
    return Month(mix, tuple(totals), outcomes, swept, company.messages)


def _outcome(made_on: int, interval: tuple[int, int, int], legacy: int, keys: int) -> ForecastOutcome:
    low, expected, high = interval
    error, legacy_error = (round(100 * (forecast - keys) / keys, 1) for forecast in (expected, legacy))
    return ForecastOutcome(made_on, low, expected, high, keys, error, low <= keys <= high, legacy, legacy_error)


def accuracy(months: Sequence[Month], made_on: int) -> Accuracy:
    """The errors of the forecasts that were made on this day of the months."""
    outcomes = [outcome for month in months for outcome in month.forecasts if outcome.made_on == made_on]
    errors = [abs(outcome.error_percent) for outcome in outcomes]
    legacy = [abs(outcome.diary_error_percent) for outcome in outcomes]
    within = sum(outcome.within for outcome in outcomes)
    of_legacy = round(median(legacy), 1), max(legacy)
    return Accuracy(made_on, len(outcomes), round(median(errors), 1), max(errors), within, *of_legacy)
