"""The verdict and the advice of `check`, as a function of the counts."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore.records import Census, DueSessions, SweepRun, TypeCount
from monitor.alerts.rules import RULES
from monitor.forecast.history import TableCount
from monitor.held_back import error_of
from monitor.reports.check import Finding, judge, sweep_state, worst
from tests.monitor.sample_censuses import census, run

HOUR = timedelta(hours=1)
EVERY_S = 6 * 3600.0
RECENT = run(1 * HOUR)
HEALTHY = census(total=100, active=100)


def judged(counted: Census, *runs: SweepRun, enforced: bool = True) -> tuple[Finding, ...]:
    return judge(counted, sweep_state(list(runs)), EVERY_S, expiry_enforced=enforced)


def test_a_healthy_table_has_no_advice() -> None:
    findings = judged(HEALTHY, RECENT)
    assert (worst(findings), findings) == ("ok", ())


@pytest.mark.parametrize(
    ("past", "verdict"),
    [([], "ok"), ([0], "ok"), ([0, 0], "warning"), ([3], "warning")],
    ids=["never counted", "new today", "empty for two days", "emptied today"],
)
def test_an_empty_table_is_new_for_a_day_and_may_be_the_wrong_one_then(past: list[int], verdict: str) -> None:
    taken_at = census().taken_at
    days = range(len(past) - 1, -1, -1)
    counts = [
        TableCount(taken_at - timedelta(days=n, hours=1), keys, {}, 0) for n, keys in zip(days, past, strict=True)
    ]
    (finding,) = judge(census(), sweep_state([]), 6 * 3_600, expiry_enforced=False, past=counts)
    assert finding.verdict == verdict
    assert "the database that your bots use" in finding.advice


def test_a_bot_that_saved_its_creds_alone_uses_this_database() -> None:
    (finding,) = judged(replace(census(), companies=1))
    assert finding == Finding("ok", "1 company has its creds here, and no keys yet: these come with the first messages")


@pytest.mark.parametrize("lacking", [1, 51, 100])
def test_keys_without_expiry_are_a_warning_as_in_the_alert(lacking: int) -> None:
    findings = judged(census(total=100, without_expiry=lacking), RECENT)
    assert worst(findings) == RULES["no-expiry"].severity == "warning"
    assert f"{lacking} of 100" in findings[0].advice
    assert "backfill" in findings[0].advice


def test_keys_of_a_mis_split_type_are_a_warning_that_names_repair() -> None:
    counts = (TypeCount("lid", 1_172, 0, 1_172, 0, 0, 0, 0), TypeCount("sender-key", 9, 9, 0, 0, 0, 0, 0))
    mis_split = replace(HEALTHY, total=1_181, by_type=counts)
    (finding,) = judged(mis_split, RECENT)
    assert finding.verdict == "warning"
    assert "1,172 keys have a mis-split type (`lid`)" in finding.advice
    assert "python run.py repair" in finding.advice


def test_a_table_that_could_enforce_expiries_is_ok_with_advice() -> None:
    findings = judged(HEALTHY, RECENT, enforced=False)
    assert worst(findings) == "ok"
    assert "--enforce" in findings[0].advice


def test_a_sweeper_is_late_after_two_intervals() -> None:
    assert worst(judged(HEALTHY, run(12 * HOUR))) == "ok"
    findings = judged(HEALTHY, run(12 * HOUR + timedelta(seconds=1)))
    assert worst(findings) == "critical"
    assert "12 h ago" in findings[0].advice


def test_keys_that_were_never_swept_are_a_warning() -> None:
    assert worst(judged(HEALTHY)) == "warning"
    assert worst(judged(HEALTHY, run(HOUR, finished=False))) == "warning"


def test_a_failed_sweep_is_reported_and_does_not_count_as_a_sweep() -> None:
    findings = judged(HEALTHY, run(HOUR, error="the disk is full"), run(13 * HOUR))
    assert [finding.verdict for finding in findings] == ["critical", "warning"]
    assert "the disk is full" in findings[1].advice


def test_a_sweep_that_held_companies_back_is_a_warning_and_no_late_sweep() -> None:
    error = error_of([DueSessions("962302", 34, 40)])
    (finding,) = judged(HEALTHY, run(HOUR, error=error), run(99 * HOUR))
    assert finding.verdict == "warning"
    assert "the latest sweep held back 1 company" in finding.advice
    assert "962302 (34 of 40)" in finding.advice
    assert judged(HEALTHY, run(HOUR), run(2 * HOUR, error=error)) == ()


def test_a_failure_before_a_later_successful_sweep_is_not_reported() -> None:
    assert judged(HEALTHY, RECENT, run(2 * HOUR, error="the disk is full")) == ()


def test_an_unfinished_sweep_hides_no_earlier_one() -> None:
    assert judged(HEALTHY, run(timedelta(0), finished=False), RECENT) == ()


def test_a_backlog_between_two_sweeps_is_no_alarm() -> None:
    findings = judged(census(total=100, active=90, expired=10), RECENT)
    assert worst(findings) == "ok"
    assert "10 expired" in findings[0].advice


def test_rewritten_pre_keys_are_a_warning() -> None:
    findings = judged(census(total=100, active=100, pre_keys_rewritten_7d=3), RECENT)
    assert worst(findings) == "warning"
    assert "3 unused pre-keys" in findings[0].advice


def test_the_worst_comes_first() -> None:
    findings = judged(census(total=100, without_expiry=100, pre_keys_rewritten_7d=1), run(99 * HOUR), enforced=False)
    assert [finding.verdict for finding in findings] == ["critical", "warning", "warning"]


def test_numbers_have_thousands_separators() -> None:
    findings = judged(census(total=12_345, without_expiry=1_158, expired=2_000), run(2_000 * HOUR))
    assert "1,158 of 12,345 keys" in findings[1].advice
    assert "2,000 h ago" in findings[0].advice
