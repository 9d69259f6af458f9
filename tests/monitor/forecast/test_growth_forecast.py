"""Forecasts made from a real store, after weeks of traffic, sweeps and daily records."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from keystore import Store, StoreUnavailable
from keystore.records import KeyRow
from keystore.ttl import parse_policy
from monitor.forecast.daily_records import try_daily_records, write_daily_records
from monitor.forecast.history import counts_since
from monitor.growth import growth_report
from monitor.sweeper import sweep
from rig.fixtures.clock import START, Clock

pytestmark = pytest.mark.slow

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def live(store: Store, clock: Clock, days: int, each_hour: Callable[[int], None]) -> None:
    """Let hours pass, with traffic in each; after every sixth, sweep and write the records, as the service does."""
    for hour in range(days * 24):
        each_hour(hour)
        clock.advance(HOUR)
        if hour % 6 == 5:
            sweep(store)
            write_daily_records(store)


def one_an_hour(store: Store) -> Callable[[int], None]:
    """Traffic of one new session an hour; none is ever used again."""
    return lambda hour: store.set("1", {"session": {f"{hour}": b"A"}})


def test_at_a_steady_rate_there_are_rate_times_lifetime_keys(store: Store, clock: Clock) -> None:
    live(store, clock, 14, one_an_hour(store))
    forecast = growth_report(store).forecast
    assert forecast is not None
    (sessions,) = forecast.per_type
    assert sessions.arrivals_per_day == pytest.approx(24, abs=0.2)
    assert (sessions.lifetime_days, sessions.kept_by_use) == (7, 0)
    low, expected, high = forecast.keys_at(16)
    assert forecast.keys_at(0) == (store.census().total,) * 3
    hours = iter(range(14 * 24, 40 * 24))
    live(store, clock, 16, lambda _: store.set("1", {"session": {f"{next(hours)}": b"A"}}))
    assert expected == pytest.approx(store.census().total, rel=0.05)
    assert low <= store.census().total <= high


def test_keys_in_use_are_added_to_arrivals(store: Store, clock: Clock) -> None:
    in_use = {f"friend {n}": b"A" for n in range(200)}

    def each_hour(hour: int) -> None:
        one_an_hour(store)(hour)
        if hour % 24 == 12:
            store.set("1", {"session": in_use})

    live(store, clock, 14, each_hour)
    forecast = growth_report(store).forecast
    assert forecast is not None
    (sessions,) = forecast.per_type
    assert sessions.arrivals_per_day == pytest.approx(24, abs=0.5), "the 200 were created once, in a burst"
    assert sessions.kept_by_use == pytest.approx(200, abs=25)
    assert forecast.keys_at(16)[1] == pytest.approx(200 + 24 * 7.4, rel=0.08)


def test_pre_keys_of_a_reconnect_are_a_burst_and_the_newest_stay(store: Store, clock: Clock) -> None:
    numbers = iter(range(100_000))

    def each_hour(hour: int) -> None:
        if hour % (5 * 24) == 3:
            store.set("1", {"pre-key": {f"{next(numbers)}": b"P" for _ in range(250)}}, creds=b"C")

    live(store, clock, 14, each_hour)
    forecast = growth_report(store).forecast
    assert forecast is not None
    (pre_keys,) = forecast.per_type
    assert (pre_keys.arrivals_per_day, pre_keys.burst_keys) == (0.0, 250)
    assert pre_keys.bursts_per_day == pytest.approx(0.15, abs=0.03)
    assert 1_000 <= forecast.keys_at(16)[1] <= 1_300, "those beyond the newest 1,000 go when they expire"


def test_an_import_is_no_arrival(store: Store, clock: Clock) -> None:
    before = START - 3 * DAY
    rows = [KeyRow("session", f"old {n}", b"A", before, before, START + 4 * DAY) for n in range(500)]
    store.restore_rows("1", rows)
    live(store, clock, 10, one_an_hour(store))
    forecast = growth_report(store).forecast
    assert forecast is not None
    assert forecast.per_type[0].arrivals_per_day == pytest.approx(24, abs=0.2)
    assert forecast.keys_at(20)[1] == pytest.approx(24 * 7.4, rel=0.1)


def test_a_what_if_policy_is_forecast_beside_the_one_in_force(store: Store, clock: Clock) -> None:
    live(store, clock, 10, one_an_hour(store))
    report = growth_report(store, parse_policy("session=14d", store.policy))
    assert report.forecast is not None
    assert report.what_if is not None
    assert report.what_if.keys_at(60)[1] == pytest.approx(24 * 14.4, rel=0.05)
    assert report.forecast.keys_at(60)[1] == pytest.approx(24 * 7.4, rel=0.05)


def test_before_three_days_there_is_no_forecast_but_a_reason(store: Store, clock: Clock) -> None:
    report = growth_report(store)
    assert (report.forecast, report.forecast_waits_for) == (
        None,
        "keys written through the store (none in the last two weeks)",
    )
    store.set("1", {"session": {"a": b"A"}})
    assert "run.py" in (growth_report(store).forecast_waits_for or "")
    live(store, clock, 1, one_an_hour(store))
    assert growth_report(store).forecast_waits_for == (
        "3 days of data, and has 1.0 so far; keep `python run.py serve` running"
    )
    live(store, clock, 2, one_an_hour(store))
    assert growth_report(store).forecast is not None


def test_forecasts_are_compared_with_later_counts(store: Store, clock: Clock) -> None:
    live(store, clock, 12, one_an_hour(store))
    outcomes = growth_report(store).outcomes
    assert [(outcome.days, outcome.within) for outcome in outcomes] == [
        (1, outcomes[0].forecasts),
        (7, outcomes[1].forecasts),
    ]
    assert outcomes[0].forecasts > outcomes[1].forecasts > 0
    assert outcomes[1].median_error_percent < 15


def test_the_history_is_bounded(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    for _ in range(30 * 8):
        clock.advance(3 * HOUR)
        write_daily_records(store)
    history = counts_since(store, START)
    recent = [count for count in history if count.at > clock() - 14 * DAY]
    assert len(recent) in range(14 * 8 - 1, 14 * 8 + 1)
    assert len(history) - len(recent) in range(15, 20), "of older counts, the first of each day stays"


@pytest.mark.parametrize("kind", ["census", "lives", "forecast"])
@pytest.mark.parametrize(
    "document", ["", "null", "[[1]]", '{"v": 2}', '{"7": [1, 2]}', '[["session", true, "2025-13-01", 3]]']
)
def test_an_unreadable_entry_of_the_history_is_left_out(store: Store, clock: Clock, kind: str, document: str) -> None:
    live(store, clock, 3, one_an_hour(store))
    before = growth_report(store)
    store.add_history(kind, clock() - 2 * DAY + timedelta(seconds=1), document)
    after = growth_report(store)
    assert after.forecast is not None
    assert (after.total, after.history) == (before.total, before.history)
    write_daily_records(store)


def test_records_that_cannot_be_written_fail_no_sweep(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailable("away")

    store.set("1", {"session": {"a": b"A"}})
    clock.advance(9 * DAY)
    monkeypatch.setattr(store, "add_history", refuse)
    with capture_logs() as logs:
        assert sweep(store).deleted == 1
        try_daily_records(store)
    assert [entry["event"] for entry in logs] == ["daily_records_not_written"]


@pytest.mark.parametrize("days", [-0.1, 366])
def test_a_day_beyond_the_horizon_is_refused(store: Store, clock: Clock, days: float) -> None:
    live(store, clock, 4, one_an_hour(store))
    forecast = growth_report(store).forecast
    assert forecast is not None
    with pytest.raises(ValueError, match="not within 0 to 365"):
        forecast.keys_at(days)
