"""The bot over real HTTP: it answers its chats, runs each command at most once, and waits until failures are over."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from monitor.telegram.bot import CONFLICT_PAUSE_S, MOST_STRANGERS_LOGGED, Bot
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.client import TelegramClient
from monitor.telegram.sending import BAD_TOKEN_RETRY_S
from monitor.telegram.texts import COMMANDS
from monitor.telegram.update_cursor import SavedOffset
from rig.fixtures.clock import START, Clock
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
from rig.waiting import eventually
from tests.monitor.sample_reports import SampleQueries
from tests.monitor.telegram.bots import MemoryOffset, Waits, bot_thread_runs, running_bot

TOO_OLD = timedelta(minutes=5, seconds=2)


def answered(telegram: FakeTelegram, count: int) -> list[str]:
    """Wait for this many answers in the chat, and return all of them as a reader sees them."""
    eventually(lambda: len(telegram.texts()) >= count, f"{count} answers; there are {len(telegram.texts())}")
    return [plain_text(text) for text in telegram.texts()]


def test_a_command_is_answered_and_the_menu_registered(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries) as bot:
        telegram.say("/db_health")
        (answer,) = answered(telegram, 1)
        assert "1,234" in answer
        assert telegram.menu == [{"command": name, "description": text} for name, text in COMMANDS.items()]
        assert bot_thread_runs()
    assert not bot_thread_runs()
    assert (queries.calls, bot.counts.run, bot.counts.updates) == (["db_health"], 1, 1)


def test_commands_addressed_to_another_bot_are_ignored(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries, chats=(CHAT, -9)):
        telegram.say(f"/types@{USERNAME}", chat=-9, kind="group")
        telegram.say("/db_health@another_bot", chat=-9, kind="group")
        telegram.say("/frobnicate", chat=-9, kind="group")
        telegram.say("/frobnicate")
        (answer,) = answered(telegram, 1)
    assert "don't know /frobnicate" in answer
    assert len(telegram.texts(-9)) == 1
    assert queries.calls == ["types"]


def test_strangers_get_no_answer_are_counted_and_logged_once(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with capture_logs() as logs, running_bot(telegram, queries) as bot:
        for _ in range(3):
            telegram.say("/db_health", chat=666)
            telegram.say("hello?", chat=667)
            telegram.press("run:sweep", chat=666)
        telegram.say("/types")
        answered(telegram, 1)
    assert {sent.chat for sent in telegram.sent} == {CHAT}
    assert telegram.acknowledged == []
    assert queries.calls == ["types"]
    assert bot.counts.from_strangers == 9
    logged = [entry["chat"] for entry in logs if entry["event"] == "telegram_stranger_ignored"]
    assert logged == [666, 667]


def test_the_number_of_strangers_logged_is_bounded(telegram: FakeTelegram) -> None:
    with capture_logs() as logs, running_bot(telegram, SampleQueries()) as bot:
        for first in range(0, 2 * MOST_STRANGERS_LOGGED, 500):
            telegram.push_all(
                [
                    {"message": {"date": 0, "chat": {"id": -n}, "text": "hi"}}
                    for n in range(first + 10_000, first + 10_500)
                ]
            )
        telegram.say("/types")
        answered(telegram, 1)
    assert bot.counts.from_strangers == 2 * MOST_STRANGERS_LOGGED
    assert len([entry for entry in logs if entry["event"] == "telegram_stranger_ignored"]) == MOST_STRANGERS_LOGGED


MALFORMED: list[Any] = [
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


def test_malformed_updates_break_nothing(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with capture_logs() as logs, running_bot(telegram, queries):
        telegram.push_all(MALFORMED)
        telegram.press("what is this")
        telegram.say("/types")
        answered(telegram, 1)
        eventually(lambda: telegram.pending == 0, "all are confirmed")
    assert queries.calls == ["types"]
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


def test_a_bug_in_one_command_does_not_end_the_bot(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    queries.raising = ZeroDivisionError("a bug")
    with capture_logs() as logs, running_bot(telegram, queries) as bot:
        telegram.say("/types")
        assert "didn't expect" in answered(telegram, 1)[0]
        queries.raising = None
        telegram.say("/types")
        assert "pre-key" in answered(telegram, 2)[1]
    assert bot.counts.failed == 1
    assert [entry["kind"] for entry in logs if entry["event"] == "telegram_update_failed"] == ["ZeroDivisionError"]


def test_a_sweep_is_confirmed_by_its_button_and_runs_once(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries):
        telegram.say("/sweep")
        answered(telegram, 1)
        ((_, yes), (_, _)) = telegram.sent[0].keyboard[0]
        telegram.press(yes, message_id=77)
        telegram.press(yes, message_id=77)
        answers = answered(telegram, 3)
    assert "30 expired keys deleted" in answers[1]
    assert "no longer open" in answers[2]
    assert queries.calls == ["check", "sweep"]
    assert telegram.keyboards_removed_from == [77, 77]


GROUP, ADMIN, MEMBER = -100, 3, 4


def test_in_a_group_only_administrators_sweep_and_mute(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    telegram.administrators.add((GROUP, ADMIN))
    with running_bot(telegram, queries, chats=(GROUP,)):
        for text in ("/sweep", "/mute 30d", "/unmute"):
            telegram.say(text, chat=GROUP, kind="supergroup", user=MEMBER)
        telegram.say("/types", chat=GROUP, kind="supergroup", user=MEMBER)
        eventually(lambda: len(telegram.texts(GROUP)) == 4, "four answers")
        assert ["Only administrators" in text for text in telegram.texts(GROUP)] == [True, True, True, False]
        assert queries.calls == ["types"]
        telegram.say("/sweep", chat=GROUP, kind="supergroup", user=ADMIN)
        eventually(lambda: len(telegram.texts(GROUP)) == 5, "the question")
        ((_, yes), _), *_ = telegram.sent[-1].keyboard
        telegram.press(yes, chat=GROUP, kind="supergroup", user=MEMBER)
        eventually(lambda: len(telegram.texts(GROUP)) == 6, "a refusal")
        assert queries.calls == ["types", "check"]
        telegram.press(yes, chat=GROUP, kind="supergroup", user=ADMIN)
        eventually(lambda: queries.calls == ["types", "check", "sweep"], "the question was still open")


def test_an_anonymous_administrator_and_a_channel_may_sweep(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries, chats=(GROUP, -7)):
        telegram.say("/sweep", chat=GROUP, kind="supergroup", as_chat=GROUP)
        telegram.say("/sweep", chat=-7, kind="channel")
        eventually(lambda: queries.calls == ["check"] * 2, "both are asked")
        telegram.say("/sweep", chat=GROUP, kind="supergroup", as_chat=-8)
        eventually(lambda: "Only administrators" in telegram.texts(GROUP)[-1], "another channel's post is refused")
    assert telegram.texts(-7), "a channel gets its answer"


def test_without_telegrams_word_on_the_rights_nothing_is_done(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    telegram.script = always(Failure.SERVER_ERROR, "getChatMember")
    with running_bot(telegram, queries, chats=(GROUP,)):
        telegram.say("/mute 2h", chat=GROUP, kind="group", user=ADMIN)
        eventually(lambda: bool(telegram.texts(GROUP)), "an answer")
    assert "nothing was done" in telegram.texts(GROUP)[0]
    assert queries.calls == []


def test_an_answer_goes_into_the_topic_of_its_question(telegram: FakeTelegram) -> None:
    with running_bot(telegram, SampleQueries(), chats=(GROUP,)):
        telegram.say("/types", chat=GROUP, kind="supergroup", topic=77)
        telegram.say("/types", chat=GROUP, kind="supergroup")
        telegram.press("run:types", chat=GROUP, kind="supergroup", topic=78)
        eventually(lambda: len(telegram.sent) == 3, "three answers")
    assert [sent.topic for sent in telegram.sent] == [77, None, 78]


def test_a_group_that_becomes_a_supergroup_is_answered_under_its_new_number(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries, chats=(-5, CHAT)) as bot:
        telegram.upgrade(-5, -1_005)
        telegram.upgrade(-6, -1_006)
        telegram.say("/types", chat=-1_005, kind="supergroup")
        eventually(lambda: len(telegram.texts(-1_005)) == 2, "the news and the answer")
    assert "Put -1005 into TELEGRAM_CHAT_ID" in telegram.texts(-1_005)[0]
    assert {sent.chat for sent in telegram.sent} == {-1_005}, "a stranger's group isn't followed"
    assert (queries.calls, bot.counts.from_strangers) == (["types"], 2)


def test_a_press_that_telegram_calls_too_old_does_not_run(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    with running_bot(telegram, queries) as bot:
        telegram.press("run:db_health", old=True)
        telegram.press("run:types")
        answered(telegram, 1)
    assert queries.calls == ["types"]
    assert bot.counts.expired == 1
    assert len(telegram.acknowledged) == 1


def test_commands_older_than_five_minutes_don_t_run(telegram: FakeTelegram, clock: Clock) -> None:
    queries, telegram.clock = SampleQueries(), clock
    telegram.say("/db_health", sent_at=START - TOO_OLD)
    telegram.say("/types", sent_at=START - timedelta(minutes=4, seconds=58))
    with running_bot(telegram, queries, clock=clock) as bot:
        answered(telegram, 1)
    assert queries.calls == ["types"]
    assert bot.counts.expired == 1


def test_a_long_answer_comes_in_parts(telegram: FakeTelegram) -> None:
    status = "\n".join(f"rule {n} fires: <{n} keys>" for n in range(600))
    with running_bot(telegram, SampleQueries(status=status)):
        telegram.say("/status")
        telegram.say("/types")
        eventually(lambda: any("pre-key" in text for text in telegram.texts()), "the next answer")
    *parts, _ = (plain_text(text) for text in telegram.texts())
    assert len(parts) > 3
    assert "\n".join(parts) == status


def test_after_a_restart_nothing_runs_again(telegram: FakeTelegram) -> None:
    """The process dies after a command ran and before Telegram learned it, so Telegram sends it again."""
    queries, offset = SampleQueries(), MemoryOffset()
    # The bot's second poll, which would confirm the command, never succeeds.
    telegram.script = lambda method: Failure.RESET_BEFORE if method == "getUpdates" and telegram.offsets else None
    with running_bot(telegram, queries, offset=offset):
        telegram.push_all([{"something": 1}])
        first = telegram.say("/types")
        answered(telegram, 1)
    assert telegram.pending == 2, "Telegram still has both"
    assert offset.saves == [first + 1]
    telegram.script = lambda method: None
    with running_bot(telegram, queries, offset=offset):
        telegram.say("/perf")
        answered(telegram, 2)
    assert queries.calls == ["types", "perf"]


def test_the_offset_is_saved_before_the_command_runs(telegram: FakeTelegram) -> None:
    offset, saved_when_run = MemoryOffset(), []

    class RecordingSaves(SampleQueries):
        def _answer(self, name: str) -> Any:
            saved_when_run.append(list(offset.saves))
            return super()._answer(name)

    with running_bot(telegram, RecordingSaves(), offset=offset):
        number = telegram.say("/types")
        answered(telegram, 1)
    assert saved_when_run == [[number + 1]]


def test_with_the_database_down_telegram_confirms_first(telegram: FakeTelegram) -> None:
    queries, offset = SampleQueries(), MemoryOffset()
    with running_bot(telegram, queries, offset=offset):
        eventually(lambda: telegram.calls["getUpdates"] == 1, "the bot polls")
        offset.database_down = True
        numbers = telegram.push_all(
            [{"message": {"date": int(telegram.clock().timestamp()), "chat": {"id": CHAT}, "text": "/types"}}] * 3
        )
        answered(telegram, 3)
        eventually(lambda: telegram.pending == 0, "all are confirmed")
        eventually(lambda: len(telegram.offsets) >= 5, "the bot polls again")
    assert queries.calls == ["types"] * 3
    # Each command was confirmed once before it ran. The poll after the batch repeats the last offset.
    assert telegram.offsets[:5] == [None, numbers[0] + 1, numbers[1] + 1, numbers[2] + 1, numbers[2] + 1]
    assert offset.saves == []


def test_with_database_and_telegram_down_nothing_runs(telegram: FakeTelegram) -> None:
    queries, offset, waits = SampleQueries(), MemoryOffset(), Waits()
    tried = threading.Event()
    allowed = threading.Event()

    def script(method: str) -> Failure | None:
        if method != "getUpdates" or not offset.database_down or allowed.is_set():
            return None
        if len(waits.seconds) >= 5:
            tried.set()
            allowed.wait(20)
            return None
        return Failure.SERVER_ERROR

    with running_bot(telegram, queries, offset=offset, wait=waits):
        eventually(lambda: telegram.offsets == [None], "the poll is held open")
        offset.database_down = True
        telegram.script = script
        telegram.say("/types")
        assert tried.wait(20)
        assert queries.calls == []
        allowed.set()
        answered(telegram, 1)
    assert queries.calls == ["types"]
    assert len(waits.seconds) >= 5


def test_a_start_without_database_runs_only_later_commands(telegram: FakeTelegram, clock: Clock) -> None:
    """Waiting commands may have run in a process that died, and the offset that it saved can't be read."""
    queries, offset, telegram.clock = SampleQueries(), MemoryOffset(), clock
    offset.database_down = True
    telegram.say("/types", sent_at=START - timedelta(seconds=3))
    telegram.press("run:types")
    telegram.say("/perf", sent_at=START + timedelta(seconds=2))
    with running_bot(telegram, queries, offset=offset, clock=clock):
        answered(telegram, 1)
        telegram.say("/db_health", sent_at=START - timedelta(seconds=1))
        telegram.press("run:growth")
        answered(telegram, 3)
    assert queries.calls == ["perf", "db_health", "growth"]


