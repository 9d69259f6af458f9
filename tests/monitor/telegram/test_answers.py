"""What the bot says: the report behind each command, the question before a sweep, and what went wrong."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore.errors import InvalidInput, StoreUnavailable
from monitor.forecast import charts
from monitor.reports.load_time import DbHealth
from monitor.running.bounded_calls import Busy, TimedOut
from monitor.sweeper import SweepReport
from monitor.telegram.answers import Answers, Reply
from monitor.telegram.message import messages
from monitor.telegram.texts import COMMANDS
from rig.fixtures.clock import START, Clock
from rig.fixtures.telegram import plain_text, text_refusal
from tests.monitor.sample_reports import CHECK, DATABASE, GROWTH, LOAD, OUTCOMES, SampleQueries, without_forecast

CHAT = 5


def text(reply: Reply | None) -> str:
    """What a reader sees of a reply that Telegram takes."""
    assert reply is not None
    parts = messages(reply.lines)
    assert all(text_refusal(part) is None for part in parts)
    return "\n".join(plain_text(part) for part in parts)


def test_db_health_says_the_verdict_first_and_everything_the_operator_asks_for(clock: Clock) -> None:
    told = text(Answers(SampleQueries(), clock).to_command(CHAT, "db_health"))
    assert told.startswith(f"🟢 OK  {DATABASE}")
    for part in (
        "total      1,234",
        "active     1,200",
        "expired    30",
        "no expiry  5",
        "guarded    4",
        "5 min ago",
        "3 h ago (2025-10-08 06:41 UTC), 7 deleted",
        "123.4 ms for 665 keys, within budget of 750 ms",
        "• 5 keys have <no> expiry",
    ):
        assert part in told


def test_a_load_over_the_budget_is_never_ok(clock: Clock) -> None:
    slow = DbHealth(CHECK, replace(LOAD, took_ms=751.0))
    told = text(Answers(SampleQueries(db_health=slow), clock).to_command(CHAT, "db_health"))
    assert told.startswith("🟡 WARNING")
    assert "751.0 ms for 665 keys, OVER budget of 750 ms" in told
    worse = DbHealth(replace(CHECK, verdict="critical"), slow.load)
    assert worse.verdict == "critical"


@pytest.mark.parametrize("command", ["db_health", "types", "growth", "sweep", "status"])
def test_a_database_that_is_away_is_told_as_such(clock: Clock, command: str) -> None:
    asked = SampleQueries()
    asked.raising = StoreUnavailable("db.example: no connection within 5 s")
    told = text(Answers(asked, clock).to_command(CHAT, command))
    assert told.startswith("🔴 CRITICAL  the database is down")
    assert "no connection within 5 s" in told


def test_growth_gives_forecast_diary_and_how_wrong_we_were(clock: Clock) -> None:
    told = text(Answers(SampleQueries(growth=replace(GROWTH, outcomes=OUTCOMES)), clock).to_command(CHAT, "growth"))
    low, expected, high = GROWTH.forecast.keys_at(7) if GROWTH.forecast else (0, 0, 0)
    for part in (
        f"{expected:,} ({low:,}–{high:,})",
        "at 2,400 in 61 days",
        "427 (−36 %)",
        "854 (+28 %)",
        "wrong by construction",
        "11/12",
    ):
        assert part in told


def test_growth_without_a_forecast_says_what_it_waits_for(clock: Clock) -> None:
    reply = Answers(SampleQueries(growth=without_forecast()), clock).to_command(CHAT, "growth")
    assert "It waits for 3 days of counted arrivals" in text(reply)
    assert reply.photo is None, "there is nothing to draw"


@pytest.mark.parametrize("there", [True, False])
def test_growth_brings_a_picture_where_one_can_be_made(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(charts, "available", lambda: there)
    monkeypatch.setattr(charts, "growth_chart", lambda report: b"\x89PNG")
    reply = Answers(SampleQueries(), clock).to_command(CHAT, "growth")
    assert reply.photo == (b"\x89PNG" if there else None)


def test_start_has_buttons_that_do_what_they_say(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    buttons = [button for row in answers.to_command(CHAT, "start").keyboard for button in row]
    assert {button.text for button in buttons} >= {"/db_health", "/types", "/growth", "/perf", "/status", "/sweep"}
    for button in buttons:
        asked.calls.clear()
        assert answers.to_press(CHAT, button.data) is not None
        assert asked.calls == [{"/sweep": "check"}.get(button.text, button.text.removeprefix("/"))]


def test_help_names_every_command_and_each_is_there(clock: Clock) -> None:
    answers = Answers(SampleQueries(), clock)
    told = text(answers.to_command(CHAT, "help"))
    for name in COMMANDS:
        assert f"/{name} " in told
        assert answers.knows(name)
    assert "don't know /frobnicate" in text(answers.to_command(CHAT, "frobnicate"))


def question(answers: Answers, chat: int = CHAT) -> tuple[str, str]:
    """Asks for a sweep; what the two buttons send."""
    reply = answers.to_command(chat, "sweep")
    ((yes, no),) = reply.keyboard
    return yes.data, no.data


def test_a_sweep_asks_first_and_sweeps_once(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    assert "Delete 30 expired keys from" in text(answers.to_command(CHAT, "sweep"))
    assert "sweep" not in asked.calls
    yes, _ = question(answers)
    told = text(answers.to_press(CHAT, yes))
    assert "30 expired keys deleted" in told
    assert "pre-key  20" in told
    assert "no longer open" in text(answers.to_press(CHAT, yes))
    assert asked.calls.count("sweep") == 1


def test_only_the_latest_question_of_the_same_chat_within_five_minutes_starts_a_sweep(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    first, _ = question(answers)
    second, keep = question(answers)
    for chat, data in ((CHAT, first), (CHAT, "sweep:"), (CHAT, "sweep:guess"), (CHAT, "sweep:\ud800"), (6, second)):
        assert "no longer open" in text(answers.to_press(chat, data))
    assert "Nothing was swept." in text(answers.to_press(CHAT, keep))
    assert "no longer open" in text(answers.to_press(CHAT, second))
    third, _ = question(answers)
    clock.advance(timedelta(minutes=5, seconds=1))
    assert "no longer open" in text(answers.to_press(CHAT, third))
    assert "sweep" not in asked.calls
    fourth, _ = question(answers)
    clock.advance(timedelta(minutes=5))
    assert "deleted" in text(answers.to_press(CHAT, fourth))


def test_a_long_sweep_goes_on_and_a_failed_one_is_told(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    for raised, told in (
        (TimedOut("no answer within 7 s"), "goes on"),
        (Busy("earlier questions"), "still at work"),
        (StoreUnavailable("lost the connection"), "didn't work"),
    ):
        asked.raising = None
        yes, _ = question(answers)
        asked.raising = raised
        assert told in text(answers.to_press(CHAT, yes))
    asked.raising = None
    asked.answers["sweep"] = SweepReport(DATABASE, 0, {}, 1.0, skipped=True)
    assert "another sweeper" in text(answers.to_press(CHAT, question(answers)[0]))


def test_perf_that_finds_another_one_is_no_outage(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    assert "🟢 excellent" in text(answers.to_command(CHAT, "perf"))
    asked.raising = StoreUnavailable("another `perf` is at work here")
    told = text(answers.to_command(CHAT, "perf"))
    assert "another `perf`" in told
    assert "CRITICAL" not in told


def test_mute_for_a_while_and_again_not(clock: Clock) -> None:
    asked = SampleQueries()
    answers = Answers(asked, clock)
    assert "No notices until 2025-10-08 11:41 UTC" in text(answers.to_command(CHAT, "mute", "2h"))
    assert asked.until == START + timedelta(hours=2)
    assert "off until 2025-10-08 11:41 UTC" in text(answers.to_command(CHAT, "mute"))
    for argument in ("soon", "31d", "-2h", "0h", "99999999999999h"):
        assert "Say for how long" in text(answers.to_command(CHAT, "mute", argument))
    assert asked.until == START + timedelta(hours=2)
    assert "on again" in text(answers.to_command(CHAT, "unmute"))
    assert asked.until is None
    assert "Notices are on" in text(answers.to_command(CHAT, "mute"))


def test_what_the_store_refuses_is_told(clock: Clock) -> None:
    asked = SampleQueries()
    asked.raising = InvalidInput("company_id: <nobody> has no keys")
    assert "<nobody> has no keys" in text(Answers(asked, clock).to_command(CHAT, "types"))


@pytest.mark.parametrize("data", ["", ":", "run", "run:rm", "run:start", "sweep", "buy:now", "run:types:x", "🔑" * 20])
def test_a_button_that_isn_t_ours_does_nothing(clock: Clock, data: str) -> None:
    asked = SampleQueries()
    reply = Answers(asked, clock).to_press(CHAT, data)
    assert reply is None or "no longer open" in text(reply)
    assert asked.calls == []
