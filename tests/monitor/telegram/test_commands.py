"""Replies to commands and buttons: reports, the question before a sweep, and failures."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore.errors import InvalidInput, StoreUnavailable
from keystore.records import DueSessions, TypeCount
from monitor.reports import charts
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import DbHealth
from monitor.running.bounded_calls import Busy, TimedOut
from monitor.sweeper import SweepReport
from monitor.telegram.commands import Commands
from monitor.telegram.messages import Reply, messages
from monitor.telegram.texts import COMMANDS, PHONE_COLUMNS
from rig.fixtures.clock import START, Clock
from rig.fixtures.telegram import plain_text, text_refusal
from tests.monitor.sample_reports import CHECK, DATABASE, GROWTH, LOAD, SampleQueries, without_forecast

CHAT = 5


def text(reply: Reply | None) -> str:
    """The text of a reply as a reader sees it. Telegram must accept all of it."""
    assert reply is not None
    parts = messages(reply.lines)
    assert all(text_refusal(part) is None for part in parts)
    return "\n".join(plain_text(part) for part in parts)


def test_db_health_gives_the_verdict_first_and_all_figures(clock: Clock) -> None:
    reply = text(Commands(SampleQueries(), clock).run(CHAT, "db_health"))
    assert reply.startswith("🟢 OK  bots <prod>\n")
    assert DATABASE in reply
    for part in (
        "total           1,234",
        "active          1,200",
        "expired         30",
        "without expiry  5",
        "guarded         4",
        "5 min ago",
        "3 h ago (2025-10-08 09:41 MSK), 7 deleted",
        "123.4 ms for 665 keys, within budget of 750 ms",
        "• 5 keys have <no> expiry",
    ):
        assert part in reply


def test_a_load_over_the_budget_is_never_ok(clock: Clock) -> None:
    slow = DbHealth(CHECK, replace(LOAD, took_ms=751.0))
    reply = text(Commands(SampleQueries(db_health=slow), clock).run(CHAT, "db_health"))
    assert reply.startswith("🟡 WARNING")
    assert "751.0 ms for 665 keys, OVER budget of 750 ms" in reply
    worse = DbHealth(replace(CHECK, verdict="critical"), slow.load)
    assert worse.verdict == "critical"


@pytest.mark.parametrize("command", ["db_health", "types", "growth", "sweep", "status"])
def test_an_unreachable_database_is_reported_as_down(clock: Clock, command: str) -> None:
    queries = SampleQueries()
    queries.raising = StoreUnavailable("db.example: no connection within 5 s")
    reply = text(Commands(queries, clock).run(CHAT, command))
    assert reply.startswith("🔴 CRITICAL  the database is down")
    assert "no connection within 5 s" in reply


def test_growth_is_one_short_table(clock: Clock) -> None:
    reply = text(Commands(SampleQueries(growth=GROWTH), clock).run(CHAT, "growth"))
    low, expected, high = GROWTH.forecast.keys_at(7) if GROWTH.forecast else (0, 0, 0)
    for part in (
        f"{expected:,} ({low:,}–{high:,})",
        "at 2,400 in 61 days",
    ):
        assert part in reply
    assert "projection" not in reply
    assert len(reply.splitlines()) <= 8


def test_types_fit_a_small_phone(clock: Clock) -> None:
    names = ("app-state-sync-version", "app-state-sync-key", "a-type-with-a-name-as-long-as-a-stranger-likes")
    counts = tuple(TypeCount(name, 12_345_678, 4, 6, 0, 0, 1, 2) for name in names)
    report = TypesReport(DATABASE, 37_037_034, 37_037_022, 12, counts)
    lines = Commands(SampleQueries(types=report), clock).run(CHAT, "types").lines
    columns = [line.text for line in lines if line.style == "pre"]
    assert max(map(len, columns)) <= PHONE_COLUMNS
    assert len({line.split()[0] for line in columns}) == len(names) + 1, "and are told apart"
    assert "app-state-sync-key 6" in lines[-1].text


def test_growth_without_a_forecast_gives_the_reason(clock: Clock) -> None:
    reply = Commands(SampleQueries(growth=without_forecast()), clock).run(CHAT, "growth")
    assert "it waits for 3 days of counted arrivals" in text(reply)
    assert reply.photo is None, "there is nothing to draw"


@pytest.mark.parametrize("available", [True, False])
def test_growth_has_a_chart_if_charts_are_available(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    monkeypatch.setattr(charts, "available", lambda: available)
    monkeypatch.setattr(charts, "growth_chart", lambda report: b"\x89PNG")
    reply = Commands(SampleQueries(), clock).run(CHAT, "growth")
    assert reply.photo == (b"\x89PNG" if available else None)


def test_each_button_of_start_runs_its_command(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    buttons = [button for row in commands.run(CHAT, "start").keyboard for button in row]
    assert {button.text for button in buttons} == {
        f"/{name}" for name in ("db_health", "types", "growth", "perf", "status", "sweep", "mute", "help")
    }
    for button in buttons:
        queries.calls.clear()
        assert commands.press(CHAT, button.data) is not None
        calls = {"/sweep": ["check"], "/mute": [], "/help": []}
        assert queries.calls == calls.get(button.text, [button.text.removeprefix("/")])


def test_start_names_the_installation_and_its_status_page(clock: Clock) -> None:
    reply = text(Commands(SampleQueries(), clock).run(CHAT, "start"))
    assert reply.startswith("Signal Keystore bots <prod>\n")
    assert "Status page: https://keys.example/" in reply


def test_help_names_every_command_and_each_exists(clock: Clock) -> None:
    commands = Commands(SampleQueries(), clock)
    reply = text(commands.run(CHAT, "help"))
    for name in COMMANDS:
        assert f"/{name} " in reply
        assert commands.knows(name)
    assert "don't know /frobnicate" in text(commands.run(CHAT, "frobnicate"))


def question(commands: Commands, chat: int = CHAT) -> tuple[str, str]:
    """Ask for a sweep and return the data of the two buttons."""
    reply = commands.run(chat, "sweep")
    ((yes, no),) = reply.keyboard
    return yes.data, no.data


def test_a_sweep_asks_first_and_sweeps_once(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    assert "Delete 30 expired keys from bots <prod> now?" in text(commands.run(CHAT, "sweep"))
    assert "sweep" not in queries.calls
    yes, _ = question(commands)
    reply = text(commands.press(CHAT, yes))
    assert "30 expired keys deleted" in reply
    assert "pre-key  20" in reply
    assert "no longer open" in text(commands.press(CHAT, yes))
    assert queries.calls.count("sweep") == 1


def test_a_sweep_that_would_delete_nothing_asks_nothing(clock: Clock) -> None:
    for guarded, words in ((0, "No key has expired"), (1, "1 key that is past"), (4, "4 keys that are past")):
        check = replace(CHECK, expired=0, guarded=guarded)
        reply = Commands(SampleQueries(check=check), clock).run(CHAT, "sweep")
        assert words in text(reply)
        assert reply.keyboard == ()


def test_only_the_latest_question_of_its_chat_starts_a_sweep(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    first, _ = question(commands)
    second, keep = question(commands)
    for chat, data in ((CHAT, first), (CHAT, "sweep:"), (CHAT, "sweep:guess"), (CHAT, "sweep:\ud800"), (6, second)):
        assert "no longer open" in text(commands.press(chat, data))
    assert "Nothing was swept." in text(commands.press(CHAT, keep))
    assert "no longer open" in text(commands.press(CHAT, second))
    third, _ = question(commands)
    clock.advance(timedelta(minutes=5, seconds=1))
    assert "no longer open" in text(commands.press(CHAT, third))
    assert "sweep" not in queries.calls
    fourth, _ = question(commands)
    clock.advance(timedelta(minutes=5))
    assert "deleted" in text(commands.press(CHAT, fourth))


def test_a_long_sweep_continues_and_a_failed_one_is_reported(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    for error, words in (
        (TimedOut("no answer within 7 s"), "continues"),
        (Busy("earlier questions"), "still running"),
        (StoreUnavailable("lost the connection"), "didn't work"),
    ):
        queries.raising = None
        yes, _ = question(commands)
        queries.raising = error
        assert words in text(commands.press(CHAT, yes))
    queries.raising = None
    queries.answers["sweep"] = SweepReport(DATABASE, 0, {}, 1.0, skipped=True)
    assert "another sweeper" in text(commands.press(CHAT, question(commands)[0]))


def test_a_sweep_names_the_companies_that_lost_most_sessions(clock: Clock) -> None:
    queries = SampleQueries()
    queries.answers["sweep"] = SweepReport(DATABASE, 34, {"session": 34}, 1.0, losing_most=(DueSessions("1", 34, 40),))
    commands = Commands(queries, clock)
    answer = text(commands.press(CHAT, question(commands)[0]))
    assert "1 company lost most of its sessions at once: 1 (34 of 40)" in answer


def test_perf_while_another_perf_runs_is_no_outage(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    assert "🟢 excellent" in text(commands.run(CHAT, "perf"))
    queries.raising = StoreUnavailable("another `perf` is at work here")
    reply = text(commands.run(CHAT, "perf"))
    assert "another perf" in reply
    assert "CRITICAL" not in reply


def test_mute_and_unmute(clock: Clock) -> None:
    queries = SampleQueries()
    commands = Commands(queries, clock)
    assert "No notices until 2025-10-08 14:41 MSK" in text(commands.run(CHAT, "mute", "2h"))
    assert queries.until == START + timedelta(hours=2)
    assert "off until 2025-10-08 14:41 MSK" in text(commands.run(CHAT, "mute"))
    for argument in ("banana", "-2h", "0h", "99999999999999h"):
        reply = text(commands.run(CHAT, "mute", argument))
        assert reply.startswith(f"{argument} isn't a length of time, so nothing was changed.")
        assert "Say for how long" in reply
    assert text(commands.run(CHAT, "mute", "31d")).startswith("31d is longer than 30 days")
    assert queries.until == START + timedelta(hours=2)
    assert "on again" in text(commands.run(CHAT, "unmute"))
    assert queries.until is None
    assert "Notices are on" in text(commands.run(CHAT, "mute"))


def test_a_refusal_of_the_store_is_reported(clock: Clock) -> None:
    queries = SampleQueries()
    queries.raising = InvalidInput("company_id: <nobody> has no keys")
    assert "<nobody> has no keys" in text(Commands(queries, clock).run(CHAT, "types"))


@pytest.mark.parametrize("data", ["", ":", "run", "run:rm", "run:start", "sweep", "buy:now", "run:types:x", "🔑" * 20])
def test_data_of_an_unknown_button_does_nothing(clock: Clock, data: str) -> None:
    queries = SampleQueries()
    reply = Commands(queries, clock).press(CHAT, data)
    assert reply is None or "no longer open" in text(reply)
    assert queries.calls == []
