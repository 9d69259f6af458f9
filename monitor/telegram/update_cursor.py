"""Which update comes next, remembered in the database, so that no command runs twice whatever ends the process.

Telegram forgets an update only when a later one is asked for, which is after it was handled: a process that dies in
between would be sent it again.
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
"""A command waits for it: with a frozen database its answer is to be there within 10 seconds all the same."""

LOAD_WITHIN_S = 5.0
MAX_AGE = timedelta(days=6)
"""After a week without updates Telegram begins their numbers anew at random; an older offset could hide new ones."""

log = structlog.get_logger()


@dataclass(frozen=True)
class SavedOffset:
    """The first update that wasn't handled, as of a moment."""

    update_id: int
    saved_at: datetime


@dataclass(frozen=True)
class Offsets:
    """Where the offset is kept. Both raise KeystoreError; `load` gives None where nothing was saved yet."""

    load: Callable[[], SavedOffset | None]
    save: Callable[[int], None]


def offsets_in(store: Store, bot_id: str) -> Offsets:
    """The offset of this bot in the store's notes, with deadlines."""
    name = f"{TELEGRAM_OFFSET}{bot_id}"
    # One slot: a save that a frozen database held up is never overtaken by a later one.
    slot = BoundedCalls(1, "telegram-offset")

    def load() -> SavedOffset | None:
        note = slot.call(lambda: store.recall(name), LOAD_WITHIN_S)
        if note is None:
            return None
        try:
            offset = json.loads(note.document)["offset"]
        except (ValueError, KeyError, TypeError):
            return None
        return SavedOffset(offset, note.updated_at) if isinstance(offset, int) else None

    def save(update_id: int) -> None:
        slot.call(lambda: store.remember(name, json.dumps({"offset": update_id})), SAVE_WITHIN_S)

    return Offsets(load, save)


class UpdateCursor:
    """Where a bot is among the updates."""

    def __init__(self, offsets: Offsets, clock: Callable[[], datetime]) -> None:
        self._offsets = offsets
        self._clock = clock
        self._next_id: int | None = None
        self._as_of = clock()
        self._found = False
        self._new_after_s: float | None = None

    def forget(self) -> None:
        """Before another start: meanwhile another bot may have gone on."""
        self._found = False

    def find(self) -> None:
        """Once a start: reads where the last bot was."""
        if self._found:
            return
        try:
            saved = self._offsets.load()
        except KeystoreError as error:
            log.warning("telegram_offset_unknown", error=str(error))
            self._new_after_s = self._clock().timestamp()
        else:
            if saved is not None:
                self._next_id, self._as_of = saved.update_id, saved.saved_at
        self._found = True

    def to_ask(self) -> int | None:
        """The offset to ask Telegram with; None for whatever it has."""
        if self._next_id is not None and self._clock() - self._as_of > MAX_AGE:
            self._next_id = None
        return self._next_id

    def is_behind(self, update_id: int) -> bool:
        """Whether this update was passed on before."""
        return self._next_id is not None and update_id < self._next_id

    def pass_on(self, update_id: int) -> None:
        """This update is done with, or about to be."""
        self._next_id, self._as_of = update_id + 1, self._clock()

    def may_have_run(self, sent_at_s: float | None) -> bool:
        """Whether an earlier bot may have run what was sent then (None: nobody knows when).

        So it is with what waits at Telegram when the offset couldn't be read: only what is sent after that is new.
        """
        return self._new_after_s is not None and (sent_at_s is None or sent_at_s <= self._new_after_s)

    def caught_up(self) -> None:
        """All of an answer was handled, and no earlier bot was sent more than one that Telegram hadn't forgotten."""
        self._new_after_s = None
