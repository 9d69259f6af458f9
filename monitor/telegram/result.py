"""What an answer of Telegram's means: the result that was asked for, or which of our errors. Pure."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from monitor.telegram.errors import BadToken, PollConflict, TelegramError, TelegramRefused, TelegramUnavailable

LONGEST_RETRY_AFTER_S = 86_400.0

_TOLD_CHARACTERS = 300


def result_of(method: str, status: int, body: bytes, token: str) -> Any:
    """The result in an answer. Raises the error that says what went wrong, without the token."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if status == 200 and answer.get("ok") is True:
        return answer.get("result")
    told = answer.get("description")
    told = _in_one_line(told.replace(token, "…")) if isinstance(told, str) else "no reason given"
    parameters = answer.get("parameters")
    raise _error(method, status, told, parameters if isinstance(parameters, dict) else {})


def _error(method: str, status: int, told: str, parameters: Mapping[str, Any]) -> TelegramError:
    if status in (401, 404):
        return BadToken(f"{method}: {status} {told}: check TELEGRAM_BOT_TOKEN, and TELEGRAM_API_URL if it is set")
    if status == 409:
        return PollConflict(f"{method}: 409 {told}")
    if status in (400, 403, 413):
        moved_to = parameters.get("migrate_to_chat_id")
        moved = f"; the chat's number is {moved_to} now, put it into TELEGRAM_CHAT_ID" if _is_number(moved_to) else ""
        return TelegramRefused(f"{method}: {status} {told}{moved}")
    if 300 <= status < 400:
        return TelegramUnavailable(f"{method}: {status}, sent elsewhere: check TELEGRAM_API_URL")
    if status == 200:
        return TelegramUnavailable(f"{method}: the answer isn't Telegram's: check TELEGRAM_API_URL")
    wanted = parameters.get("retry_after")
    retry_after_s = float(max(0, min(wanted, LONGEST_RETRY_AFTER_S))) if _is_number(wanted) else None
    return TelegramUnavailable(f"{method}: {status} {told}", retry_after_s)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # NaN isn't.


def _in_one_line(told: str) -> str:
    return " ".join(told.encode(errors="replace").decode().split())[:_TOLD_CHARACTERS]
