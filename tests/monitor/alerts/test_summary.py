"""The daily summary: its schedule through clock changes, its text, and the start and stop notices."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from keystore import Store
from monitor.alerts import summary
from monitor.alerts.summary import due
from monitor.alerts.watch import Announcements
from monitor.forecast.history import TableCount
from monitor.growth import growth_of
from monitor.reports.check import CheckReport, judge, sweep_state, worst
from monitor.running.bounded_calls import BoundedCalls
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START
from tests.monitor.sample_censuses import census, run

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Its clocks jump by half an hour."""

MINUTE = timedelta(minutes=1)
NINE = time(9, 0)


def sent(zone: ZoneInfo, at: time, begin: datetime, end: datetime, last: date | None = None) -> list[datetime]:
    """The times of the summaries of a watch that looks every five minutes."""
    moments, now = [], begin
    while now < end:
        day = due(last, now, zone, at)
        if day is not None:
            last = day
            moments.append(now)
        now += 5 * MINUTE
    return moments


def test_a_summary_is_due_once_at_its_time_of_the_local_day() -> None:
    day = date(2025, 10, 8)
    assert due(date(2025, 10, 7), datetime(2025, 10, 8, 6, 59, 59, tzinfo=UTC), BERLIN, NINE) is None
    assert due(date(2025, 10, 7), datetime(2025, 10, 8, 7, 0, tzinfo=UTC), BERLIN, NINE) == day
    assert due(day, datetime(2025, 10, 8, 7, 1, tzinfo=UTC), BERLIN, NINE) is None


def test_after_downtime_a_summary_comes_late_but_not_many_hours_late() -> None:
    yesterday = date(2025, 10, 7)
    assert due(yesterday, datetime(2025, 10, 8, 12, 59, tzinfo=UTC), BERLIN, NINE) == date(2025, 10, 8)
    assert due(yesterday, datetime(2025, 10, 8, 13, 0, tzinfo=UTC), BERLIN, NINE) is None


def test_a_late_summary_of_the_evening_may_come_after_midnight() -> None:
    late = datetime(2025, 10, 8, 22, 30, tzinfo=UTC)  # 00:30 on the 9th in Berlin
    assert due(date(2025, 10, 7), late, BERLIN, time(23, 0)) == date(2025, 10, 8)
    assert due(date(2025, 10, 8), late, BERLIN, time(23, 0)) is None


@pytest.mark.parametrize(
    ("zone", "at", "begin"),
    [
        (BERLIN, time(2, 30), datetime(2026, 3, 26, tzinfo=UTC)),  # 2026-03-29 has no 02:30
        (BERLIN, time(2, 30), datetime(2026, 10, 22, tzinfo=UTC)),  # 2026-10-25 has two
        (BERLIN, time(3, 0), datetime(2026, 3, 26, tzinfo=UTC)),
        (LORD_HOWE, time(2, 15), datetime(2026, 10, 1, tzinfo=UTC)),
        (LORD_HOWE, time(1, 45), datetime(2026, 4, 2, tzinfo=UTC)),
        (ZoneInfo("Pacific/Apia"), NINE, datetime(2011, 12, 27, tzinfo=UTC)),  # had no 30 December 2011
    ],
    ids=["gap", "twice", "end-of-gap", "half-hour-gap", "half-hour-twice", "no-such-day"],
)
def test_a_summary_comes_once_a_day_through_every_clock_change(zone: ZoneInfo, at: time, begin: datetime) -> None:
    end = begin + timedelta(days=7)
    moments = sent(zone, at, begin, end, last=begin.astimezone(zone).date())
    days = [moment.astimezone(zone).date() for moment in moments]
    assert len(days) == len(set(days)), "never twice a day"
    assert 6 <= len(days) <= 7, "and on each of them"
    for moment in moments:
        local = moment.astimezone(zone)
        minutes_late = (local.hour * 60 + local.minute) - (at.hour * 60 + at.minute)
        assert 0 <= minutes_late <= 60, "at its time, or as much later as the clocks jumped"


def test_lateness_is_counted_in_time_that_passed_not_clock_time() -> None:
    """Python subtracts two local times of one zone as if no clock had been changed between them."""
    spring, autumn = date(2026, 3, 29), date(2026, 10, 25)
    half_past_two, early = time(2, 30), time(0, 30)
    assert due(spring - timedelta(days=1), datetime(2026, 3, 29, 1, 29, tzinfo=UTC), BERLIN, half_past_two) is None
    assert due(spring - timedelta(days=1), datetime(2026, 3, 29, 1, 30, tzinfo=UTC), BERLIN, half_past_two) == spring
    assert due(autumn - timedelta(days=1), datetime(2026, 10, 25, 4, 29, tzinfo=UTC), BERLIN, early) == autumn
    assert due(autumn - timedelta(days=1), datetime(2026, 10, 25, 4, 30, tzinfo=UTC), BERLIN, early) is None


