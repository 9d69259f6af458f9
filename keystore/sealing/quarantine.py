"""Values that can't be read: they take no other value down, are named, and stay where they are for inspection.

A read leaves such a value out. It is logged once by each process, and a note in the database names it, so that the
check and the watch can report it. Its key never expires, so no sweep deletes it. It goes when its bot writes the key
again.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256

import structlog

from keystore.errors import CorruptValue, KeystoreError, SecretKeyMissing
from keystore.records import Note, UnreadableValue
from keystore.sealing.queries import Name, SealingQueries
from keystore.values.codec import Opener

NOTES = "unreadable/"
"""The beginning of the names of the notes: the company and a hash of the key's name follow."""

MOST_NAMED = 20
"""Number of a company's unreadable values that one process names."""

MOST_COMPANIES = 10_000

log = structlog.get_logger()


class Quarantine:
    """The unreadable values that a store has met; thread-safe."""

    def __init__(self, queries: SealingQueries) -> None:
        self._queries = queries
        self._lock = threading.Lock()
        self._named: set[tuple[str, Name]] = set()
        self._by_company: Counter[str] = Counter()

    def put(self, company: str, name: Name, error: CorruptValue) -> None:
        """Log and note a value that a read has left out. Does nothing the second time, and raises nothing."""
        with self._lock:
            if (company, name) in self._named or self._by_company[company] >= MOST_NAMED:
                return
            if len(self._by_company) > MOST_COMPANIES:
                self._named.clear()
                self._by_company.clear()
            self._named.add((company, name))
            self._by_company[company] += 1
        key_type, key_id = name
        log.error("value_unreadable", company_id=company, key_type=key_type, key_id=key_id, reason=str(error))
        document = json.dumps(
            {"company": company, "key_type": key_type, "key_id": key_id, "reason": str(error)}, ensure_ascii=False
        )
        try:
            self._queries.run("keep_unreadable", company_id=company, key_type=key_type, key_id=key_id)
            self._queries.run("remember", name=_note_name(company, name), document=document)
        except KeystoreError as failure:
            log.warning("unreadable_value_not_noted", company_id=company, error=str(failure))
            self._forget(company, name)

    def still_unreadable(self, notes: Mapping[str, Note], opener_of: Callable[[str], Opener]) -> list[UnreadableValue]:
        """Return the noted values that still can't be read, and forget the others. Raises what the database raises."""
        unreadable = []
        for note_name, value in zip(sorted(notes), noted_values(notes), strict=True):
            company, name = value.company_id, (value.key_type, value.key_id)
            stored = self._queries.stored_values(company, [name]).get(name)
            if stored is not None and not _opens(opener_of(company), name, stored):
                unreadable.append(value)
                continue
            self._queries.run_upkeep("forget", name=note_name)
            self._forget(company, name)
        return unreadable

    def _forget(self, company: str, name: Name) -> None:
        with self._lock:
            if (company, name) in self._named:
                self._named.remove((company, name))
                self._by_company[company] -= 1


def noted_values(notes: Mapping[str, Note]) -> list[UnreadableValue]:
    """Return the values that the notes name, in the order of the notes' names."""
    documents = [(json.loads(note.document), note.updated_at) for _, note in sorted(notes.items())]
    return [
        UnreadableValue(noted["company"], noted["key_type"], noted["key_id"], noted["reason"], noticed_at)
        for noted, noticed_at in documents
    ]


def _opens(opener: Opener, name: Name, stored: bytes) -> bool:
    """Return True if a stored value opens. Without the secret key nobody knows, and the note stays."""
    try:
        opener(*name, stored)
    except (CorruptValue, SecretKeyMissing):
        return False
    return True


def _note_name(company: str, name: Name) -> str:
    return f"{NOTES}{company}/{sha256(json.dumps(name).encode()).hexdigest()[:16]}"
