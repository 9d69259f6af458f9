"""Notices over Telegram: what the outbox delivers with, and Telegram's failures in the outbox's words."""

from collections.abc import Callable

from monitor.alerts.outbox import NotDelivered, Undeliverable
from monitor.telegram.api import TelegramApi
from monitor.telegram.errors import BadToken, PollConflict, TelegramRefused, TelegramUnavailable
from monitor.telegram.message import messages, plain

BAD_TOKEN_RETRY_S = 600.0
"""Somebody has to mend the token first."""


def delivery(api: TelegramApi) -> Callable[[int, str], None]:
    """`deliver(chat, text)`: sends plain text, in as many messages as it needs.

    Raises NotDelivered (later) or Undeliverable (never for this chat).
    """

    def deliver(chat: int, text: str) -> None:
        try:
            for part in messages(plain(text)):
                api.send_message(chat, part)
        except TelegramRefused as error:
            raise Undeliverable(str(error)) from error
        except TelegramUnavailable as error:
            raise NotDelivered(error.retry_after_s) from error
        except (BadToken, PollConflict) as error:
            raise NotDelivered(BAD_TOKEN_RETRY_S) from error

    return deliver
