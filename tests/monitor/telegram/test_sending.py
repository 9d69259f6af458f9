"""Notices reach Telegram, and the outbox learns whether to repeat those that didn't."""

from collections.abc import Iterator

import pytest

from keystore import Store, StoreUnavailable
from monitor.alerts.outbox import NotDelivered, Undeliverable
from monitor.telegram.chats import RETRY_S, Chat, ServedChats
from monitor.telegram.client import TelegramClient, check_chat_numbers
from monitor.telegram.sending import BAD_TOKEN_RETRY_S, deliver_notice
from rig.fixtures.telegram import CHAT, RETRY_AFTER_S, TOKEN, Failure, FakeTelegram, always, plain_text

HERE = Chat(CHAT)
SERVED = ServedChats([HERE])


@pytest.fixture
def client(telegram: FakeTelegram) -> Iterator[TelegramClient]:
    """A client with a short deadline."""
    client = TelegramClient(TOKEN, telegram.url, deadline_s=1)
    yield client
    client.close()


def test_a_long_notice_arrives_unchanged_in_several_messages(telegram: FakeTelegram, client: TelegramClient) -> None:
    text = "\n".join(f"<b>{n}</b> & so on" for n in range(500))
    deliver_notice(client, SERVED, HERE, text)
    assert len(telegram.texts()) > 1
    assert "\n".join(plain_text(part) for part in telegram.texts()) == text


@pytest.mark.parametrize(
    ("failure", "retry_after_s"),
    [
        (Failure.TOO_MANY, float(RETRY_AFTER_S)),
        (Failure.SERVER_ERROR, None),
        (Failure.RESET_BEFORE, None),
        (Failure.DRIPPED_BODY, None),
        (Failure.UNAUTHORIZED, BAD_TOKEN_RETRY_S),
    ],
)
def test_a_notice_is_repeated_after_a_transient_failure(
    telegram: FakeTelegram, client: TelegramClient, failure: Failure, retry_after_s: float | None
) -> None:
    telegram.script = always(failure)
    with pytest.raises(NotDelivered) as caught:
        deliver_notice(client, SERVED, HERE, "the database is down")
    assert caught.value.retry_after_s == retry_after_s


def test_a_notice_goes_into_its_topic_or_else_into_the_group(telegram: FakeTelegram, client: TelegramClient) -> None:
    topic = Chat(-100, 77)
    deliver_notice(client, ServedChats([topic]), topic, "the database is down")
    telegram.closed_topics.add(77)
    deliver_notice(client, ServedChats([topic]), topic, "the database is back")
    assert [(sent.chat, sent.topic) for sent in telegram.sent] == [(-100, 77), (-100, None)]


def test_a_group_that_became_a_supergroup_is_followed_and_says_so_once(
    telegram: FakeTelegram, client: TelegramClient, store: Store
) -> None:
    group = Chat(-5)
    telegram.upgrade(-5, -1_005, announced=False)
    for text in ("the database is down", "the database is back"):
        deliver_notice(client, ServedChats([group], store, client.bot_id), group, text)
    news, down, back = telegram.texts(-1_005)
    assert "changed this chat's number from -5 to -1005" in news
    assert "Put -1005 into TELEGRAM_CHAT_ID" in news
    assert (down, back) == ("the database is down", "the database is back")
    assert telegram.calls["sendMessage"] == 4, "the second process had read the number from the database"
    (result,) = check_chat_numbers(TOKEN, [group, Chat(-6)], store).values()
    assert result == ("warning", "Telegram has changed a chat's number: -5 is -1005 now. Correct TELEGRAM_CHAT_ID")
    assert check_chat_numbers(TOKEN, [Chat(-1_005)], store) == {}


def test_a_move_is_kept_once_the_database_is_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def recall(_: str) -> None:
        raise StoreUnavailable("the database is down")

    now_s = [0.0]
    chats = ServedChats([Chat(-5)], store, "1", ticks=lambda: now_s[0])
    with monkeypatch.context() as patch:
        patch.setattr(store, "recall", recall)
        assert chats.follow(-5, -1_005)
        assert chats.now(Chat(-5)) == Chat(-1_005), "in this process at once"
    assert ServedChats([Chat(-5)], store, "1").now(Chat(-5)) == Chat(-5)
    now_s[0] += RETRY_S
    assert chats.serves(-1_005)
    assert ServedChats([Chat(-5)], store, "1").now(Chat(-5)) == Chat(-1_005)


def test_only_served_chats_are_followed_and_never_in_a_circle() -> None:
    chats = ServedChats([Chat(-5)])
    assert not chats.follow(-6, -1_006), "a stranger's group"
    assert chats.follow(-5, -1_005)
    assert not chats.follow(-5, -1_005)
    assert not chats.follow(-1_005, -5)
    assert [chats.serves(number) for number in (-5, -1_005, -6, -1_006)] == [True, True, False, False]


def test_a_notice_to_a_chat_that_is_gone_is_never_repeated(telegram: FakeTelegram, client: TelegramClient) -> None:
    telegram.gone_chats.add(CHAT)
    with pytest.raises(Undeliverable, match="blocked by the user"):
        deliver_notice(client, SERVED, HERE, "the database is down")
