"""Samples of measurements, and the notices of whole days: a day of the original operator among them."""

from datetime import datetime, timedelta

import pytest

from keystore.records import Burst, DueSessions, SweepRun
from monitor.alerts import rules, samples
from monitor.alerts.decisions import AlertState, Notice, Sample, Standing, decide
from monitor.alerts.memory import BotMemory, BotReport, Limit, ProcessMemory
from monitor.forecast.backtest import JudgedForecast
from monitor.held_back import error_of
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START
from tests.monitor.sample_censuses import census, run

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
EVERY_S = 6 * 3_600.0
THRESHOLDS = rules.thresholds(WatchSettings(EVERY_S))
MB = 1_000_000
HEAP_LIMIT = 2_096 * MB


def bot(used_mb: float, total_mb: float, limit: int = HEAP_LIMIT) -> BotMemory:
    return BotMemory(round(used_mb * MB), round(total_mb * MB), limit, round(total_mb * MB) + 60 * MB)


def verdict(days: int, high: int, came: int, made_ago: timedelta) -> JudgedForecast:
    return JudgedForecast(START - made_ago, days, high - 200, high - 100, high, came)


class Day:
    """A day of reports and looks every minute."""

    def __init__(self, percent: float = 90) -> None:
        self.thresholds = rules.thresholds(WatchSettings(EVERY_S, memory_alert_percent=percent))
        self.now = START
        self.state = AlertState()
        self.notices: list[Notice] = []

    def reports(self, memory: BotMemory) -> None:
        """A quarter of an hour of the same report."""
        for _ in range(15):
            self.look({"962302": BotReport(memory, self.now)})

    def look(self, reports: dict[str, BotReport]) -> None:
        ages = {company: self.now - report.reported_at for company, report in reports.items()}
        reported = samples.of_bots(reports, ages, self.state, self.now - START)
        self.state, notices = decide(self.thresholds, self.state, reported, self.now)
        self.notices += notices
        self.now += MINUTE

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]


@pytest.mark.parametrize("percent", [80, 90], ids=["at the original threshold", "at ours"])
def test_a_day_of_a_heap_at_82_to_85_percent_of_its_total_is_silent(percent: float) -> None:
    day = Day(percent)
    for n in range(96):
        day.reports(bot(used_mb=150 * (0.82 + 0.01 * (n % 4)), total_mb=150))
    assert day.notices == []


def test_a_leak_to_92_percent_of_the_limit_is_one_alert_and_one_recovery() -> None:
    day = Day()
    for n in range(93):  # From 0 to 92 % of the limit, with the total always just above it.
        day.reports(bot(used_mb=2_096 * n / 100, total_mb=2_096 * min(1.0, n / 100 + 0.02)))
    for _ in range(8):
        day.reports(bot(used_mb=2_096 * 0.92, total_mb=2_096 * 0.95))
    assert day.kinds == ["raised"]
    for _ in range(96):
        day.reports(bot(used_mb=120, total_mb=150))
    assert day.kinds == ["raised", "recovered"]
    assert day.notices[0].subject == "962302"
    assert "heap 1.9 GB of its limit 2.1 GB (90%)" in day.notices[0].detail, "it states the measurement"
    assert "2.0 GB resident" in day.notices[0].detail


def test_a_bot_that_ended_at_its_limit_is_silent_and_has_not_recovered() -> None:
    day = Day()
    report = {"962302": BotReport(bot(2_000, 2_050), day.now)}
    for _ in range(10):
        day.look(report)
    assert day.kinds == ["raised"], "its last report is nearly ten minutes old"
    for _ in range(60):
        day.look(report)
    assert [(notice.kind, notice.rule.id) for notice in day.notices] == [
        ("raised", "bot-memory"),
        ("ended", "bot-memory"),
        ("raised", "silent-bot"),
    ]
    last = "its last report: heap 2.0 GB of its limit 2.1 GB (95%), 2.1 GB resident"
    assert day.notices[1].detail == f"it has stopped reporting; {last}"
    assert day.notices[2].detail == f"no heartbeat since 2025-10-08 09:41 UTC; {last}"


def test_alerts_about_a_bot_that_was_closed_end() -> None:
    day = Day()
    for _ in range(5):
        day.look({"962302": BotReport(bot(2_000, 2_050), day.now)})
    day.look({})
    assert day.kinds == ["raised", "ended"]
    assert day.notices[1].detail == "it was closed, or has been silent for a day"


