"""Simulated months through the real store: the same seed gives the same month, and forecasts are checked by it."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.measuring import no_progress
from bench.simulate.__main__ import main as simulate
from bench.simulate.month import Clock, ForecastOutcome, Month, accuracy, month
from bench.simulate.traffic import DEMO_LIKE, random_mix
from keystore import open_store
from keystore.ttl import DIARY
from monitor.growth import growth_report
from monitor.reports.check import check_report

pytestmark = pytest.mark.slow

SEED = 18


@pytest.fixture(autouse=True)
def fewer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every six hours. The counts of every hour take most of a month's time, and change its forecasts little."""
    monkeypatch.setattr("bench.simulate.month.COUNT_HOURS", 6)


@pytest.mark.timeout(600)
def test_the_forecast_of_day_14_beats_the_legacy_projection(tmp_path: Path) -> None:
    clock = Clock()
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock, policy=DIARY) as store:
        lived = month(store, clock, random_mix(SEED), from_demo=False, progress=no_progress)
    of_day_14 = accuracy([lived], 14)
    assert of_day_14.worst_percent <= 20
    assert of_day_14.diary_median_percent > 2 * of_day_14.worst_percent
    assert len(lived.totals) == 31
    assert lived.swept > lived.totals[-1] / 2


def test_the_accuracy_of_several_months_is_their_median_and_their_worst() -> None:
    def lived(seed: int, error: float, legacy_error: float) -> Month:
        forecast = ForecastOutcome(14, 90, 100, 110, 100, error, error < 10, 150, legacy_error)
        return Month(random_mix(seed), (), (forecast,), 0, 0)

    of_day_14 = accuracy([lived(1, 1.0, -38.0), lived(2, -4.0, 50.0), lived(3, 12.0, 41.0)], 14)
    assert (of_day_14.mixes, of_day_14.within) == (3, 2)
    assert (of_day_14.median_percent, of_day_14.worst_percent) == (4.0, 12.0)
    assert (of_day_14.diary_median_percent, of_day_14.diary_worst_percent) == (41.0, 50.0)


def test_a_database_with_keys_is_left_alone(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(postgres_url) as store:
        store.set("962302", {"session": {"a": b"A"}}, creds=b"C")
        assert simulate(["--mixes", "0", "--url", postgres_url]) == 1
        assert "isn't empty" in capsys.readouterr().err
        assert store.load("962302").total == 1
    with pytest.raises(SystemExit):
        simulate(["--url", "sqlite:///k.db"])


def test_a_month_can_be_lived_up_to_now_for_the_status_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A month with less traffic is over sooner, and ends at the same moment.
    monkeypatch.setattr("bench.simulate.__main__.DEMO_LIKE", replace(DEMO_LIKE, contacts=4, groups=1, burst=20))
    address = f"sqlite:///{tmp_path}/demo.db"
    assert simulate(["--into", address]) == 0
    with open_store(address) as store:
        report = check_report(store, 21_600.0)
        assert growth_report(store).forecast is not None
    assert report.verdict == "ok"
    assert len(report.totals_30d) >= 30
    assert report.taken_at - report.totals_30d_at[-1] < timedelta(hours=1)


def test_an_unwritable_file_is_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(["--json", "/nope/x.json"]) == 1
    assert "/nope/x.json: No such file or directory" in capsys.readouterr().err


def test_a_seed_draws_the_same_mix() -> None:
    assert random_mix(7) == random_mix(7)
    assert random_mix(7) != random_mix(8)
