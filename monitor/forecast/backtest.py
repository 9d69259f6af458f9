"""How wrong the forecasts were: one a day is kept, and compared with what came once its days are over.

The comparison also feeds back: where the outcomes lay further off than the intervals said, the next ones are wider.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from keystore.records import Census, HistoryEntry
from keystore.store import Store
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import Counted, counted, readable, start_of_day

KEPT = "forecast"
KEPT_FOR = timedelta(days=120)
HORIZONS_DAYS = (1, 7, 14, 30)
NEAR = timedelta(hours=12)
"""A count this far from the moment that a forecast spoke of is taken for what came."""

FEWEST_OUTCOMES = 5
WIDENED_AT_MOST = 3.0


@dataclass(frozen=True)
class JudgedForecast:
    """One forecast whose days are over: what it said, and what came.

    `widened` is by how much its interval had been widened.
    """

    made_at: datetime
    days: int
    low: int
    expected: int
    high: int
    came: int
    widened: float = 1.0

    @property
    def error_percent(self) -> float:
        """By how much it was off, of what came; positive when it said too many."""
        return round(100 * (self.expected - self.came) / self.came, 1) if self.came else 0.0

    @property
    def within(self) -> bool:
        """Whether what came lay in the interval."""
        return self.low <= self.came <= self.high


@dataclass(frozen=True)
class Outcome:
    """All forecasts over so many days: how many, their median error in percent (either way), how many came true."""

    days: int
    forecasts: int
    median_error_percent: float
    worst_error_percent: float
    within: int


@dataclass(frozen=True)
class Record:
    """Every forecast that can be judged, and what they come to by horizon."""

    verdicts: tuple[JudgedForecast, ...]
    outcomes: tuple[Outcome, ...]


def is_kept(store: Store, now: datetime) -> bool:
    """Whether a forecast of this UTC day is kept already."""
    return bool(store.history(KEPT, start_of_day(now)))


def keep(store: Store, forecast: Forecast, widened: float) -> None:
    """Keeps a forecast, to be compared later, and by how much its interval was widened."""
    said = {str(days): forecast.keys_at(days) for days in HORIZONS_DAYS}
    store.add_history(KEPT, forecast.made_at, json.dumps({"widened": widened, "said": said}))
    store.thin_history(KEPT, forecast.made_at, forecast.made_at - KEPT_FOR)


def record_of(store: Store, census: Census) -> Record:
    """The record of the kept forecasts against the counts since, and the present one."""
    since = census.taken_at - KEPT_FOR
    came = [*counted(store, since), Counted(census.taken_at, census.total, {}, census.size_bytes)]
    return judged(store.history(KEPT, since), came)


def judged(kept: Iterable[HistoryEntry], came: Iterable[Counted]) -> Record:
    """What the counts make of the forecasts."""
    counts = sorted(came, key=lambda count: count.at)
    verdicts = []
    latest = counts[-1].at if counts else None
    for made_at, widened, said in readable(kept, _read_said):
        for days, (low, expected, high) in said.items():
            due = made_at + timedelta(days=days)
            nearest = min(counts, key=lambda count: abs(count.at - due), default=None)
            over = latest is not None and due <= latest
            if over and nearest is not None and abs(nearest.at - due) <= NEAR:
                verdicts.append(JudgedForecast(made_at, days, low, expected, high, nearest.total, widened))
    return Record(tuple(verdicts), tuple(_outcomes(verdicts)))


def widening(record: Record) -> float:
    """By what factor the intervals were too narrow, 1 to 3; 1 while too few forecasts can be judged."""
    ratios = []
    for verdict in record.verdicts:
        half = (verdict.high - verdict.expected) / verdict.widened  # As it was before; else widening undoes itself.
        if half > 0:
            ratios.append(abs(verdict.came - verdict.expected) / half)
    if len(ratios) < FEWEST_OUTCOMES:
        return 1.0
    # Nine in ten of the outcomes lie within the half-width of intervals that are right.
    ninth = sorted(ratios)[int(0.9 * (len(ratios) - 1))]
    return min(WIDENED_AT_MOST, max(1.0, ninth))


def _read_said(entry: HistoryEntry) -> tuple[datetime, float, dict[int, tuple[int, int, int]]]:
    document = json.loads(entry.document)
    said = {int(days): (int(low), int(expected), int(high)) for days, (low, expected, high) in document["said"].items()}
    return entry.at, float(document["widened"]), said


def _outcomes(verdicts: list[JudgedForecast]) -> Iterable[Outcome]:
    for days in HORIZONS_DAYS:
        of_horizon = [verdict for verdict in verdicts if verdict.days == days]
        if of_horizon:
            errors = [abs(verdict.error_percent) for verdict in of_horizon]
            yield Outcome(
                days, len(of_horizon), round(median(errors), 1), max(errors), sum(v.within for v in of_horizon)
            )
