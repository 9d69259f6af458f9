"""Reports as text, and as JSON with the public names."""

import io
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from keystore.records import DueSessions, TypeCount
from monitor.forecast.backtest import Outcome
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import TableCount
from monitor.forecast.type_forecast import TypeForecast
from monitor.growth import growth_of
from monitor.reports import terminal
from monitor.reports.doctor import DoctorCheck, DoctorReport
from monitor.reports.key_types import TypesReport
from monitor.reports.perf import PerfReport, Rating, rating
from monitor.reports.report_json import as_json
from monitor.sweeper import SweepReport
from monitor.transfer.state import TransferReport
from monitor.upkeep.backfill import BackfillReport
from monitor.upkeep.repair import Move, RepairReport
from rig.fixtures.clock import START
from tests.monitor.sample_censuses import census
from tests.monitor.sample_reports import CHECK as A_CHECK

CHECK = replace(A_CHECK, database="sqlite:///k.db", verdict="warning", advice=("5 keys have [no] expiry",))
TYPES = TypesReport("db", 10, 4, 6, (TypeCount("[red]odd", 10, 4, 6, 0, 0, 1, 2),))
PERF = PerfReport("db", "demo", 12.34, 1.0, 20.0, 32.34, 665, 240_000, 900_000, "excellent", 750, True, 5)


def text(renderable: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=140).print(renderable, overflow="ignore", crop=False)
    return out.getvalue()


def plain(report: Any) -> Any:
    return json.loads(as_json(report))


FORECAST = Forecast(
    made_at=START,
    now=1_000,
    days_seen=14.0,
    equilibrium=1_365,
    days_to_equilibrium=310,
    per_type=(
        TypeForecast("session", 800, 12.5, 0.0, 0, 7, 850, 900, 1_000, 600, 400),
        TypeForecast("pre-key", 200, 0.0, 0.25, 250, 7, 210, 220, 365, 365, 0),
        TypeForecast("identity-key", 0, 0.5, 0.0, 0, None, 4, 15, None, None, None),
    ),
    path=tuple(float(1_000 + day) for day in range(366)),
    sd=tuple(day / 2 for day in range(366)),
)


def test_growth_shows_the_forecast_beside_the_legacy_projection() -> None:
    report = replace(
        growth_of(census(total=1_000, created_7d=70), "db"),
        forecast=FORECAST,
        what_if=replace(FORECAST, equilibrium=None, days_to_equilibrium=None),
        history=(TableCount(START - timedelta(days=9), 500, {}, 1), TableCount(START, 1_000, {}, 2)),
        outcomes=(Outcome(7, 5, 3.2, 9.9, 4),),
    )
    shown = text(terminal.growth(report))
    for part in (
        "▁█  500 → 1,000",
        "in 30 days",
        "1,005 to 1,055",
        "in 310 days",
        "pre-key: bursts of 250 new keys every 4.0 days",
        "--ttl",
    ):
        assert part in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["session", "800", "12.5", "7", "d", "900", "1,000", "400"] in rows
    assert ["identity-key", "0", "0.5", "forever", "15", "never"] in rows
    assert ["7", "days", "5", "3.2", "%", "9.9", "%", "4"] in rows
    document = plain(report)
    assert document["forecast"]["keys_in_days"]["30"] == {"low": 1_005, "expected": 1_030, "high": 1_055}
    assert "path" not in document["forecast"], "365 numbers are nothing to read"


def test_growth_gives_the_reason_for_a_missing_forecast() -> None:
    report = replace(growth_of(census(), "db"), forecast_waits_for="three days")
    assert "none yet: it needs three days" in text(terminal.growth(report))
    assert plain(report)["forecast"] is None


def test_check_and_types_show_the_past() -> None:
    past = text(terminal.check(replace(CHECK, totals_30d=(1, 5, 9))))
    assert "▁▅█" in past
    assert "▁█" in text(terminal.types(replace(TYPES, totals_30d={"[red]odd": (1, 2)})))
    assert "last 30 days" not in text(terminal.types(TYPES))


