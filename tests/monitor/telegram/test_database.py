"""The bot over real HTTP on a real Postgres: running, stopped, hanging, and running again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from keystore import Store, open_store
from keystore.records import KeyRow
from monitor.alerts.outbox import Outbox, discard
from monitor.alerts.watch import Watch
from monitor.forecast.history import record_counts
from monitor.sweeper import sweep
from monitor.telegram.bot import Bot
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.client import TelegramClient
from monitor.telegram.service_queries import ServiceQueries
from monitor.telegram.update_cursor import OffsetNote
from monitor.watch_settings import WatchSettings
from rig.fixtures.postgres import OwnServer
from rig.fixtures.telegram import CHAT, TOKEN, FakeTelegram, plain_text
from rig.relay import Relay
from rig.waiting import eventually

pytestmark = pytest.mark.slow

ANSWER_WITHIN_S = 10.0
SWEEP_EVERY_S = 6 * 3_600.0
KEYS = 40


@contextmanager
def bot_of(store: Store, telegram: FakeTelegram) -> Iterator[Bot]:
    """A bot on this store, wired as in `run.py`."""
    settings = WatchSettings(SWEEP_EVERY_S)
    watch = Watch(store, Outbox(discard, ()), settings)
    queries = ServiceQueries(store, settings, watch, threading.Event())
    client = TelegramClient(TOKEN, telegram.url)
    bot = Bot(client, queries, ServedChats([Chat(CHAT)], store), OffsetNote(store, client.bot_id))
    assert bot.start()
    try:
        yield bot
    finally:
        assert bot.stop(5)
        client.close()


def answer_to(telegram: FakeTelegram, text: str = "/db_health") -> str:
    """Send a command and return the answer, which must come in time."""
    before, began = len(telegram.texts()), monotonic()
    telegram.say(text)
    eventually(lambda: len(telegram.texts()) > before, f"an answer to {text}", ANSWER_WITHIN_S)
    assert monotonic() - began < ANSWER_WITHIN_S
    return plain_text(telegram.texts()[-1])


def fill(store: Store) -> None:
    """Write keys, each with an expiry, and sweep once."""
    store.set("demo", {"session": {f"{n}": b"value" for n in range(KEYS)}}, creds=b"{}")
    sweep(store)


def test_db_health_answers_before_during_and_after_an_outage(own_server: OwnServer, telegram: FakeTelegram) -> None:
    with open_store(own_server.url) as store, bot_of(store, telegram):
        fill(store)
        answer = answer_to(telegram)
        for part in (
            "🟢 OK",
            "total           40",
            "active          40",
            "expired         0",
            "without expiry  0",
            "0 deleted",
        ):
            assert part in answer
        assert "for 40 keys, within budget of 750 ms" in answer
        assert "s ago (" in answer
        own_server.server.stop()
        assert "CRITICAL  the database is down" in answer_to(telegram)
        assert "CRITICAL  the database is down" in answer_to(telegram, "/types")
        own_server.server.start()
        eventually(lambda: "🟢 OK" in answer_to(telegram), "it recovers by itself", 60)
        assert telegram.say("/types") is not None
        eventually(lambda: "session" in telegram.texts()[-1], "and so do the others")


def test_db_health_answers_while_the_database_hangs(
    relay: Relay, migrated_postgres_url: str, telegram: FakeTelegram
) -> None:
    with open_store(relay.url(migrated_postgres_url)) as store, bot_of(store, telegram):
        fill(store)
        assert "🟢 OK" in answer_to(telegram)
        with relay.swallowing():
            for _ in range(3):  # More often than CONCURRENT_QUERIES.
                assert "CRITICAL  the database is down" in answer_to(telegram)
        eventually(lambda: "🟢 OK" in answer_to(telegram), "it recovers by itself", 60)


def test_a_new_bot_continues_at_the_offset_saved_in_the_database(
    migrated_postgres_url: str, telegram: FakeTelegram
) -> None:
    with open_store(migrated_postgres_url) as store:
        fill(store)
        with bot_of(store, telegram):
            number = telegram.say("/types")
            eventually(lambda: len(telegram.texts()) == 1, "an answer")
        note = store.recall(f"telegram/{TOKEN.partition(':')[0]}")
        assert note is not None
        assert note.document == f'{{"offset": {number + 1}}}'
        telegram.offsets.clear()
        with bot_of(store, telegram):
            eventually(lambda: telegram.offsets == [number + 1], "the new bot asks from there")


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"offset": "7"}', "null"])
def test_a_malformed_offset_counts_as_none(migrated_postgres_url: str, document: str) -> None:
    with open_store(migrated_postgres_url) as store:
        store.remember("telegram/7", document or "?")
        assert OffsetNote(store, "7").load() is None


def test_every_command_answers_from_a_real_database(migrated_postgres_url: str, telegram: FakeTelegram) -> None:
    with open_store(migrated_postgres_url) as store, bot_of(store, telegram) as bot:
        fill(store)
        store.add_history("census", store.now() - timedelta(hours=1), '{"total": 9, "by_type": {}, "size_bytes": 1}')
        record_counts(store)
        for command, words in (
            ("/start", "Signal Keystore"),
            ("/help", "/db_health – "),
            ("/status", "memory:"),
            ("/types", "session  40"),
            ("/perf", "burst of 250"),
            ("/mute 2h", "No notices until"),
            ("/mute", "Notices are off until"),
            ("/unmute", "on again"),
        ):
            assert words in answer_to(telegram, command)
        telegram.say("/growth")
        eventually(lambda: telegram.sent[-1].photo is not None, "the picture")
        assert "No forecast yet" in telegram.texts()[-2]
        assert (bot.counts.failed, bot.counts.unanswered) == (0, 0)


def test_the_button_of_a_sweep_deletes_expired_keys(migrated_postgres_url: str, telegram: FakeTelegram) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    with open_store(migrated_postgres_url) as store, bot_of(store, telegram):
        store.restore_rows("demo", [KeyRow("session", f"{n}", b"A", then, then, then) for n in range(5)])
        assert "Delete 5 expired keys" in answer_to(telegram, "/sweep")
        ((_, yes), _) = telegram.sent[-1].keyboard[0]
        telegram.press(yes)
        eventually(lambda: "5 expired keys deleted" in telegram.texts()[-1], "they are swept")
        assert store.census().total == 0
