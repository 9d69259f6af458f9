"""The bot's position among its updates, saved in the database so that no command runs twice, even after a crash.

Telegram forgets an update only when a later one is asked for, after the update was handled. A process that dies in
between would receive it again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.note_names import TELEGRAM_OFFSET
from monitor.running.bounded_calls import BoundedCalls

SAVE_WITHIN_S = 1.0
"""Time limit of a save. A command waits for it, and is answered within 10 s even while the database hangs."""

LOAD_WITHIN_S = 5.0
MAX_AGE = timedelta(days=6)
"""Age at which an offset is dropped. After a week without updates Telegram continues with a random number, and an old
offset could hide new updates."""

log = structlog.get_logger()


@dataclass(frozen=True)
class SavedOffset:
    """The id of the first update that wasn't handled, and when it was saved."""

    update_id: int
    saved_at: datetime


class OffsetNote:
    """A bot's offset in the store's notes. Both methods have a time limit and raise KeystoreError."""

    def __init__(self, store: Store, bot_id: str) -> None:
        self._store = store
        self._name = f"{TELEGRAM_OFFSET}{bot_id}"
        # One call at a time: a save that a hanging database delays is never overtaken by a later one.
        self._calls = BoundedCalls(1, "telegram-offset")

    def load(self) -> SavedOffset | None:
        """The offset, None if none was saved or it can't be parsed."""
        note = self._calls.call(lambda: self._store.recall(self._name), LOAD_WITHIN_S)
        if note is None:
            return None
        try:
            offset = json.loads(note.document)["offset"]
        except (ValueError, KeyError, TypeError):
            return None
        return SavedOffset(offset, note.updated_at) if isinstance(offset, int) else None

    def save(self, update_id: int) -> None:
        """Replace the offset."""
        self._calls.call(lambda: self._store.remember(self._name, json.dumps({"offset": update_id})), SAVE_WITHIN_S)


class UpdateCursor:
    """The next update that a bot has to handle."""

    def __init__(self, note: OffsetNote, clock: Callable[[], datetime]) -> None:
        self._note = note
        self._clock = clock
        self._next_id: int | None = None
        self._moved_at = clock()
        self._loaded = False
        self._only_after_s: float | None = None

    def reset(self) -> None:
        """Have the position loaded again, because another bot may have moved it meanwhile."""
        self._loaded = False

    def load(self) -> None:
        """Load the position that the last bot saved, unless that was done since the last `reset`."""
        if self._loaded:
            return
        try:
            saved = self._note.load()
        except KeystoreError as error:
            log.warning("telegram_offset_not_loaded", error=str(error))
            self._only_after_s = self._clock().timestamp()
        else:
            if saved is not None:
                self._next_id, self._moved_at = saved.update_id, saved.saved_at
        self._loaded = True

    def next_offset(self) -> int | None:
        """The offset to ask Telegram for; None asks for all that it has. Drops an offset older than MAX_AGE."""
        if self._next_id is not None and self._clock() - self._moved_at > MAX_AGE:
            self._next_id = None
        return self._next_id

    def has_passed(self, update_id: int) -> bool:
        """Return whether this update lies before the position."""
        return self._next_id is not None and update_id < self._next_id

    def save_past(self, update_id: int) -> bool:
        """Save the position after this update, without moving there. Returns False if the database can't be reached."""
        try:
            self._note.save(update_id + 1)
        except KeystoreError as error:
            log.warning("telegram_offset_not_saved", error=str(error))
            return False
        return True

    def move_past(self, update_id: int) -> None:
        """Move to the position after this update."""
        self._next_id, self._moved_at = update_id + 1, self._clock()

    def may_have_run(self, sent_at_s: float | None) -> bool:
        """Return whether an earlier bot may have run an update sent at this Unix time (None: unknown).
        True for updates that were already waiting at Telegram when the offset could not be loaded."""
        return self._only_after_s is not None and (sent_at_s is None or sent_at_s <= self._only_after_s)

    def finish_batch(self) -> None:
        """Trust all later updates. An earlier bot received at most one batch that Telegram still keeps: the one that
        is handled now."""
        self._only_after_s = None