def test_a_field_left_out_of_the_repr_is_left_out_of_the_json() -> None:
    @dataclass(frozen=True)
    class Access:
        token: str = field(repr=False)
        chats: tuple[int, ...]
        api_url: str

    assert plain(Access("S3CRET", (1,), "http://x")) == {"chats": [1], "api_url": "http://x"}


def test_check_shows_verdict_database_counts_and_advice() -> None:
    shown = text(terminal.check(CHECK))
    for part in ("WARNING  sqlite:///k.db", "1,234", "5 min ago", "3 h ago", "7 deleted", "1.5 MB", "[no] expiry"):
        assert part in shown
    assert shown.index("WARNING") < shown.index("1,234") < shown.index("[no] expiry")


def test_check_as_json_has_the_fixed_names() -> None:
    document = plain(CHECK)
    fixed = {"database", "total", "active", "expired", "guarded", "without_expiry", "companies"}
    assert fixed | {"last_activity_at", "last_sweep", "verdict", "advice"} <= document.keys()
    assert document["last_activity_at"] == "2025-10-08T09:36:27.123456+00:00"
    assert document["last_sweep"]["deleted"] == 7
    assert document["advice"] == ["5 keys have [no] expiry"]


def test_a_missing_sweep_is_shown_as_never_and_null() -> None:
    report = replace(CHECK, last_activity_at=None, last_sweep=None)
    assert text(terminal.check(report)).count("never") == 2
    assert (plain(report)["last_activity_at"], plain(report)["last_sweep"]) == (None, None)


def test_names_of_types_are_shown_without_markup() -> None:
    shown = text(terminal.types(TYPES))
    assert "[red]odd" in shown
    assert shown.splitlines()[-1].split() == ["all", "types", "10", "4", "6"]
    assert plain(TYPES)["types"][0]["key_type"] == "[red]odd"
    assert {"total", "with_expiry", "without_expiry"} <= plain(TYPES)["types"][0].keys()


def test_growth_prints_the_original_operator_s_numbers() -> None:
    report = growth_of(
        census(total=665, created_24h=330, created_7d=425, oldest_created_at=START - timedelta(days=17.1)), "db"
    )
    shown = text(terminal.growth(report))
    for part in ("665 keys", "17 days", "330", "425, 61 a day", "427", "−36 %, 238 fewer", "854", "+28 %, 189 more"):
        assert part in shown
    document = plain(report)
    assert document["diary"] == {
        "7": {"keys": 427, "change": -238, "percent": -36},
        "14": {"keys": 854, "change": 189, "percent": 28},
    }
    assert document["forecast"] is None


def test_perf_says_rating_times_and_budget() -> None:
    shown = text(terminal.perf(PERF))
    for part in ("OK  db", "12.3 ms, excellent (665 keys", "within the budget of 750 ms"):
        assert part in shown
    over = replace(PERF, within_budget=False)
    assert "WARNING  db" in text(terminal.perf(over))
    assert "over the budget" in text(terminal.perf(over))
    assert {"load_ms", "get_ms", "burst_ms", "keys", "size_bytes", "rating", "budget_ms"} <= plain(PERF).keys()


@pytest.mark.parametrize(
    ("load_ms", "word"),
    [(0, "excellent"), (199.9, "excellent"), (200, "good"), (499.9, "good"), (500, "acceptable"), (1_000, "slow")],
)
def test_a_load_is_rated_on_the_original_operator_s_scale(load_ms: float, word: Rating) -> None:
    assert rating(load_ms) == word


def test_a_dry_run_of_backfill_reads_differently() -> None:
    done = BackfillReport("db", 609, {"session": 9, "pre-key": 600}, enforced=True, dry_run=False)
    assert "609 keys got an expiry in db" in text(terminal.backfill(done))
    assert "refuses keys without expiry" in text(terminal.backfill(done))
    assert "609 keys would get" in text(terminal.backfill(replace(done, dry_run=True)))
    asked = replace(done, dry_run=True, enforced=False, enforce=True)
    assert "would then refuse every write of a key without expiry" in text(terminal.backfill(asked))
    assert plain(done)["by_type"] == {"session": 9, "pre-key": 600}


