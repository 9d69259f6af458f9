"""The mute: until it ends no notices go out, and alerts are judged all the same.

It is stored in the database, so it holds for whichever process alerts, and through restarts. Every function raises what
the store raises.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from keystore.store import Upkeep
from monitor.note_names import MUTE
from monitor.running.bounded_calls import ANSWER_WITHIN_S, BoundedCalls


@dataclass
class Mute:
    """The mute as the watch knows it."""

    store: Upkeep
    questions: BoundedCalls
    until: datetime | None = None

    def is_on(self, now: datetime) -> bool:
        """True until the mute ends."""
        return self.until is not None and now < self.until

    def refresh(self, within_s: float = ANSWER_WITHIN_S) -> None:
        """Read the stored mute."""
        self.until = self.questions.call(lambda: last_mute(self.store), within_s)

    def begin(self, until: datetime) -> None:
        """Mute until then, from this moment on."""
        set_mute(self.store, until)
        self.until = until  # At once: a notice of the look that is under way must not go out either.

    def end(self, now: datetime) -> None:
        """End the mute at this moment."""
        if muted_until(self.store, now) is not None:
            self.begin(now)  # The note stays: the alerting process must see the end, and list the firing alerts.

    def is_over(self, now: datetime) -> bool:
        """True when the mute has ended and that wasn't announced yet."""
        return self.until is not None and self.until <= now

    def forget(self) -> None:
        """Forget the mute, once its end is announced."""
        self.questions.call(lambda: self.store.remember(MUTE, None))
        self.until = None


def set_mute(store: Upkeep, until: datetime) -> None:
    """Let no notice go out until then."""
    store.remember(MUTE, json.dumps({"until": until.isoformat()}))


def muted_until(store: Upkeep, now: datetime) -> datetime | None:
    """The end of the mute in force; None without one."""
    until = last_mute(store)
    return until if until is not None and until > now else None


def last_mute(store: Upkeep) -> datetime | None:
    """The end, past or future, of the latest mute; None once its end was announced."""
    note = store.recall(MUTE)
    try:
        until = None if note is None else datetime.fromisoformat(json.loads(note.document)["until"])
    except (ValueError, KeyError, TypeError):
        return None
    return until if until is not None and until.tzinfo is not None else None
