"""The bot over real HTTP: who is answered, what never runs, what never runs twice, and how it waits out failures."""

import threading
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitor.telegram.api import TelegramApi
from monitor.telegram.bot import BAD_TOKEN_PAUSE_S, CONFLICT_PAUSE_S, STRANGERS_KNOWN, Bot
from monitor.telegram.texts import COMMANDS
from monitor.telegram.update_cursor import SavedOffset
from rig.fixtures.clock import START, Clock, eventually
from rig.fixtures.telegram import (
    CHAT,
    RETRY_AFTER_S,
    TOKEN,
    USERNAME,
    Failure,
    FakeTelegram,
    always,
    in_turn,
    plain_text,
)
from tests.monitor.sample_reports import SampleQueries
from tests.monitor.telegram.bots import Kept, Waits, bot_at

OLD = timedelta(minutes=5, seconds=2)


def answered(telegram: FakeTelegram, count: int) -> list[str]:
    """What arrived in the chat, once there is so much of it."""
    eventually(lambda: len(telegram.texts()) >= count, f"{count} answers; there are {len(telegram.texts())}")
    return [plain_text(text) for text in telegram.texts()]


def test_a_command_is_answered_and_the_menu_registered(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with bot_at(telegram, asked) as bot:
        telegram.say("/db_health")
        (told,) = answered(telegram, 1)
        assert "1,234" in told
        assert telegram.menu == [{"command": name, "description": told} for name, told in COMMANDS.items()]
        assert bot.running
    assert not bot.running
    assert (asked.calls, bot.counts.run, bot.counts.updates) == (["db_health"], 1, 1)


def test_commands_for_us_work_by_name_and_those_for_others_don_t(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with bot_at(telegram, asked, chats=(CHAT, -9)):
        telegram.say(f"/types@{USERNAME}", chat=-9, kind="group")
        telegram.say("/db_health@another_bot", chat=-9, kind="group")
        telegram.say("/frobnicate", chat=-9, kind="group")
        telegram.say("/frobnicate")
        (told,) = answered(telegram, 1)
    assert "don't know /frobnicate" in told
    assert len(telegram.texts(-9)) == 1
    assert asked.calls == ["types"]


def test_strangers_get_nothing_are_counted_and_logged_once(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with capture_logs() as logs, bot_at(telegram, asked) as bot:
        for _ in range(3):
            telegram.say("/db_health", chat=666)
            telegram.say("hello?", chat=667)
            telegram.press("run:sweep", chat=666)
        telegram.say("/types")
        answered(telegram, 1)
    assert {sent.chat for sent in telegram.sent} == {CHAT}
    assert telegram.acknowledged == []
    assert asked.calls == ["types"]
    assert bot.counts.strangers == 9
    told = [entry["chat"] for entry in logs if entry["event"] == "telegram_stranger_ignored"]
    assert told == [666, 667]


def test_the_strangers_known_are_bounded(telegram: FakeTelegram) -> None:
    with capture_logs() as logs, bot_at(telegram, SampleQueries()) as bot:
        for first in range(0, 2 * STRANGERS_KNOWN, 500):
            telegram.push_all(
                [
                    {"message": {"date": 0, "chat": {"id": -n}, "text": "hi"}}
                    for n in range(first + 10_000, first + 10_500)
                ]
            )
        telegram.say("/types")
        answered(telegram, 1)
    assert bot.counts.strangers == 2 * STRANGERS_KNOWN
    assert len([entry for entry in logs if entry["event"] == "telegram_stranger_ignored"]) == STRANGERS_KNOWN


ODD: list[Any] = [
    {"edited_message": {"message_id": 1, "date": 1, "chat": {"id": CHAT}, "text": "/sweep"}},
    {"message": {"message_id": 1, "date": 1, "chat": {"id": CHAT}, "photo": [{"file_id": "x"}]}},
    {"message": {"message_id": 1, "date": 1, "chat": {"id": CHAT}, "text": None}},
    {"message": {"message_id": 1, "chat": {"id": CHAT}, "text": "/types"}},
    {"message": {"date": "yesterday", "chat": {"id": CHAT}, "text": "/types"}},
    {"message": {"date": 10**400, "chat": {"id": CHAT}, "text": "/types"}},
    {"message": {"date": 1, "chat": None, "text": "/types"}},
    {"message": 5},
    {"callback_query": {"id": "x", "data": "run:types"}},
    {"callback_query": {"id": "x", "data": None, "message": {"chat": {"id": CHAT}, "date": 0}}},
    {"callback_query": {"id": "x", "game_short_name": "g", "message": {"chat": {"id": CHAT}, "date": 0}}},
    {"callback_query": []},
    {"my_chat_member": {"chat": {"id": CHAT}}},
    {"something_new": {"of": ["Telegram's"]}},
    {},
]


def test_odd_updates_break_nothing(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with capture_logs() as logs, bot_at(telegram, asked):
        telegram.push_all(ODD)
        telegram.press("what is this")
        telegram.say("/types")
        answered(telegram, 1)
        eventually(lambda: telegram.pending == 0, "all are confirmed")
    assert asked.calls == ["types"]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


def test_a_bug_in_one_command_ends_nothing(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    asked.raising = ZeroDivisionError("a bug")
    with capture_logs() as logs, bot_at(telegram, asked) as bot:
        telegram.say("/types")
        assert "didn't expect" in answered(telegram, 1)[0]
        asked.raising = None
        telegram.say("/types")
        assert "pre-key" in answered(telegram, 2)[1]
    assert bot.counts.failed == 1
    assert [entry["kind"] for entry in logs if entry["event"] == "telegram_update_failed"] == ["ZeroDivisionError"]


def test_a_sweep_is_confirmed_by_its_button_and_runs_once(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with bot_at(telegram, asked):
        telegram.say("/sweep")
        answered(telegram, 1)
        ((_, yes), (_, _)) = telegram.sent[0].keyboard[0]
        telegram.press(yes, message_id=77)
        telegram.press(yes, message_id=77)
        told = answered(telegram, 3)
    assert "30 expired keys deleted" in told[1]
    assert "no longer open" in told[2]
    assert asked.calls == ["check", "sweep"]
    assert telegram.stripped_of_keyboard == [77, 77]


def test_a_press_that_telegram_calls_too_old_does_not_run(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    with bot_at(telegram, asked) as bot:
        telegram.press("run:db_health", old=True)
        telegram.press("run:types")
        answered(telegram, 1)
    assert asked.calls == ["types"]
    assert bot.counts.late == 1
    assert len(telegram.acknowledged) == 1


def test_commands_older_than_five_minutes_don_t_run(telegram: FakeTelegram, clock: Clock) -> None:
    asked, telegram.clock = SampleQueries(), clock
    telegram.say("/db_health", sent_at=START - OLD)
    telegram.say("/types", sent_at=START - timedelta(minutes=4, seconds=58))
    with bot_at(telegram, asked, clock=clock) as bot:
        answered(telegram, 1)
    assert asked.calls == ["types"]
    assert bot.counts.late == 1


def test_a_long_answer_comes_in_parts(telegram: FakeTelegram) -> None:
    status = "\n".join(f"rule {n} fires: <{n} keys>" for n in range(600))
    with bot_at(telegram, SampleQueries(status=status)):
        telegram.say("/status")
        telegram.say("/types")
        eventually(lambda: any("pre-key" in text for text in telegram.texts()), "the next answer")
    *parts, _ = (plain_text(text) for text in telegram.texts())
    assert len(parts) > 3
    assert "\n".join(parts) == status


def test_after_a_restart_nothing_runs_again(telegram: FakeTelegram) -> None:
    """The process dies after a command ran and before Telegram was told: it is sent again."""
    asked, kept = SampleQueries(), Kept()
    # The bot's second poll, which would confirm, never gets through.
    telegram.script = lambda method: Failure.RESET_BEFORE if method == "getUpdates" and telegram.offsets else None
    with bot_at(telegram, asked, kept=kept):
        telegram.push_all([{"something": 1}])
        first = telegram.say("/types")
        answered(telegram, 1)
    assert telegram.pending == 2, "Telegram still has both"
    assert kept.saves == [first + 1]
    telegram.script = lambda method: None
    with bot_at(telegram, asked, kept=kept):
        telegram.say("/perf")
        answered(telegram, 2)
    assert asked.calls == ["types", "perf"]


def test_the_offset_is_saved_before_the_command_runs(telegram: FakeTelegram) -> None:
    kept, saved_when_run = Kept(), []

    class Looking(SampleQueries):
        def _answer(self, name: str) -> Any:
            saved_when_run.append(list(kept.saves))
            return super()._answer(name)

    with bot_at(telegram, Looking(), kept=kept):
        number = telegram.say("/types")
        answered(telegram, 1)
    assert saved_when_run == [[number + 1]]


def test_with_the_database_away_telegram_is_told_first(telegram: FakeTelegram) -> None:
    asked, kept = SampleQueries(), Kept()
    with bot_at(telegram, asked, kept=kept):
        eventually(lambda: telegram.calls["getUpdates"] == 1, "the bot polls")
        kept.away = True
        numbers = telegram.push_all(
            [{"message": {"date": int(telegram.clock().timestamp()), "chat": {"id": CHAT}, "text": "/types"}}] * 3
        )
        answered(telegram, 3)
        eventually(lambda: telegram.pending == 0, "all are confirmed")
    assert asked.calls == ["types"] * 3
    # What was asked for with each number once, before it ran; the poll after the batch repeats the last.
    assert telegram.offsets[:5] == [None, numbers[0] + 1, numbers[1] + 1, numbers[2] + 1, numbers[2] + 1]
    assert kept.saves == []


def test_with_neither_nothing_runs_until_one_is_back(telegram: FakeTelegram) -> None:
    asked, kept, waits = SampleQueries(), Kept(), Waits()
    tried = threading.Event()
    allowed = threading.Event()

    def script(method: str) -> Failure | None:
        if method != "getUpdates" or not kept.away or allowed.is_set():
            return None
        if len(waits.seconds) >= 5:
            tried.set()
            allowed.wait(20)
            return None
        return Failure.SERVER_ERROR

    with bot_at(telegram, asked, kept=kept, wait=waits):
        eventually(lambda: telegram.offsets == [None], "the poll is held open")
        kept.away = True
        telegram.script = script
        telegram.say("/types")
        assert tried.wait(20)
        assert asked.calls == []
        allowed.set()
        answered(telegram, 1)
    assert asked.calls == ["types"]
    assert len(waits.seconds) >= 5


def test_a_start_without_database_runs_only_what_is_sent_from_then_on(telegram: FakeTelegram, clock: Clock) -> None:
    """What is waiting may have run in a process that died, and what it saved can't be read."""
    asked, kept, telegram.clock = SampleQueries(), Kept(), clock
    kept.away = True
    telegram.say("/types", sent_at=START - timedelta(seconds=3))
    telegram.press("run:types")
    telegram.say("/perf", sent_at=START + timedelta(seconds=2))
    with bot_at(telegram, asked, kept=kept, clock=clock):
        answered(telegram, 1)
        telegram.say("/db_health", sent_at=START - timedelta(seconds=1))
        telegram.press("run:growth")
        answered(telegram, 3)
    assert asked.calls == ["perf", "db_health", "growth"]


@pytest.mark.parametrize(("age", "asked_with"), [(timedelta(days=5, hours=23), 5_000), (timedelta(days=6.1), None)])
def test_an_old_offset_is_not_sent_since_numbers_may_have_begun_anew(
    telegram: FakeTelegram, clock: Clock, age: timedelta, asked_with: int | None
) -> None:
    telegram.clock = clock
    kept = Kept(SavedOffset(5_000, START - age))
    with bot_at(telegram, SampleQueries(), kept=kept, clock=clock):
        eventually(lambda: len(telegram.offsets) == 1, "the first poll")
    assert telegram.offsets == [asked_with]


def test_after_a_week_without_updates_lower_numbers_are_answered(telegram: FakeTelegram, clock: Clock) -> None:
    asked, telegram.clock = SampleQueries(), clock
    with bot_at(telegram, asked, clock=clock, poll_s=0, kept=Kept()):
        telegram.say("/types")
        answered(telegram, 1)
        eventually(lambda: telegram.pending == 0, "it is confirmed")
        clock.advance(timedelta(days=8))
        telegram.begin_anew_at(17)
        eventually(lambda: telegram.offsets[-1] is None, "the bot forgets its offset")
        telegram.say("/perf")
        answered(telegram, 2)
    assert asked.calls == ["types", "perf"]


def test_telegram_s_wish_for_peace_is_honoured(telegram: FakeTelegram) -> None:
    waits = Waits()
    telegram.script = in_turn([Failure.TOO_MANY], 2)
    with bot_at(telegram, SampleQueries(), wait=waits):
        telegram.say("/types")
        answered(telegram, 1)
    assert waits.seconds
    assert set(waits.seconds) == {float(RETRY_AFTER_S)}


def test_outages_are_waited_out_ever_longer_with_jitter_and_told_once(telegram: FakeTelegram) -> None:
    waits = Waits(at_most=40)
    telegram.script = always(Failure.SERVER_ERROR, "getUpdates")
    with capture_logs() as logs, bot_at(telegram, SampleQueries(), wait=waits):
        assert waits.over.wait(20)
    bounds = [min(2.0**n, 60) for n in range(40)]
    assert all(0 <= waited <= bound for waited, bound in zip(waits.seconds, bounds, strict=True))
    assert sum(waits.seconds) > 300, "it doesn't spin"
    assert len(set(waits.seconds)) > 30, "nobody else waits as long"
    assert [entry["event"] for entry in logs].count("telegram_unavailable") == 1


@pytest.mark.parametrize(
    ("failure", "pause_s", "event"),
    [
        (Failure.UNAUTHORIZED, BAD_TOKEN_PAUSE_S, "telegram_bad_token"),
        (Failure.NOT_FOUND, BAD_TOKEN_PAUSE_S, "telegram_bad_token"),
        (Failure.CONFLICT, CONFLICT_PAUSE_S, "telegram_poll_conflict"),
    ],
)
def test_a_bad_token_and_a_second_poller_are_told_once_and_tried_slowly(
    telegram: FakeTelegram, failure: Failure, pause_s: float, event: str
) -> None:
    waits = Waits(at_most=5)
    telegram.script = always(failure, "getUpdates")
    with capture_logs() as logs, bot_at(telegram, SampleQueries(), wait=waits):
        assert waits.over.wait(20)
    assert waits.seconds == [pause_s] * 5
    (told,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert told["event"] == event
    assert telegram.calls["getUpdates"] == 5
    assert TOKEN not in str(logs)


def test_empty_answers_that_come_at_once_are_not_asked_for_in_a_circle(telegram: FakeTelegram) -> None:
    waits = Waits(at_most=5)
    with bot_at(telegram, SampleQueries(), wait=waits, poll_s=0):
        assert waits.over.wait(20)
    assert waits.seconds == [1.0] * 5


def test_a_menu_that_isn_t_taken_keeps_nobody_from_working(telegram: FakeTelegram, clock: Clock) -> None:
    asked, telegram.clock = SampleQueries(), clock
    telegram.script = always(Failure.SERVER_ERROR, "setMyCommands")
    with bot_at(telegram, asked, clock=clock):
        telegram.say("/types")
        answered(telegram, 1)
        telegram.script = lambda method: None
        clock.advance(timedelta(minutes=11))
        telegram.say("/types")
        answered(telegram, 2)
        eventually(lambda: telegram.menu != [], "the menu is registered later")


def test_a_chat_that_is_gone_holds_up_no_other(telegram: FakeTelegram) -> None:
    asked, waits = SampleQueries(), Waits()
    telegram.gone_chats.add(8)
    with capture_logs() as logs, bot_at(telegram, asked, chats=(CHAT, 8), wait=waits) as bot:
        telegram.say("/types", chat=8)
        telegram.say("/types")
        answered(telegram, 1)
    assert bot.counts.unanswered == 1
    assert waits.seconds == [], "a refusal is not repeated"
    assert "blocked by the user" in str([entry for entry in logs if entry["event"] == "telegram_reply_dropped"])


def test_a_reply_is_tried_so_often_and_then_dropped(telegram: FakeTelegram) -> None:
    waits = Waits()
    telegram.script = lambda method: Failure.GARBAGE if method == "sendMessage" and len(waits.seconds) < 5 else None
    with bot_at(telegram, SampleQueries(), wait=waits) as bot:
        telegram.say("/types")
        answered(telegram, 1)
        telegram.script = always(Failure.BAD_GATEWAY, "sendMessage")
        telegram.say("/types")
        eventually(lambda: bot.counts.unanswered == 1, "the second is dropped")
    assert telegram.calls["sendMessage"] == 6 + 6


def test_stop_ends_a_poll_at_once_and_start_begins_again(telegram: FakeTelegram) -> None:
    asked = SampleQueries()
    api = TelegramApi(TOKEN, telegram.url)
    bot = Bot(api, asked, (CHAT,), Kept().offsets())
    assert bot.stop(0.1), "one that never ran"
    for turn in (1, 2):
        assert bot.start()
        assert bot.start()
        telegram.say("/types")
        answered(telegram, turn)
        eventually(lambda turn=turn: telegram.offsets[-1] is not None, "it polls again")  # type: ignore[misc]
        began = monotonic()
        assert bot.stop(5)
        assert monotonic() - began < 1
        assert not bot.running
    assert asked.calls == ["types", "types"]
    api.close()


def test_a_bot_with_a_command_in_hand_isn_t_started_a_second_time(telegram: FakeTelegram) -> None:
    release, began = threading.Event(), threading.Event()

    class Slow(SampleQueries):
        def _answer(self, name: str) -> Any:
            began.set()
            release.wait(20)
            return super()._answer(name)

    with bot_at(telegram, Slow()) as bot:
        telegram.say("/types")
        assert began.wait(20)
        assert not bot.stop(0.05)
        assert not bot.start()
        release.set()
        eventually(bot.start, "the first has ended")
        telegram.say("/types")
        answered(telegram, 2)


def test_nothing_shows_the_token_whatever_fails(telegram: FakeTelegram) -> None:
    shown = ""
    for failure in Failure:
        waits = Waits(at_most=3)
        with capture_logs() as logs:
            telegram.script = always(failure)
            with bot_at(telegram, SampleQueries(), wait=waits, deadline_s=0.3) as bot:
                eventually(lambda: waits.over.is_set() or failure is Failure.ODD_HEADERS, f"{failure} is met")  # noqa: B023
            shown += f"{logs} {bot!r} {vars(bot)!r}"
    assert TOKEN.partition(":")[2] not in shown
