"""Sending to a chat: the bot's replies, repeated a few times, and the outbox's notices, which the outbox repeats."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from monitor.alerts.outbox import NotDelivered, Undeliverable
from monitor.running.backoff import Backoff
from monitor.telegram import texts
from monitor.telegram.chats import Chat, ServedChats
from monitor.telegram.errors import (
    BadToken,
    ChatMoved,
    PollConflict,
    TelegramError,
    TelegramRefused,
    TelegramUnavailable,
)
from monitor.telegram.messages import Reply, messages, plain

if TYPE_CHECKING:
    from monitor.telegram.client import TelegramClient

ATTEMPTS = 6
LONGEST_WAIT_S = 60.0
"""Longest wait before a reply is repeated. If Telegram asks for more, the reply is dropped so the next ones can go."""

BAD_TOKEN_RETRY_S = 600.0
"""Wait before the next call after a rejected token, which somebody has to correct first."""

log = structlog.get_logger()


@dataclass(frozen=True)
class ReplySender:
    """Sends replies. `wait(seconds)` lets time pass and returns True when the bot should stop."""

    client: "TelegramClient"
    wait: Callable[[float], bool]

    def send(self, chat: Chat, reply: Reply) -> bool:
        """Send all of a reply, in order. Returns False if a part of it was dropped, which is logged."""
        parts = messages(reply.lines)
        calls = [
            partial(self.client.send_message, chat, part, reply.keyboard if number == len(parts) else ())
            for number, part in enumerate(parts, 1)
        ]
        if reply.photo is not None:
            calls.append(partial(self.client.send_photo, chat, reply.photo, "Keys: counted, and forecast"))
        return all(self.attempt(call, "telegram_reply_dropped") for call in calls)

    def attempt(self, call: Callable[[], None], failure_event: str) -> bool:
        """Repeat a call until Telegram accepts it. If it never does, log `failure_event` and return False."""
        backoff = Backoff()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                call()
                return True
            except TelegramError as error:
                pause_s = _pause_s(error, backoff)
                if pause_s is None or attempt == ATTEMPTS or self.wait(pause_s):
                    log.warning(failure_event, error=str(error))
                    break
        return False


def deliver_notice(client: "TelegramClient", chats: ServedChats, chat: Chat, text: str) -> None:
    """Send plain text, in as many messages as needed, for the outbox. A group that has moved is followed.
    Raises NotDelivered (try again later) or Undeliverable (never to this chat)."""
    try:
        for part in messages(plain(text)):
            _deliver_message(client, chats, chat, part)
    except TelegramRefused as error:
        raise Undeliverable(str(error)) from error
    except TelegramUnavailable as error:
        raise NotDelivered(error.retry_after_s) from error
    except (BadToken, PollConflict) as error:
        raise NotDelivered(BAD_TOKEN_RETRY_S) from error


def _deliver_message(client: "TelegramClient", chats: ServedChats, chat: Chat, html: str) -> None:
    target = chats.now(chat)
    try:
        client.send_message(target, html)
    except ChatMoved as moved:
        target = Chat(moved.number)
        if chats.follow(chat.number, moved.number):
            (news,) = messages(texts.moved(chat.number, moved.number))
            client.send_message(target, news)
        client.send_message(target, html)
    except TelegramRefused as refusal:
        if target.topic is None:
            raise
        # The topic is closed or gone: an alert is better in the group's general topic than lost.
        log.warning("telegram_topic_refused", chat=str(target), error=str(refusal))
        client.send_message(Chat(target.number), html)


def _pause_s(error: TelegramError, backoff: Backoff) -> float | None:
    """Seconds until the same call may succeed. None if it never will, or not soon enough."""
    if not isinstance(error, TelegramUnavailable):
        return None
    if error.retry_after_s is None:
        return backoff.next_s()
    return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else None