@pytest.mark.parametrize(("age", "first_offset"), [(timedelta(days=5, hours=23), 5_000), (timedelta(days=6.1), None)])
def test_an_old_offset_is_dropped_since_numbers_may_have_restarted(
    telegram: FakeTelegram, clock: Clock, age: timedelta, first_offset: int | None
) -> None:
    telegram.clock = clock
    offset = MemoryOffset(SavedOffset(5_000, START - age))
    with running_bot(telegram, SampleQueries(), offset=offset, clock=clock):
        eventually(lambda: len(telegram.offsets) == 1, "the first poll")
    assert telegram.offsets == [first_offset]


def test_after_a_week_without_updates_lower_numbers_are_answered(telegram: FakeTelegram, clock: Clock) -> None:
    queries, telegram.clock = SampleQueries(), clock
    with running_bot(telegram, queries, clock=clock, poll_s=0, offset=MemoryOffset()):
        telegram.say("/types")
        answered(telegram, 1)
        eventually(lambda: telegram.pending == 0, "it is confirmed")
        clock.advance(timedelta(days=8))
        telegram.restart_numbering_at(17)
        eventually(lambda: telegram.offsets[-1] is None, "the bot forgets its offset")
        telegram.say("/perf")
        answered(telegram, 2)
    assert queries.calls == ["types", "perf"]