def test_a_skipped_sweep_reads_differently_from_an_empty_one() -> None:
    report = SweepReport("db", 3, {"session": 3}, 12.5)
    assert "3 expired keys deleted from db in 12 ms" in text(terminal.sweep(report))
    assert "another sweeper" in text(terminal.sweep(replace(report, deleted=0, skipped=True)))
    assert {"deleted", "by_type", "took_ms"} <= plain(report).keys()


def test_a_sweep_names_the_companies_that_lose_most_sessions() -> None:
    report = SweepReport("db", 34, {"session": 34}, 12.5, losing_most=(DueSessions("1", 34, 40),))
    assert "1 company lost most of its sessions at once: 1 (34 of 40)" in text(terminal.sweep(report))
    assert "1 company would lose most of its sessions" in text(terminal.sweep(replace(report, dry_run=True)))
    assert plain(report)["losing_most"] == [{"company_id": "1", "due": 34, "total": 40}]


def test_doctor_shows_status_and_advice() -> None:
    report = DoctorReport((DoctorCheck("file", "failed", "run `chmod 600 k.db`"), DoctorCheck("ttl", "ok", "well")))
    lines = text(terminal.doctor(report)).splitlines()
    assert lines[:2] == ["CRITICAL  1 of 2 checks passed", "  critical  file  run `chmod 600 k.db`"]
    assert plain(report)["healthy"] is False
    assert plain(DoctorReport(report.checks[1:]))["healthy"] is True


def test_every_verdict_in_json_is_one_of_three_words_under_one_name() -> None:
    doctor = DoctorReport((DoctorCheck("file", "failed", "…"), DoctorCheck("ttl", "warning", "…")))
    assert [check["verdict"] for check in plain(doctor)["checks"]] == ["critical", "warning"]
    for report, verdict in (
        (CHECK, "warning"),
        (doctor, "critical"),
        (DoctorReport(doctor.checks[1:]), "warning"),
        (PERF, "ok"),
        (replace(PERF, within_budget=False), "warning"),
        (replace(PERF, rating="slow"), "critical"),
    ):
        assert plain(report)["verdict"] == verdict


def test_every_command_that_changes_keys_counts_them_under_one_name() -> None:
    move = Move("1", "lid", "mapping-1", "lid-mapping", "1")
    for report in (
        SweepReport("db", 3, {"session": 3}, 12.5),
        BackfillReport("db", 3, {"session": 3}, enforced=False, dry_run=False),
        RepairReport("db", 3, {"lid → lid-mapping": 3}, (move,) * 3, (), dry_run=False),
    ):
        assert plain(report)["keys"] == 3


def test_what_is_left_out_for_one_reason_is_one_line_without_names() -> None:
    skipped = [(f"lid mapping-7926000{number}", "a mis-split row") for number in range(172)]
    report = TransferReport(
        company="demo",
        database="db",
        source="db",
        target="folder",
        keys=493,
        by_type={"session": 493},
        creds=True,
        expired=0,
        skipped=(
            *skipped,
            *((f"session-{number}.json", f"empty (character {number})") for number in (1, 2)),
            ("pre-key-7.json", "not JSON (character 5)"),
        ),
        dry_run=False,
    )
    lines = text(terminal.transfer(report)).splitlines()
    at = lines.index("left out, and may be keys: 175")
    assert lines[at + 1 :] == [
        "  172             a mis-split row",
        "  2               empty",
        "  pre-key-7.json  not JSON (character 5)",
        "--json lists each by its name",
    ]
    assert len(plain(report)["skipped"]) == 175


def test_the_rows_of_a_repair_are_counted_by_company_and_type() -> None:
    moves = tuple(Move("demo", "lid", f"mapping-7926000{number}", "lid-mapping", "7926") for number in range(1_158))
    shown = text(terminal.repair(RepairReport("db", 1_158, {}, moves, moves[:1], dry_run=True)))
    assert "  demo  lid → lid-mapping  1,158\n" in shown
    assert "1 row will stay" in shown
    assert "7926" not in shown
