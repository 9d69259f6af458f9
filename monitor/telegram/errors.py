"""The errors of a call to Telegram. Each class stands for a different next step of the caller.

(In python-telegram-bot a bad request *is* a network error, so retrying network errors retries bad requests.)
The token is part of every address; no message shows it.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

LONGEST_RETRY_AFTER_S = 86_400.0
"""Longest wait that is believed when Telegram asks for one."""


class TelegramError(Exception):
    """A call to Telegram failed."""


class TelegramUnavailable(TelegramError):  # noqa: N818  named for the state, as in keystore.errors
    """There was no usable answer (network, timeout, 5xx, 429, malformed): try again later. Telegram may still have
    carried out the call. `retry_after_s` is the wait that Telegram asks for, None if it asks for none."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TelegramRefused(TelegramError):  # noqa: N818
    """Telegram won't do this, so never repeat it: the chat is gone, the bot was blocked, the callback is too old."""


class ChatMoved(TelegramRefused):
    """The group has become a supergroup, and its number is `number` from now on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class BadToken(TelegramError):  # noqa: N818
    """Telegram knows no bot with this token: the settings must be corrected."""


class PollConflict(TelegramError):  # noqa: N818
    """Another program polls for this bot, or a webhook is set: each update reaches only one of the two."""


def error_from(method: str, status: int, description: str, parameters: Mapping[str, Any]) -> TelegramError:
    """The error that a response without a result stands for, from its HTTP status, description and parameters."""
    if status in (401, 404):
        check = "check TELEGRAM_BOT_TOKEN, and TELEGRAM_API_URL if it is set"
        return BadToken(f"{method}: {status} {description}: {check}")
    if status == 409:
        return PollConflict(f"{method}: 409 {description}")
    if status in (400, 403, 413):
        new_id = parameters.get("migrate_to_chat_id")
        if isinstance(new_id, int) and not isinstance(new_id, bool) and abs(new_id) < 2**63:
            return ChatMoved(f"{method}: {status} {description}; the chat's number is {new_id} now", new_id)
        return TelegramRefused(f"{method}: {status} {description}")
    if 300 <= status < 400:
        return TelegramUnavailable(f"{method}: {status}, redirected: check TELEGRAM_API_URL")
    if status == 200:
        return TelegramUnavailable(f"{method}: the answer isn't Telegram's: check TELEGRAM_API_URL")
    seconds = parameters.get("retry_after")
    retry_after_s = float(max(0, min(seconds, LONGEST_RETRY_AFTER_S))) if _is_number(seconds) else None
    return TelegramUnavailable(f"{method}: {status} {description}", retry_after_s)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN differs from itself.