def test_a_retry_after_of_telegram_is_obeyed(telegram: FakeTelegram) -> None:
    waits = Waits()
    telegram.script = in_turn([Failure.TOO_MANY], 2)
    with running_bot(telegram, SampleQueries(), wait=waits):
        telegram.say("/types")
        answered(telegram, 1)
    assert waits.seconds
    assert set(waits.seconds) == {float(RETRY_AFTER_S)}


def test_pauses_grow_with_jitter_and_an_outage_is_logged_once(telegram: FakeTelegram) -> None:
    waits = Waits(at_most=40)
    telegram.script = always(Failure.SERVER_ERROR, "getUpdates")
    with capture_logs() as logs, running_bot(telegram, SampleQueries(), wait=waits):
        assert waits.over.wait(20)
    bounds = [min(2.0**n, 60) for n in range(40)]
    assert all(0 <= waited <= bound for waited, bound in zip(waits.seconds, bounds, strict=True))
    assert sum(waits.seconds) > 300, "no busy loop"
    assert len(set(waits.seconds)) > 30, "with jitter, pauses differ"
    assert [entry["event"] for entry in logs].count("telegram_unavailable") == 1


@pytest.mark.parametrize(
    ("failure", "pause_s", "event"),
    [
        (Failure.UNAUTHORIZED, BAD_TOKEN_RETRY_S, "telegram_token_rejected"),
        (Failure.NOT_FOUND, BAD_TOKEN_RETRY_S, "telegram_token_rejected"),
        (Failure.CONFLICT, CONFLICT_PAUSE_S, "telegram_poll_conflict"),
    ],
)
def test_a_bad_token_and_a_poll_conflict_are_logged_once(
    telegram: FakeTelegram, failure: Failure, pause_s: float, event: str
) -> None:
    waits = Waits(at_most=5)
    telegram.script = always(failure, "getUpdates")
    with capture_logs() as logs, running_bot(telegram, SampleQueries(), wait=waits):
        assert waits.over.wait(20)
    assert waits.seconds == [pause_s] * 5
    (error,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert error["event"] == event
    assert telegram.calls["getUpdates"] == 5
    assert TOKEN not in str(logs)


def test_empty_answers_that_come_at_once_cause_no_busy_loop(telegram: FakeTelegram) -> None:
    waits = Waits(at_most=5)
    with running_bot(telegram, SampleQueries(), wait=waits, poll_s=0):
        assert waits.over.wait(20)
    assert waits.seconds == [1.0] * 5


def test_a_bot_without_its_menu_works_and_registers_it_later(telegram: FakeTelegram, clock: Clock) -> None:
    queries, telegram.clock = SampleQueries(), clock
    telegram.script = always(Failure.SERVER_ERROR, "setMyCommands")
    with running_bot(telegram, queries, clock=clock):
        telegram.say("/types")
        answered(telegram, 1)
        telegram.script = lambda method: None
        clock.advance(timedelta(minutes=11))
        telegram.say("/types")
        answered(telegram, 2)
        eventually(lambda: telegram.menu != [], "the menu is registered later")


def test_a_chat_that_is_gone_delays_no_other(telegram: FakeTelegram) -> None:
    queries, waits = SampleQueries(), Waits()
    telegram.gone_chats.add(8)
    with capture_logs() as logs, running_bot(telegram, queries, chats=(CHAT, 8), wait=waits) as bot:
        telegram.say("/types", chat=8)
        telegram.say("/types")
        answered(telegram, 1)
    assert bot.counts.unanswered == 1
    assert waits.seconds == [], "a refusal is not repeated"
    assert "blocked by the user" in str([entry for entry in logs if entry["event"] == "telegram_reply_dropped"])


def test_a_reply_is_tried_six_times_and_then_dropped(telegram: FakeTelegram) -> None:
    waits = Waits()
    telegram.script = lambda method: Failure.TRUNCATED if method == "sendMessage" and len(waits.seconds) < 5 else None
    with running_bot(telegram, SampleQueries(), wait=waits) as bot:
        telegram.say("/types")
        answered(telegram, 1)
        telegram.script = always(Failure.BAD_GATEWAY, "sendMessage")
        telegram.say("/types")
        eventually(lambda: bot.counts.unanswered == 1, "the second is dropped")
    assert telegram.calls["sendMessage"] == 6 + 6


def test_stop_ends_a_poll_at_once_and_start_begins_again(telegram: FakeTelegram) -> None:
    queries = SampleQueries()
    client = TelegramClient(TOKEN, telegram.url)
    bot = Bot(client, queries, ServedChats([Chat(CHAT)]), MemoryOffset())
    assert bot.stop(0.1), "a bot that never ran"
    for turn in (1, 2):
        assert bot.start()
        assert bot.start()
        telegram.say("/types")
        answered(telegram, turn)
        eventually(lambda turn=turn: telegram.offsets[-1] is not None, "it polls again")  # type: ignore[misc]
        assert bot.stop(5), "a poll lasts longer"
        assert not bot_thread_runs()
    assert queries.calls == ["types", "types"]
    client.close()


def test_a_stop_in_the_middle_of_a_start_joins_no_thread_that_does_not_run(telegram: FakeTelegram) -> None:
    client = TelegramClient(TOKEN, telegram.url)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as other:
            for _ in range(50):
                bot = Bot(client, SampleQueries(), ServedChats([Chat(CHAT)]), MemoryOffset())
                starting = other.submit(bot.start)
                while not starting.done():
                    bot.stop(0)
                assert bot.stop(5)
    finally:
        sys.setswitchinterval(interval_s)
        client.close()


def test_a_bot_that_still_runs_a_command_is_not_started_again(telegram: FakeTelegram) -> None:
    release, began = threading.Event(), threading.Event()

    class Slow(SampleQueries):
        def _answer(self, name: str) -> Any:
            began.set()
            release.wait(20)
            return super()._answer(name)

    with running_bot(telegram, Slow()) as bot:
        telegram.say("/types")
        assert began.wait(20)
        assert not bot.stop(0.05)
        assert not bot.start()
        release.set()
        eventually(bot.start, "the first run has ended")
        telegram.say("/types")
        answered(telegram, 2)


def test_no_failure_shows_the_token(telegram: FakeTelegram) -> None:
    shown = ""
    for failure in Failure:
        waits = Waits(at_most=3)
        with capture_logs() as logs:
            telegram.script = always(failure)
            with running_bot(telegram, SampleQueries(), wait=waits, deadline_s=0.3) as bot:
                eventually(lambda: waits.over.is_set() or failure is Failure.MALFORMED_HEADERS, f"{failure} is met")  # noqa: B023
            shown += f"{logs} {bot!r} {vars(bot)!r}"
    assert TOKEN.partition(":")[2] not in shown