def test_a_bot_is_silent_only_since_heartbeats_can_arrive() -> None:
    report = {"962302": BotReport(bot(100, 150), START - HOUR)}

    def silent(state: AlertState, since_ago: timedelta) -> float | None:
        return list(samples.of_bots(report, {"962302": HOUR}, state, since_ago))[-1].value

    assert silent(AlertState(), 9 * MINUTE) == pytest.approx(0.9)
    assert silent(AlertState(), 10 * MINUTE) == 1
    fires = AlertState({("silent-bot", "962302"): Standing(START, True, START)})
    assert silent(fires, MINUTE) == 6, "an alert that fires doesn't end with a restart of the service"


def test_the_services_memory_comes_with_its_breakdown() -> None:
    memory = ProcessMemory(460 * MB, 430 * MB, 300 * MB, Limit(500 * MB, "its control group (v2)"))
    sample = samples.of_process(memory)
    assert sample.value == pytest.approx(0.92)
    assert sample.detail == (
        "460.0 MB of 500.0 MB (92%), the limit of its control group (v2); 430.0 MB unshared, 300.0 MB in its heap"
    )
    unknown = samples.of_process(ProcessMemory(1, 1, None, Limit(2, "the machine's memory")))
    assert "in its heap" not in unknown.detail


def test_memory_alerts_at_the_set_percentage_and_clears_five_points_below() -> None:
    assert (THRESHOLDS["memory"].raise_at, THRESHOLDS["memory"].clear_at) == (0.9, 0.85)
    assert rules.thresholds(WatchSettings(EVERY_S, memory_alert_percent=80))["bot-memory"].raise_at == 0.8
    assert rules.thresholds(WatchSettings(EVERY_S, memory_alert_percent=80))["bot-memory"].clear_at == 0.75


def test_the_database_is_well_or_away_and_says_why() -> None:
    assert samples.of_database("postgresql://db/bots", None).value == 0
    for error in ("postgresql://db/bots: no answer within 5 s", "no answer within 5 s"):
        away = samples.of_database("postgresql://db/bots", error)
        assert (away.value, away.detail) == (1, "postgresql://db/bots: no answer within 5 s"), "no word stands twice"


def test_loads_are_judged_by_their_95th_percentile_once_there_are_some() -> None:
    assert list(samples.of_loads([900.0] * 4, 750, "962302")) == []
    (one_slow,) = samples.of_loads([50.0] * 19 + [2_000.0], 750, "962302")
    assert one_slow.value == 50, "one of twenty"
    (two_slow,) = samples.of_loads([50.0] * 18 + [1_000.0, 2_000.0], 750, "962302")
    assert two_slow.value == 1_000
    assert "1,000 ms (95th percentile of 20), budget 750 ms; of 962302" in two_slow.detail
    assert (THRESHOLDS["load"].raise_at, THRESHOLDS["load"].clear_at) == (750, 600)


def test_the_backlog_is_a_share_of_a_table_that_is_large_enough() -> None:
    backlog, _ = samples.of_census(census(total=1_000, active=850, expired=150))
    assert (backlog.rule.id, backlog.value) == ("backlog", 0.15)
    small, _ = samples.of_census(census(total=99, expired=99))
    assert small.value == 0


def test_a_backlog_is_no_alert_before_the_next_sweep_had_its_chance() -> None:
    (backlog, _), state = samples.of_census(census(total=1_000, expired=150)), AlertState()
    state, notices = decide(THRESHOLDS, state, [backlog], START)
    state, notices = decide(THRESHOLDS, state, [backlog], START + timedelta(seconds=EVERY_S))
    assert notices == ()
    state, notices = decide(THRESHOLDS, state, [backlog], START + timedelta(seconds=EVERY_S) + 10 * MINUTE)
    assert [notice.kind for notice in notices] == ["raised"]


def test_one_key_without_expiry_is_enough() -> None:
    _, lacking = samples.of_census(census(total=665, without_expiry=609))
    assert (lacking.value, THRESHOLDS["no-expiry"].raise_at) == (609, 1)
    assert "609 of 665 keys" in lacking.detail
    _, none = samples.of_census(census(total=665))
    assert (none.value, none.detail) == (0, "every key has one")


def sweeper(runs: list[SweepRun], watching_since: datetime) -> Sample:
    """The sample of a sweeper at START."""
    since, event = samples.last_sweep(runs, watching_since)
    return samples.of_sweeps(event, (START - since).total_seconds(), EVERY_S)


def test_a_sweeper_is_late_two_intervals_after_its_last_success() -> None:
    late = sweeper([run(HOUR, error="disk full"), run(12 * HOUR)], START)
    assert late.value == 2
    assert "the last success was 12 h ago, and one is due every 6 h" in late.detail
    on_time = sweeper([run(HOUR)], START - 9 * DAY).value
    assert on_time is not None
    assert on_time < THRESHOLDS["sweeper"].clear_at


