"""What the outbox learns of a notice that Telegram didn't take."""

from collections.abc import Iterator

import pytest

from monitor.alerts.outbox import NotDelivered, Undeliverable
from monitor.telegram.api import TelegramApi
from monitor.telegram.delivery import BAD_TOKEN_RETRY_S, delivery
from rig.fixtures.telegram import CHAT, RETRY_AFTER_S, TOKEN, Failure, FakeTelegram, always, plain_text


@pytest.fixture
def api(telegram: FakeTelegram) -> Iterator[TelegramApi]:
    """A line with little patience."""
    api = TelegramApi(TOKEN, telegram.url, deadline_s=1)
    yield api
    api.close()


def test_a_notice_arrives_as_it_is_in_as_many_messages_as_it_needs(telegram: FakeTelegram, api: TelegramApi) -> None:
    text = "\n".join(f"<b>{n}</b> & so on" for n in range(500))
    delivery(api)(CHAT, text)
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
def test_what_passes_is_tried_again(
    telegram: FakeTelegram, api: TelegramApi, failure: Failure, retry_after_s: float | None
) -> None:
    telegram.script = always(failure)
    with pytest.raises(NotDelivered) as caught:
        delivery(api)(CHAT, "the database is down")
    assert caught.value.retry_after_s == retry_after_s


def test_a_chat_that_is_gone_gets_it_never(telegram: FakeTelegram, api: TelegramApi) -> None:
    telegram.gone_chats.add(CHAT)
    with pytest.raises(Undeliverable, match="blocked by the user"):
        delivery(api)(CHAT, "the database is down")
