"""Telegram's updates, parsed. Only commands, presses of buttons and new numbers of chats concern the bot. Pure.

Anybody can send an update: nothing in it is trusted, and nothing in it raises.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@([A-Za-z0-9_]{1,64}))?(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Sender:
    """The user who sent an update, None if Telegram doesn't name one. A user is `trusted` without a question to
    Telegram in a private chat. So is the author of a channel's post, or an administrator who writes as the group."""

    user: int | None
    trusted: bool


@dataclass(frozen=True)
class Command:
    """A command in a message. `sent_at_s` is Unix time. `to_us` is False if another bot may be meant."""

    update_id: int
    chat: int
    name: str
    argument: str
    sent_at_s: float
    to_us: bool
    sender: Sender
    topic: int | None = None


@dataclass(frozen=True)
class Press:
    """A press of a button under one of the bot's messages. Telegram doesn't say when it was."""

    update_id: int
    chat: int
    query_id: str
    data: str
    message_id: int | None
    sender: Sender
    topic: int | None = None


@dataclass(frozen=True)
class Moved:
    """News from Telegram that a group has become a supergroup. `chat` is the old number, `new` its number from now."""

    update_id: int
    chat: int
    new: int


@dataclass(frozen=True)
class Other:
    """Anything else: an edited message, a photo, a command for another bot. `chat` is None where it isn't known."""

    update_id: int
    chat: int | None = None


Update: TypeAlias = Command | Press | Moved | Other


def read_update(raw: Any, username: str) -> Update | None:
    """Parse an update for the bot with this user name. None if it has no usable `update_id`."""
    update_id = _integer(raw, "update_id")
    if update_id is None:
        return None
    for kind in ("message", "channel_post"):
        if isinstance(raw.get(kind), dict):
            return _message(update_id, raw[kind], username)
    if isinstance(raw.get("callback_query"), dict):
        return _press(update_id, raw["callback_query"])
    return Other(update_id)


def _message(update_id: int, message: dict[str, Any], username: str) -> Update:
    chat, text, sent_at_s = _integer(message, "chat", "id"), message.get("text"), _integer(message, "date")
    new, old = _integer(message, "migrate_to_chat_id"), _integer(message, "migrate_from_chat_id")
    if chat is not None and new is not None:
        return Moved(update_id, chat, new)
    if chat is not None and old is not None:
        return Moved(update_id, old, chat)
    match = _COMMAND.fullmatch(text.strip()) if isinstance(text, str) else None
    if chat is None or match is None or sent_at_s is None:
        return Other(update_id, chat)
    name, addressee, argument = match.groups()
    if addressee is not None and addressee.lower() != username.lower():
        return Other(update_id, chat)
    to_us = addressee is not None or _value(message, "chat", "type") == "private"
    as_chat = _integer(message, "sender_chat", "id") == chat
    trusted = as_chat or _value(message, "chat", "type") in ("private", "channel")
    sender = Sender(_integer(message, "from", "id"), trusted)
    argument = (argument or "").strip()
    return Command(update_id, chat, name.lower(), argument, float(sent_at_s), to_us, sender, _topic(message))


def _press(update_id: int, query: dict[str, Any]) -> Update:
    chat, query_id, data = _integer(query, "message", "chat", "id"), query.get("id"), query.get("data")
    if chat is None or not isinstance(query_id, str) or not isinstance(data, str):
        return Other(update_id, chat)
    sender = Sender(_integer(query, "from", "id"), _value(query, "message", "chat", "type") == "private")
    message = query["message"]
    return Press(update_id, chat, query_id, data, _integer(message, "message_id"), sender, _topic(message))


def _topic(message: dict[str, Any]) -> int | None:
    """The topic of a message. Without the mark beside it, Telegram's number is that of a thread of replies."""
    return _integer(message, "message_thread_id") if message.get("is_topic_message") is True else None


def _value(container: Any, *path: str) -> Any:
    """The value at a path of nested JSON objects, None if there is none."""
    for name in path:
        container = container.get(name) if isinstance(container, dict) else None
    return container


def _integer(container: Any, *path: str) -> int | None:
    """The integer at a path, None unless it fits in 64 bits as Telegram's numbers do."""
    value = _value(container, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
