"""What the check says of a table: the verdict and the advice, as a function of what was counted."""

from datetime import timedelta

import pytest

from keystore.records import Census, SweepRun
from monitor.reports.check import Finding, judge, sweep_state, worst
from tests.monitor.sample_censuses import census, run

HOUR = timedelta(hours=1)
EVERY_S = 6 * 3600.0
RECENT = run(1 * HOUR)
WELL = census(total=100, active=100)


def judged(counted: Census, *runs: SweepRun, enforced: bool = True) -> tuple[Finding, ...]:
    return judge(counted, sweep_state(list(runs)), EVERY_S, expiry_enforced=enforced)


def test_a_table_that_is_well_has_no_advice() -> None:
    findings = judged(WELL, RECENT)
    assert (worst(findings), findings) == ("ok", ())


def test_an_empty_table_may_be_the_wrong_one() -> None:
    (finding,) = judged(census(), enforced=False)
    assert finding.verdict == "warning"
    assert "the database that your bots use" in finding.advice


@pytest.mark.parametrize(("lacking", "verdict"), [(1, "warning"), (50, "warning"), (51, "critical"), (100, "critical")])
def test_keys_without_expiry_are_worth_a_warning_and_most_of_them_an_alarm(lacking: int, verdict: str) -> None:
    findings = judged(census(total=100, without_expiry=lacking), RECENT)
    assert worst(findings) == verdict
    assert f"{lacking} of 100" in findings[0].advice
    assert "backfill" in findings[0].advice


def test_a_table_that_could_be_kept_so_is_well_and_told_how() -> None:
    findings = judged(WELL, RECENT, enforced=False)
    assert worst(findings) == "ok"
    assert "--enforce" in findings[0].advice


def test_a_sweeper_is_late_after_two_intervals() -> None:
    assert worst(judged(WELL, run(12 * HOUR))) == "ok"
    findings = judged(WELL, run(12 * HOUR + timedelta(seconds=1)))
    assert worst(findings) == "critical"
    assert "12 h ago" in findings[0].advice


def test_keys_that_nobody_ever_swept_are_worth_a_warning() -> None:
    assert worst(judged(WELL)) == "warning"
    assert worst(judged(WELL, run(HOUR, finished=False))) == "warning"


def test_a_failed_sweep_is_told_and_does_not_count_as_one() -> None:
    findings = judged(WELL, run(HOUR, error="the disk is full"), run(13 * HOUR))
    assert [finding.verdict for finding in findings] == ["critical", "warning"]
    assert "the disk is full" in findings[1].advice


def test_a_failure_that_a_later_sweep_made_good_is_not_told() -> None:
    assert judged(WELL, RECENT, run(2 * HOUR, error="the disk is full")) == ()


def test_a_sweep_at_work_hides_no_earlier_one() -> None:
    assert judged(WELL, run(timedelta(0), finished=False), RECENT) == ()


def test_a_backlog_between_two_sweeps_is_no_alarm() -> None:
    findings = judged(census(total=100, active=90, expired=10), RECENT)
    assert worst(findings) == "ok"
    assert "10 expired" in findings[0].advice


def test_rewritten_pre_keys_are_worth_a_warning() -> None:
    findings = judged(census(total=100, active=100, pre_keys_rewritten_7d=3), RECENT)
    assert worst(findings) == "warning"
    assert "3 unused pre-keys" in findings[0].advice


def test_the_worst_comes_first() -> None:
    findings = judged(census(total=100, without_expiry=100, pre_keys_rewritten_7d=1), run(99 * HOUR), enforced=False)
    assert [finding.verdict for finding in findings] == ["critical", "critical", "warning"]