def test_a_summary_from_before_the_clock_was_set_back_hides_none() -> None:
    ahead, now = date(2025, 11, 17), datetime(2025, 10, 8, 9, 1, tzinfo=UTC)
    assert due(ahead, now, UTC, time(9)) == now.date()
    assert due(now.date(), now, UTC, time(9)) is None


def test_after_a_week_of_downtime_one_summary_is_sent() -> None:
    back = datetime(2025, 10, 15, 9, 0, tzinfo=UTC)
    assert sent(BERLIN, NINE, back, back + timedelta(hours=12), last=date(2025, 10, 8)) == [back]


def report(**changes: int) -> CheckReport:
    counted = census(**changes)
    findings = judge(counted, sweep_state([run(timedelta(hours=1), deleted=7)]), 21_600, expiry_enforced=True)
    return CheckReport(
        database="postgresql://db/bots",
        total=counted.total,
        active=counted.active,
        expired=counted.expired,
        guarded=counted.guarded,
        without_expiry=counted.without_expiry,
        companies=counted.companies,
        last_activity_at=START - 3 * MINUTE,
        last_sweep=run(timedelta(hours=1), deleted=7),
        last_failed_sweep=None,
        expiry_enforced=True,
        pre_keys_rewritten_7d=0,
        size_bytes=1_500_000,
        taken_at=START,
        verdict=worst(findings),
        advice=tuple(finding.advice for finding in findings),
    )


def test_the_summary_states_the_counts_and_the_advice() -> None:
    counted = census(total=665, active=660, guarded=5, without_expiry=609, companies=1, created_24h=330, created_7d=425)
    history = tuple(TableCount(START - timedelta(days=n), 600 + n, {}, 0) for n in (2, 1, 0))
    lines = summary.text(
        date(2025, 10, 8),
        report(total=665, active=660, guarded=5, without_expiry=609, companies=1),
        replace(growth_of(counted, "postgresql://db/bots"), history=history),
        ["🔴 disk: full (for 2 h)"],
        WatchSettings(name="vm1", zone=ZoneInfo("Europe/Moscow"), public_url="https://keys.example/"),
    ).split("\n")
    assert lines[0] == "🟡 vm1, Wednesday 8 October: warning"
    assert "665 keys of 1 company, 1.5 MB" in lines
    assert any("MSK)" in line for line in lines)
    assert "UTC" not in "".join(lines)
    assert "expired 0, guarded 5, without expiry 609" in lines
    assert "created: 330 in 24 h, 425 in 7 days" in lines
    assert any(line.startswith("last sweep: 60 min ago") and line.endswith("7 deleted") for line in lines)
    assert "since 06 Oct: █▅▁ 665" in lines
    assert any(line.startswith("• 609 of 665 keys have no expiry") for line in lines)
    assert lines[-4:] == ["Still firing:", "🔴 disk: full (for 2 h)", "", "Status page: https://keys.example/"]


def test_without_history_forecast_or_alerts_the_summary_is_shorter() -> None:
    text = summary.text(
        date(2025, 10, 8), report(total=5, active=5), growth_of(census(total=5), "db"), [], WatchSettings()
    )
    assert "since" not in text
    assert "in 7 days:" not in text
    assert "firing" not in text
    assert text.startswith("🟢")


@pytest.mark.parametrize("alerting", [True, False])
def test_start_and_stop_say_which_service_and_where(store: Store, alerting: bool) -> None:
    messages: list[str] = []
    service = Announcements(
        store, WatchSettings(version="1.2", name="bots"), messages.append, BoundedCalls(1, "question")
    )
    service.host = "vm1"
    service.start(START, alerting=alerting, muted=False)
    role = "sends the alerts" if alerting else "stands by; another instance sends the alerts"
    assert f"bots: Signal Keystore 1.2 has started on vm1 and {role}. " in messages.pop()
    service.stop("3 h", [])
    assert messages.pop() == "⏹ bots: Signal Keystore 1.2 on vm1 stops, after 3 h"
    service.stop("3 h", ["🔴 x"])
    assert messages.pop().endswith("Still firing:\n🔴 x")
