"""The errors of earlier forecasts: one forecast a day is saved, and compared with the count once its days are over.

The comparison also feeds back: if the outcomes lay further off than the intervals allowed, later intervals are wider.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from keystore.records import Census, HistoryEntry
from keystore.store import Store
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import TableCount, counts_since, readable, start_of_day

SERIES = "forecast"
"""The series in the store's history that forecasts are saved in."""

SAVED_FOR = timedelta(days=120)
HORIZONS_DAYS = (1, 7, 14, 30)
NEAR = timedelta(hours=12)
"""A count this close to the moment that was forecast is taken as its outcome."""

FEWEST_OUTCOMES = 5
"""Outcomes needed before intervals are widened."""

WIDENED_AT_MOST = 3.0


@dataclass(frozen=True)
class JudgedForecast:
    """One forecast whose days are over, and the actual count. Its interval was widened by `widening_factor`."""

    made_at: datetime
    days: int
    low: int
    expected: int
    high: int
    actual: int
    widening_factor: float = 1.0

    @property
    def error_percent(self) -> float:
        """The error in percent of the actual count; positive if too many keys were expected."""
        return round(100 * (self.expected - self.actual) / self.actual, 1) if self.actual else 0.0

    @property
    def within(self) -> bool:
        """True if the actual count lay in the interval."""
        return self.low <= self.actual <= self.high


@dataclass(frozen=True)
class Outcome:
    """All judged forecasts over `days` days. Errors are percentages without sign; `within` lay in their interval."""

    days: int
    forecasts: int
    median_error_percent: float
    worst_error_percent: float
    within: int


def is_saved(store: Store, now: datetime) -> bool:
    """True if a forecast of this UTC day is saved already."""
    return any(entry.at <= now for entry in store.history(SERIES, start_of_day(now)))


def save(store: Store, forecast: Forecast, widening_factor: float) -> None:
    """Save a forecast for later comparison, with the factor that its interval was widened by."""
    intervals = {str(days): forecast.keys_at(days) for days in HORIZONS_DAYS}
    store.add_history(SERIES, forecast.made_at, json.dumps({"widened": widening_factor, "said": intervals}))
    store.thin_history(SERIES, forecast.made_at, forecast.made_at - SAVED_FOR)


def judge_saved(store: Store, census: Census) -> tuple[JudgedForecast, ...]:
    """Compare the saved forecasts with the counts since then, and with the present one."""
    since = census.taken_at - SAVED_FOR
    counts = [*counts_since(store, since), TableCount(census.taken_at, census.total, {}, census.size_bytes)]
    return judge(store.history(SERIES, since), counts)


def judge(saved: Iterable[HistoryEntry], counts: Iterable[TableCount]) -> tuple[JudgedForecast, ...]:
    """Compare saved forecasts with counts; those without a count near their end are left out."""
    counts = sorted(counts, key=lambda count: count.at)
    judged = []
    for made_at, widening_factor, intervals in readable(saved, _read_forecast):
        for days, interval in intervals.items():
            due = made_at + timedelta(days=days)
            if counts and due <= counts[-1].at:
                nearest = min(counts, key=lambda count: abs(count.at - due))
                if abs(nearest.at - due) <= NEAR:
                    judged.append(JudgedForecast(made_at, days, *interval, nearest.total, widening_factor))
    return tuple(judged)


def outcomes(judged: Sequence[JudgedForecast]) -> tuple[Outcome, ...]:
    """A summary of the judged forecasts for each horizon that has any."""
    summaries = []
    for days in HORIZONS_DAYS:
        same = [forecast for forecast in judged if forecast.days == days]
        if same:
            errors = [abs(forecast.error_percent) for forecast in same]
            within = sum(forecast.within for forecast in same)
            summaries.append(Outcome(days, len(same), round(median(errors), 1), max(errors), within))
    return tuple(summaries)


def widening(judged: Sequence[JudgedForecast]) -> float:
    """The factor by which the intervals were too narrow, 1 to 3; 1 while too few forecasts can be judged."""
    # The half-width before it was widened; otherwise widening would undo itself.
    halves = [(forecast, (forecast.high - forecast.expected) / forecast.widening_factor) for forecast in judged]
    ratios = sorted(abs(forecast.actual - forecast.expected) / half for forecast, half in halves if half > 0)
    if len(ratios) < FEWEST_OUTCOMES:
        return 1.0
    # Nine in ten outcomes lie within the half-width of correct intervals.
    return min(WIDENED_AT_MOST, max(1.0, ratios[int(0.9 * (len(ratios) - 1))]))


def _read_forecast(entry: HistoryEntry) -> tuple[datetime, float, dict[int, tuple[int, int, int]]]:
    document = json.loads(entry.document)
    intervals = {int(days): (int(low), int(mid), int(high)) for days, (low, mid, high) in document["said"].items()}
    return entry.at, float(document["widened"]), intervals
