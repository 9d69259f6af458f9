"""Telegram's updates, parsed. Only commands and presses of buttons concern the bot. Pure.

Anybody can send an update: nothing in it is trusted, and nothing in it raises.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@([A-Za-z0-9_]{1,64}))?(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command in a message. `sent_at_s` is Unix time. `to_us` is False if another bot may be meant."""

    update_id: int
    chat: int
    name: str
    argument: str
    sent_at_s: float
    to_us: bool


@dataclass(frozen=True)
class Press:
    """A press of a button under one of the bot's messages. Telegram doesn't say when it was."""

    update_id: int
    chat: int
    query_id: str
    data: str
    message_id: int | None


@dataclass(frozen=True)
class Other:
    """Anything else: an edited message, a photo, a command for another bot. `chat` is None where it isn't known."""

    update_id: int
    chat: int | None = None


Update: TypeAlias = Command | Press | Other


def read_update(raw: Any, username: str) -> Update | None:
    """Parse an update for the bot with this user name. None if it has no usable `update_id`."""
    update_id = _integer(raw, "update_id")
    if update_id is None:
        return None
    if isinstance(raw.get("message"), dict):
        return _message(update_id, raw["message"], username)
    if isinstance(raw.get("callback_query"), dict):
        return _press(update_id, raw["callback_query"])
    return Other(update_id)


def _message(update_id: int, message: dict[str, Any], username: str) -> Update:
    chat, text, sent_at_s = _integer(message, "chat", "id"), message.get("text"), _integer(message, "date")
    match = _COMMAND.fullmatch(text.strip()) if isinstance(text, str) else None
    if chat is None or match is None or sent_at_s is None:
        return Other(update_id, chat)
    name, addressee, argument = match.groups()
    if addressee is not None and addressee.lower() != username.lower():
        return Other(update_id, chat)
    to_us = addressee is not None or _value(message, "chat", "type") == "private"
    return Command(update_id, chat, name.lower(), (argument or "").strip(), float(sent_at_s), to_us)


def _press(update_id: int, query: dict[str, Any]) -> Update:
    chat, query_id, data = _integer(query, "message", "chat", "id"), query.get("id"), query.get("data")
    if chat is None or not isinstance(query_id, str) or not isinstance(data, str):
        return Other(update_id, chat)
    return Press(update_id, chat, query_id, data, _integer(query, "message", "message_id"))


def _value(container: Any, *path: str) -> Any:
    """The value at a path of nested JSON objects, None if there is none."""
    for name in path:
        container = container.get(name) if isinstance(container, dict) else None
    return container


def _integer(container: Any, *path: str) -> int | None:
    """The integer at a path, None unless it fits in 64 bits as Telegram's numbers do."""
    value = _value(container, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
