"""Telegram's updates, read: of all there is only commands and presses of buttons concern us. Pure.

What an update holds is whatever a stranger sent: nothing in it is taken for granted, and nothing in it raises.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@([A-Za-z0-9_]{1,64}))?(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command somebody wrote. `to_us`: it can't be meant for another bot. `sent_at_s` is Unix time."""

    update_id: int
    chat: int
    name: str
    argument: str
    sent_at_s: float
    to_us: bool


@dataclass(frozen=True)
class Press:
    """A press of a button under a message of ours. It doesn't say when."""

    update_id: int
    chat: int
    query_id: str
    data: str
    message_id: int | None


@dataclass(frozen=True)
class Other:
    """Anything else: an edited message, a photo, a command for another bot. `chat` where it is known."""

    update_id: int
    chat: int | None = None


Update: TypeAlias = Command | Press | Other


def read_update(raw: Any, username: str) -> Update | None:
    """What this update is for the bot of this name; None for something without even a number."""
    update_id = _number(_part(raw, "update_id"))
    if update_id is None:
        return None
    if isinstance(_part(raw, "message"), Mapping):
        return _message(update_id, raw["message"], username)
    if isinstance(_part(raw, "callback_query"), Mapping):
        return _press(update_id, raw["callback_query"])
    return Other(update_id)


def _message(update_id: int, message: Mapping[str, Any], username: str) -> Update:
    chat = _number(_part(_part(message, "chat"), "id"))
    text, sent_at_s = message.get("text"), _number(message.get("date"))
    match = _COMMAND.fullmatch(text.strip()) if isinstance(text, str) else None
    if chat is None or match is None or sent_at_s is None:
        return Other(update_id, chat)
    name, addressed_to, argument = match.groups()
    if addressed_to is not None and addressed_to.lower() != username.lower():
        return Other(update_id, chat)
    to_us = addressed_to is not None or _part(_part(message, "chat"), "type") == "private"
    return Command(update_id, chat, name.lower(), (argument or "").strip(), float(sent_at_s), to_us)


def _press(update_id: int, query: Mapping[str, Any]) -> Update:
    message = query.get("message")
    chat = _number(_part(_part(message, "chat"), "id"))
    query_id, data = query.get("id"), query.get("data")
    if chat is None or not isinstance(query_id, str) or not isinstance(data, str):
        return Other(update_id, chat)
    return Press(update_id, chat, query_id, data, _number(_part(message, "message_id")))


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else None


def _number(value: Any) -> int | None:
    """An id as Telegram gives them: within 64 bits."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
