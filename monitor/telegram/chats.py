"""The chats that the bot serves, and the numbers that Telegram has given them since the operator listed them.

When a group becomes a supergroup, Telegram gives it a new number and refuses the old one. It names the new number in
that refusal, and in a message to the group. The bot follows it and keeps it in a note, so that no alert is lost; the
chat and `doctor` ask the operator to correct the setting.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

import structlog

from keystore.errors import KeystoreError
from keystore.upkeep import Upkeep
from monitor.note_names import TELEGRAM_CHATS
from monitor.running.bounded_calls import BoundedCalls

NOTE_WITHIN_S = 1.0
RETRY_S = 60.0
"""Pause after the note could not be read or written."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Chat:
    """A chat by its number, or one topic of a group."""

    number: int
    topic: int | None = None

    def __str__(self) -> str:
        return f"{self.number}" if self.topic is None else f"{self.number}:{self.topic}"


class ServedChats:
    """The listed chats under their present numbers, for several threads. Without a store the process forgets them."""

    def __init__(
        self,
        chats: Iterable[Chat],
        store: Upkeep | None = None,
        bot_id: str = "",
        *,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self._listed = frozenset(chat.number for chat in chats)
        self._store = store
        self._name = f"{TELEGRAM_CHATS}{bot_id}"
        self._ticks = ticks
        self._calls = BoundedCalls(1, "telegram-chats")
        self._lock = threading.Lock()
        self._moved: dict[int, int] = {}
        self._read = self._written = store is None
        self._due_at = 0.0

    def now(self, chat: Chat) -> Chat:
        """The chat under its present number. A group that moved has no topics yet."""
        self._synchronize()
        with self._lock:
            number = _present_number(chat.number, self._moved)
        return chat if number == chat.number else Chat(number)

    def serves(self, number: int) -> bool:
        """True for the present number of a listed chat, and for its listed one."""
        return number in self._listed or any(self.now(Chat(listed)).number == number for listed in self._listed)

    def follow(self, old: int, new: int) -> bool:
        """Take the new number for a served chat. Returns False if the chat isn't served or the number is known."""
        if old == new or not self.serves(old):
            return False
        with self._lock:
            if _present_number(old, self._moved) == new or _present_number(new, self._moved) != new:
                return False
            self._moved[_present_number(old, self._moved)] = new
            self._written, self._due_at = self._store is None, 0.0
        log.warning("telegram_chat_moved", old=old, new=new, hint="put the new number into TELEGRAM_CHAT_ID")
        self._synchronize()
        return True

    def _synchronize(self) -> None:
        """Read the note if that wasn't done yet, and write it if it has changed."""
        with self._lock:
            store = self._store
            if store is None or (self._read and self._written) or self._ticks() < self._due_at:
                return
            self._due_at = self._ticks() + RETRY_S
            must_read = not self._read
        try:
            if must_read:
                stored = self._calls.call(lambda: stored_moves(store, self._name), NOTE_WITHIN_S)
                with self._lock:
                    self._moved = {**stored, **self._moved}
                    self._read, self._written = True, self._written or self._moved == stored
            with self._lock:
                document = None if self._written else json.dumps(self._moved)
            if document is not None:
                self._calls.call(lambda: store.remember(self._name, document), NOTE_WITHIN_S)
                with self._lock:
                    self._written = json.dumps(self._moved) == document
        except KeystoreError as error:
            log.warning("telegram_chats_not_synchronized", error=str(error))


def stored_moves(store: Upkeep, name: str) -> dict[int, int]:
    """The old and new numbers in a note; none where there is no readable one. Raises what the store raises."""
    note = store.recall(name)
    try:
        return {} if note is None else {int(old): int(new) for old, new in json.loads(note.document).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def moved_since(store: Upkeep, bot_id: str, chats: Iterable[Chat]) -> dict[int, int]:
    """The listed numbers that Telegram has changed, with the present ones. Raises what the store raises."""
    moved = stored_moves(store, f"{TELEGRAM_CHATS}{bot_id}")
    return {chat.number: _present_number(chat.number, moved) for chat in chats if chat.number in moved}


def _present_number(number: int, moved: dict[int, int]) -> int:
    """The number at the end of all moves. `follow` lets no circle arise, and a stored one ends after its length."""
    for _ in moved:
        number = moved.get(number, number)
    return number