def test_a_sweeper_without_success_is_late_from_its_first_try_or_the_start() -> None:
    tried = sweeper([run(18 * HOUR, error="disk full")], START - HOUR)
    assert tried.value == 3
    assert "none succeeded; the first try was 18 h ago" in tried.detail
    silent = sweeper([], START - 24 * HOUR)
    assert silent.value == 4
    assert "none has run; this service started 24 h ago" in silent.detail


def test_the_table_is_compared_with_last_weeks_or_yesterdays_forecast() -> None:
    week, yesterday = verdict(7, 2_000, 3_000, 7 * DAY), verdict(1, 2_900, 3_000, DAY)
    old = verdict(1, 100, 3_000, 5 * DAY)
    (sample,) = samples.of_growth([yesterday, week, old], START)
    assert sample.value == 1.5
    assert sample.detail == "3,000 keys; 7 days ago 1,800 to 2,000 were expected"
    (sample,) = samples.of_growth([old, yesterday], START)
    assert sample.value == pytest.approx(3_000 / 2_900)
    assert "yesterday" in sample.detail
    assert list(samples.of_growth([old], START)) == []
    assert list(samples.of_growth([], START)) == []


def test_pre_keys_alert_below_five_and_recover_at_twenty() -> None:
    limits = THRESHOLDS["pre-keys"]

    def value(low: dict[str, int], firing: tuple[str, ...] = ()) -> float:
        (sample,) = samples.of_pre_keys(low, firing)
        assert sample.value is not None
        return sample.value

    assert [value({"a": left}) >= limits.raise_at for left in (0, 4, 5, 19)] == [True, True, False, False]
    assert not value({"a": 19}) <= limits.clear_at
    assert value({}, ("a",)) <= limits.clear_at, "it is no longer among those with fewer than 20"


def test_a_burst_in_the_future_is_from_before_the_clock_was_set_back() -> None:
    assert list(samples.of_bursts([Burst("a", START + 40 * DAY, "pre-key", 812)], START)) == []


def test_each_burst_of_pre_keys_is_one_event() -> None:
    bursts = [
        Burst("a", START - HOUR, "pre-key", 812),
        Burst("a", START, "pre-key", 250),
        Burst("a", START, "lid", 100),
    ]
    first, second = samples.of_bursts(bursts, START)
    assert first.subject != second.subject
    assert "a wrote 812 new pre-keys after 2025-10-08 08:41 UTC" in first.detail
    state, notices = decide(THRESHOLDS, AlertState(), [first, second], START)
    assert [notice.kind for notice in notices] == ["information"] * 2
    _, notices = decide(THRESHOLDS, state, [first, second], START + rules.BURST_REPORTED_FOR + HOUR)
    assert notices == (), "remembered for longer than it is reported"


def test_a_disk_is_nearly_full_when_little_is_left() -> None:
    gb = 1_000_000_000
    assert samples.of_disk(19 * gb, gb).value == 0.95
    assert samples.of_disk(1_995 * gb, 5 * gb).value == 0.0, "5 GB are plenty for a key store"
    assert samples.of_disk(0, 0).value == 0.0
    assert "1.0 GB of 20.0 GB are free" in samples.of_disk(19 * gb, gb).detail


@pytest.mark.parametrize("rule", rules.RULES.values(), ids=lambda rule: rule.id)
def test_every_rule_can_be_raised_and_be_over(rule: rules.Rule) -> None:
    limits = THRESHOLDS[rule.id]
    high = Sample(rule, "", limits.raise_at, "")
    state, raised = decide(THRESHOLDS, AlertState(), [high], START)
    later = START + timedelta(seconds=limits.for_s)
    if limits.for_s:
        state, raised = decide(THRESHOLDS, state, [high], later)
    state, over = decide(THRESHOLDS, state, [Sample(rule, "", limits.clear_at, "")], later)
    expected = ["information"] if rule.severity == "information" else ["raised", "recovered"]
    assert [notice.kind for notice in (*raised, *over)] == expected


def test_a_sweep_that_held_companies_back_is_a_success_and_an_alert_until_one_holds_nothing_back() -> None:
    assert list(samples.of_held_back([])) == []
    held = run(HOUR, error=error_of([DueSessions("962302", 34, 40)]))
    (sample,) = samples.of_held_back([run(timedelta(0), finished=False), held, run(7 * HOUR)])
    assert sample.value == THRESHOLDS["held-back"].raise_at
    assert "held back 1 company that would lose most of its sessions at once: 962302 (34 of 40)" in sample.detail
    on_time = sweeper([held], START - 9 * DAY).value
    assert on_time is not None
    assert on_time < THRESHOLDS["sweeper"].clear_at, "the others were swept"
    for later in (run(timedelta(0)), run(timedelta(0), error="disk full")):
        (sample,) = samples.of_held_back([later, held])
        assert sample.value == THRESHOLDS["held-back"].clear_at
