"""Replies on their way into a chat: in parts where they must be, and again, not for ever, where that failed."""

from collections.abc import Callable
from functools import partial

import structlog

from monitor.running.backoff import Backoff
from monitor.telegram.answers import Reply
from monitor.telegram.api import TelegramApi
from monitor.telegram.errors import TelegramError, TelegramUnavailable
from monitor.telegram.message import messages

ATTEMPTS = 6
LONGEST_WAIT_S = 60.0
"""A reply that Telegram wants to wait longer for isn't worth holding the next ones up."""

CAPTION = "Keys: counted, and expected"

log = structlog.get_logger()


class Replies:
    """The way out. `wait(seconds)` passes time and returns whether to stop."""

    def __init__(self, api: TelegramApi, wait: Callable[[float], bool]) -> None:
        self._api = api
        self._wait = wait

    def send(self, chat: int, reply: Reply) -> bool:
        """Sends all of a reply, in order; returns whether it is all there. What can't be sent is logged and dropped."""
        parts = messages(reply.lines)
        calls: list[Callable[[], object]] = [partial(self._api.send_message, chat, part) for part in parts[:-1]]
        calls += [partial(self._api.send_message, chat, part, reply.keyboard) for part in parts[-1:]]
        if reply.photo is not None:
            calls.append(partial(self._api.send_photo, chat, reply.photo, CAPTION))
        return all(self.taken(call, "telegram_reply_dropped") for call in calls)

    def taken(self, call: Callable[[], object], or_else: str) -> bool:
        """Makes a call until Telegram takes it; returns whether it did. If not, `or_else` is logged with the reason."""
        backoff = Backoff()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                call()
                return True
            except TelegramError as error:
                pause_s = _pause_s(error, backoff)
                if pause_s is None or attempt == ATTEMPTS or self._wait(pause_s):
                    log.warning(or_else, error=str(error))
                    break
        return False


def _pause_s(error: TelegramError, backoff: Backoff) -> float | None:
    """How long to wait before the same call may work; None if it won't, or not soon enough."""
    if not isinstance(error, TelegramUnavailable):
        return None
    if error.retry_after_s is None:
        return backoff.next_s()
    return error.retry_after_s if error.retry_after_s <= LONGEST_WAIT_S else None
