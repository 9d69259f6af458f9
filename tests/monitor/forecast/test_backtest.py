"""Forecasts are held to what came, and to nothing that was there before them."""

import json
from datetime import timedelta

import pytest

from keystore.records import HistoryEntry
from monitor.forecast.backtest import TrackRecord, judge, widening
from monitor.forecast.history import TableCount
from rig.fixtures.clock import START

DAY = timedelta(days=1)


def kept(day: int, said: dict[str, tuple[int, int, int]], widened: float = 1.0) -> HistoryEntry:
    """A forecast made on that day."""
    return HistoryEntry(START + day * DAY, json.dumps({"widened": widened, "said": said}))


def came(totals: dict[float, int]) -> list[TableCount]:
    """Counts by day."""
    return [TableCount(START + day * DAY, total, {}, 0) for day, total in totals.items()]


def test_a_forecast_is_compared_with_the_nearest_count() -> None:
    record = judge([kept(0, {"7": (90, 100, 110)})], came({6.2: 500, 6.9: 80, 7.4: 500}))
    (verdict,) = record.forecasts
    assert (verdict.actual, verdict.error_percent, verdict.within) == (80, 25.0, False)
    (outcome,) = record.outcomes
    assert (outcome.days, outcome.forecasts, outcome.median_error_percent, outcome.within) == (7, 1, 25.0, 0)


def test_a_forecast_is_not_judged_before_its_day() -> None:
    said = [kept(0, {"1": (1, 2, 3)})]
    assert judge(said, came({0.0: 9, 0.9: 9})).forecasts == ()
    assert [one.actual for one in judge(said, came({0.0: 9, 0.9: 8, 1.3: 7})).forecasts] == [8]


def test_one_whose_day_nobody_looked_at_is_not_judged() -> None:
    record = judge([kept(0, {"1": (1, 2, 3), "30": (1, 2, 3)})], came({0.0: 2, 5.0: 2, 29.4: 2}))
    assert record.forecasts == ()


@pytest.mark.parametrize(("missed_by", "factor"), [(0, 1.0), (10, 1.0), (20, 2.0), (500, 3.0)])
def test_intervals_grow_by_how_far_off_they_were(missed_by: int, factor: float) -> None:
    forecasts = [kept(day, {"1": (90, 100, 110)}) for day in range(10)]
    record = judge(forecasts, came({day + 1.0: 100 + missed_by for day in range(10)}))
    assert widening(record) == factor


def test_what_was_widened_is_judged_by_what_it_had_been() -> None:
    forecasts = [kept(day, {"1": (80, 100, 120)}, widened=2.0) for day in range(10)]
    assert widening(judge(forecasts, came({day + 1.0: 120 for day in range(10)}))) == 2.0


def test_a_few_misses_prove_nothing() -> None:
    record = judge([kept(0, {"1": (90, 100, 110)})], came({1.0: 1_000}))
    assert widening(record) == widening(TrackRecord((), ())) == 1.0
