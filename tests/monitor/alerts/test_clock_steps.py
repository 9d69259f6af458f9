"""A step of the wall clock delays no look and no alert, ends no cooldown late, and makes up no alert."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from keystore import Store, StoreUnavailable
from monitor.alerts.memory import BotMemory, report_memory
from monitor.alerts.stored_state import muted_until
from monitor.forecast.history import lives_since, record_counts
from monitor.running.clock_steps import ClockSteps, EventAge
from monitor.sweeper import sweep
from rig.fixtures.clock import START, Clock, Ticks
from tests.monitor.alerts.watches import HOUR, MINUTE, Watched

DAY = timedelta(days=1)
STEPS = [-HOUR, -40 * DAY, 40 * DAY, HOUR]


@pytest.fixture(params=STEPS, ids=str)
def step(request: pytest.FixtureRequest) -> timedelta:
    """A step of the wall clock."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def watched(store: Store, clock: Clock) -> Watched:
    """A watch whose monotonic clock a step of its wall clock doesn't move."""
    return Watched(store, clock)


@contextmanager
def database_away(watched: Watched) -> Iterator[None]:
    """The database takes no writes."""

    def refuse() -> None:
        raise StoreUnavailable("it has gone")

    watched.store.probe_write, before = refuse, watched.store.probe_write  # type: ignore[method-assign]
    yield
    watched.store.probe_write = before  # type: ignore[method-assign]


def test_steps_are_told_from_time_that_passes() -> None:
    ticks = Ticks()
    steps = ClockSteps(START, ticks)
    ticks.now_s += 60
    assert steps.since_last(START + MINUTE) == timedelta(0)
    ticks.now_s += 60
    assert steps.since_last(START + 2 * MINUTE + timedelta(milliseconds=200)) == timedelta(0), "NTP at work"
    assert steps.since_last(START - HOUR + 2 * MINUTE) == -HOUR - timedelta(milliseconds=200)
    ticks.now_s += 60
    assert steps.since_last(START - HOUR + 3 * MINUTE) == timedelta(0), "a step is reported once"


def test_an_event_ages_by_the_monotonic_clock_once_it_was_seen() -> None:
    ticks = Ticks()
    age = EventAge(ticks)
    assert age.seconds(START - HOUR, START) == 3_600
    ticks.now_s += 60
    assert age.seconds(START - HOUR, START + 40 * DAY) == 3_660
    assert age.seconds(START, START - HOUR) == 0, "it is of before the clock was set back"
    ticks.now_s += 60
    assert age.seconds(START, datetime.min.replace(tzinfo=UTC)) == 60


def test_an_outage_after_a_step_is_reported_as_soon_as_without(watched: Watched, step: timedelta) -> None:
    watched.settled()
    watched.look(3)
    watched.clock_is_set(step)
    watched.look()
    with database_away(watched):
        assert watched.look() == []
        (alert,) = watched.look()
    assert f"🔴 database: {watched.store.database}: it has gone" in alert
    (recovery,) = watched.look()
    assert "answers (after 2 min)" in recovery


def test_a_step_during_an_outage_delays_its_alert_by_no_look(watched: Watched, step: timedelta) -> None:
    watched.settled()
    with database_away(watched):
        assert watched.look() == []
        watched.clock_is_set(step)
        (alert,) = watched.look()
    assert "🔴 database: " in alert


def test_a_cooldown_ends_no_later_for_a_step(watched: Watched, step: timedelta) -> None:
    watched.settled()
    with database_away(watched):
        watched.look(2)
    watched.look()
    watched.clock_is_set(step)
    with database_away(watched):
        (alert,) = watched.look(6)
    assert "🔴 database: " in alert


def test_a_mute_lasts_no_longer_for_a_step_back(watched: Watched) -> None:
    watched.settled()
    watched.watch.mute(watched.clock() + HOUR)
    watched.clock_is_set(-40 * DAY)
    watched.look()
    assert muted_until(watched.store, watched.clock()) == watched.clock() + HOUR - MINUTE
    assert watched.look(57) == []
    assert watched.look(3) == ["bots: notices are on again. Nothing fires."]


def test_a_sweeper_that_works_is_no_alert_after_a_step(watched: Watched, step: timedelta) -> None:
    watched.settled()
    watched.look(5)
    watched.clock_is_set(step)
    assert watched.look(60) == []


def test_a_sweeper_that_stands_still_is_an_alert_after_a_step(watched: Watched, step: timedelta) -> None:
    watched.settled()
    watched.clock_is_set(step)
    messages = watched.look(13 * 6, 10 * MINUTE)
    assert any("🔴 sweeper" in text for text in messages), "after two intervals of six hours"
    sweep(watched.store)
    assert "🟢 sweeper" in "".join(watched.look(3))


def heartbeat(watched: Watched) -> None:
    report_memory(watched.store, "962302", BotMemory(100, 2_000, 2_000, 2_100))


def test_a_bot_that_sends_heartbeats_is_no_alert_after_a_step(watched: Watched, step: timedelta) -> None:
    watched.settled()
    for _ in range(30):
        heartbeat(watched)
        assert watched.look() == []
    heartbeat(watched)
    watched.clock_is_set(step)
    assert watched.look() == [], "the last heartbeat has a time from before the step"
    for _ in range(15):
        heartbeat(watched)
        assert watched.look() == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_bot_falls_silent_once_whatever_the_clock_does(watched: Watched, hours: int) -> None:
    watched.settled()
    heartbeat(watched)
    watched.look(8)
    watched.clock_is_set(hours * HOUR)
    assert any("🟡 silent bot" in text for text in watched.look(12))
    watched.clock_is_set(hours * HOUR)
    assert watched.look(20) == [], "it has sent no heartbeat since"


def test_records_from_before_the_clock_was_set_back_stop_none(store: Store, clock: Clock) -> None:
    assert record_counts(store) is not None
    clock.advance(-40 * DAY)
    assert record_counts(store) is not None
    assert record_counts(store) is None, "this hour has its record"
    lives = lives_since(store, clock() - DAY)
    assert [life.at.date() for life in lives] == [clock().date(), (clock() + 40 * DAY).date()]


def test_the_status_states_real_ages_after_a_step(watched: Watched, step: timedelta) -> None:
    watched.look(5)
    watched.clock_is_set(step)
    watched.clock.advance(MINUTE)
    status = watched.watch.status()
    assert "up 6 min" in status
    assert "last look: 60 s ago" in status
