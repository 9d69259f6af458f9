"""Notes that stand for a recent event: each process reads all of one kind, and deletes those that are too old."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from keystore.records import Note
from keystore.upkeep import Upkeep


def recent_notes(store: Upkeep, prefix: str, now: datetime, within: timedelta) -> Iterator[tuple[str, Note]]:
    """Yield the notes whose names begin with `prefix`, by the rest of their names. Delete those older than `within`.

    Raises what the store raises.
    """
    for name, note in sorted(store.notes(prefix).items()):
        if now - note.updated_at > within:
            store.remember(name, None)
        else:
            yield name.removeprefix(prefix), note
