"""Rates of arrival: bursts are kept apart, a first burst is no rate, a fall continues, a daily rhythm is no fall."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.records import Burst, HourCount
from monitor.forecast.arrivals import Flow, flows, recurring_bursts
from rig.fixtures.clock import START

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = START.replace(minute=0, second=0, microsecond=0)


def hourly(keys_on: dict[int, int], event: str = "created", key_type: str = "session") -> list[HourCount]:
    """`{days ago: keys in each of that day's hours}`."""
    return [
        HourCount(NOW - day * DAY + hour * HOUR, key_type, event, keys)  # type: ignore[arg-type]
        for day, keys in keys_on.items()
        for hour in range(24)
        if keys
    ]


def flow(counts: list[HourCount], bursts: list[Burst] | None = None) -> Flow:
    """The flow of sessions."""
    long_before = HourCount(NOW - 15 * DAY, "session", "created", 1)
    return flows([long_before, *counts], bursts or [], NOW)["session"]


def test_a_steady_rate_is_learned() -> None:
    learned = flow(hourly(dict.fromkeys(range(1, 15), 2)))
    assert (learned.per_day, learned.falling, learned.days) == (48.0, 1.0, 14.0)
    assert learned.sd_per_day == pytest.approx(48**0.5), "never taken for steadier than chance"


def test_deletions_and_sweeps_are_daily_means() -> None:
    counts = [
        *hourly({1: 14}, "deleted"),
        *hourly(dict.fromkeys(range(1, 15), 3), "renewed"),
        *hourly({2: 28}, "swept"),
    ]
    learned = flow(counts)
    assert (learned.deleted_per_day, learned.swept_per_day) == (24.0, 48.0)


def test_recorded_bursts_are_left_out_of_the_rate() -> None:
    counts = [*hourly(dict.fromkeys(range(1, 15), 1)), HourCount(NOW - 3 * DAY, "session", "created", 400)]
    bursts = [Burst("1", NOW - 3 * DAY, "session", 400)]
    learned = flow(counts, bursts)
    assert learned.per_day == 24.0
    assert (learned.bursts.per_day, learned.bursts.keys) == (0.0, 400), "the first one is how the company began"


def test_an_hour_with_far_more_arrivals_than_others_is_a_burst() -> None:
    counts = [*hourly(dict.fromkeys(range(1, 15), 2)), HourCount(NOW - 2 * DAY, "session", "created", 90)]
    assert flow(counts).per_day == pytest.approx(48 - 2 / 14)
    busy = [*hourly(dict.fromkeys(range(1, 15), 20)), HourCount(NOW - 2 * DAY, "session", "created", 90)]
    assert flow(busy).per_day == pytest.approx(480 + 90 / 14), "not where hours are like that"


def test_a_daily_rhythm_is_no_fall() -> None:
    counts = [
        HourCount(NOW - day * DAY + hour * HOUR, "session", "created", 20 if hour < 6 else 1)
        for day in range(1, 8)
        for hour in range(24)
    ]
    assert flow(counts).falling == 1.0


def test_a_fall_goes_on_by_half_as_much() -> None:
    learned = flow(hourly({**dict.fromkeys(range(8, 15), 8), **dict.fromkeys(range(1, 8), 2)}))
    assert learned.per_day == 48.0
    assert learned.falling == pytest.approx(0.25, abs=0.01)
    coming = [learned.arrivals_on(day) for day in (0, 7, 30, 300)]
    assert coming == sorted(coming, reverse=True)
    assert coming[-1] == pytest.approx(12, rel=0.05)


def test_a_rise_is_the_new_level_and_no_more() -> None:
    learned = flow(hourly({**dict.fromkeys(range(8, 15), 2), **dict.fromkeys(range(1, 8), 8)}))
    assert (learned.per_day, learned.falling) == (192.0, 1.0)
    assert learned.arrivals_on(100) == 192.0


@given(st.lists(st.integers(0, 40), min_size=14, max_size=14))
def test_expected_arrivals_lie_between_none_and_the_busiest_day(days: list[int]) -> None:
    counts = hourly(dict(enumerate(days, 1)))
    if counts:
        learned = flow(counts)
        assert 0 <= learned.arrivals_on(0) <= 24 * max(days)
        assert 0 < learned.falling <= 1


def test_bursts_after_the_first_of_a_company_recur() -> None:
    bursts = [Burst("1", NOW - days * DAY, "pre-key", 812 if days == 20 else 250) for days in (20, 15, 10, 5)]
    recurring = recurring_bursts(bursts, NOW - 30 * DAY, NOW)
    assert recurring.keys == 250
    assert recurring.per_day == pytest.approx(3 / 20), "three after the first, in 20 days"


def test_companies_first_bursts_are_no_reconnects() -> None:
    bursts = [Burst(f"{n}", NOW - 25 * DAY, "pre-key", 812) for n in range(100)]
    recurring = recurring_bursts(bursts, NOW - 25 * DAY, NOW)
    assert (recurring.per_day, recurring.starts_per_day) == (0.0, 0.0)


def test_new_companies_are_a_rate_of_their_own() -> None:
    bursts = [Burst(f"{n}", NOW - n * DAY, "pre-key", 812) for n in range(1, 21)]
    recurring = recurring_bursts(bursts, NOW - 30 * DAY, NOW)
    assert (recurring.per_day, recurring.start_keys) == (0.0, 812)
    assert recurring.starts_per_day == pytest.approx(20 / 30)


def test_pauses_are_no_trend() -> None:
    steady = dict.fromkeys(range(1, 15), 2)
    paused = {day: keys for day, keys in steady.items() if day not in (1, 2, 3, 4)}
    learned = flow(hourly(paused))
    assert (learned.per_day, learned.falling, learned.days) == (48.0, 1.0, 10.0)


def test_a_day_without_events_is_ordinary_in_a_quiet_database() -> None:
    counts = [HourCount(NOW - day * DAY, "session", "created", 1) for day in (2, 5, 9, 12)]
    assert flow(counts).per_day == pytest.approx(4 / 14)


def test_the_first_day_of_the_record_is_left_out() -> None:
    """The account's groups and settings: 40 keys that arrived once are not three a day forever."""
    counts = [HourCount(NOW - 8 * DAY + n * HOUR, "session", "created", 4) for n in range(10)]
    assert flows(counts, [], NOW) == {}
    later = [*counts, HourCount(NOW - 2 * DAY, "session", "created", 7)]
    assert flows(later, [], NOW)["session"].per_day == 1.0


def test_without_counts_there_is_no_flow() -> None:
    assert flows([], [], NOW) == {}
