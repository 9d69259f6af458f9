"""Saved forecasts are compared with the counts of their day, and intervals widen accordingly."""

import json
from datetime import timedelta

import pytest

from keystore.records import HistoryEntry
from monitor.forecast.backtest import judge, outcomes, widening
from monitor.forecast.history import TableCount
from rig.fixtures.clock import START

DAY = timedelta(days=1)


def forecast_made_on(day: int, intervals: dict[str, tuple[int, int, int]], widened: float = 1.0) -> HistoryEntry:
    """A forecast made on that day."""
    return HistoryEntry(START + day * DAY, json.dumps({"widened": widened, "said": intervals}))


def counts(totals: dict[float, int]) -> list[TableCount]:
    """Counts by day."""
    return [TableCount(START + day * DAY, total, {}, 0) for day, total in totals.items()]


def test_a_forecast_is_compared_with_the_nearest_count() -> None:
    judged = judge([forecast_made_on(0, {"7": (90, 100, 110)})], counts({6.2: 500, 6.9: 80, 7.4: 500}))
    (forecast,) = judged
    assert (forecast.actual, forecast.error_percent, forecast.within) == (80, 25.0, False)
    (outcome,) = outcomes(judged)
    assert (outcome.days, outcome.forecasts, outcome.median_error_percent, outcome.within) == (7, 1, 25.0, 0)


def test_a_forecast_is_not_judged_before_its_day() -> None:
    saved = [forecast_made_on(0, {"1": (1, 2, 3)})]
    assert judge(saved, counts({0.0: 9, 0.9: 9})) == ()
    assert [forecast.actual for forecast in judge(saved, counts({0.0: 9, 0.9: 8, 1.3: 7}))] == [8]


def test_a_forecast_without_a_count_on_its_day_is_not_judged() -> None:
    judged = judge([forecast_made_on(0, {"1": (1, 2, 3), "30": (1, 2, 3)})], counts({0.0: 2, 5.0: 2, 29.4: 2}))
    assert judged == ()


@pytest.mark.parametrize(("missed_by", "factor"), [(0, 1.0), (10, 1.0), (20, 2.0), (500, 3.0)])
def test_intervals_widen_by_their_errors(missed_by: int, factor: float) -> None:
    forecasts = [forecast_made_on(day, {"1": (90, 100, 110)}) for day in range(10)]
    judged = judge(forecasts, counts({day + 1.0: 100 + missed_by for day in range(10)}))
    assert widening(judged) == factor


def test_a_widened_interval_is_judged_by_its_original_width() -> None:
    forecasts = [forecast_made_on(day, {"1": (80, 100, 120)}, widened=2.0) for day in range(10)]
    assert widening(judge(forecasts, counts({day + 1.0: 120 for day in range(10)}))) == 2.0


def test_a_few_errors_widen_no_interval() -> None:
    judged = judge([forecast_made_on(0, {"1": (90, 100, 110)})], counts({1.0: 1_000}))
    assert widening(judged) == widening(()) == 1.0
