"""Silence for a while: nothing goes out until then, and what fires is known all the same.

It stands in the database, so that it holds for whichever process alerts, and through restarts.
"""

import json
from datetime import datetime

from keystore.store import Upkeep

NOTE = "mute"


def mute(store: Upkeep, until: datetime) -> None:
    """Nothing goes out until then. Raises what the store raises."""
    store.remember(NOTE, json.dumps({"until": until.isoformat()}))


def unmute(store: Upkeep, now: datetime) -> None:
    """Ends the silence now. Raises what the store raises."""
    until = muted_until(store, now)
    if until is not None:
        mute(store, now)  # Not forgotten: whoever alerts has yet to see that it ended, and to say what fires.


def muted_until(store: Upkeep, now: datetime) -> datetime | None:
    """Until when, None when it isn't so. Raises what the store raises."""
    until = last_mute(store)
    return until if until is not None and until > now else None


def last_mute(store: Upkeep) -> datetime | None:
    """The end, past or to come, of a silence that nobody has told the end of yet. Raises what the store raises."""
    note = store.recall(NOTE)
    if note is None:
        return None
    try:
        until = datetime.fromisoformat(json.loads(note.document)["until"])
    except (ValueError, KeyError, TypeError):
        return None
    return until if until.tzinfo is not None else None


def end_told(store: Upkeep) -> None:
    """Forgets a silence whose end was told. Raises what the store raises."""
    store.remember(NOTE, None)
