"""Notices reach Telegram, and the outbox learns whether to repeat those that didn't."""

from collections.abc import Iterator

import pytest

from monitor.alerts.outbox import NotDelivered, Undeliverable
from monitor.telegram.client import TelegramClient
from monitor.telegram.sending import BAD_TOKEN_RETRY_S, deliver_notice
from rig.fixtures.telegram import CHAT, RETRY_AFTER_S, TOKEN, Failure, FakeTelegram, always, plain_text


@pytest.fixture
def client(telegram: FakeTelegram) -> Iterator[TelegramClient]:
    """A client with a short deadline."""
    client = TelegramClient(TOKEN, telegram.url, deadline_s=1)
    yield client
    client.close()


def test_a_long_notice_arrives_unchanged_in_several_messages(telegram: FakeTelegram, client: TelegramClient) -> None:
    text = "\n".join(f"<b>{n}</b> & so on" for n in range(500))
    deliver_notice(client, CHAT, text)
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
        deliver_notice(client, CHAT, "the database is down")
    assert caught.value.retry_after_s == retry_after_s


def test_a_notice_to_a_chat_that_is_gone_is_never_repeated(telegram: FakeTelegram, client: TelegramClient) -> None:
    telegram.gone_chats.add(CHAT)
    with pytest.raises(Undeliverable, match="blocked by the user"):
        deliver_notice(client, CHAT, "the database is down")
