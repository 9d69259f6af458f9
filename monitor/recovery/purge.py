"""Erases a company: its rows, and its name in the documents that the service keeps for itself."""

import json
import re
from dataclasses import dataclass
from typing import Any

from keystore.ids import canonical_company
from keystore.store import Store
from monitor.note_names import BOT_MEMORY, UNREADABLE, WENT_BACK

NOBODY = "purged"
"""The word in place of the company's name."""


@dataclass(frozen=True)
class PurgeReport:
    """The outcome of a purge: the number of erased rows by table, and of documents that named the company.

    With `dry_run` nothing was erased. `keys` is the number of keys that the company had.
    """

    database: str
    company: str
    keys: int
    rows: dict[str, int]
    documents: int
    dry_run: bool


def purge_company(store: Store, company: str, *, dry_run: bool = False) -> PurgeReport:
    """Erase everything that names a company. Raises LeaseLost while a bot has its lease."""
    company = canonical_company(company)
    if dry_run:
        return PurgeReport(store.database, company, store.load(company).total, {}, 0, dry_run=True)
    rows = store.purge(company)
    return PurgeReport(
        store.database, company, rows["whatsapp_keys"], rows, _clean_documents(store, company), dry_run=False
    )


def _clean_documents(store: Store, company: str) -> int:
    """Take the company's name out of every note, and return the number of notes that had it.

    A number of the same digits in a time or a fraction isn't the name. (The series of counts name no company.)
    """
    name = re.compile(rf"(?<![\w-])(?<!\d[:.,]){re.escape(company)}(?![\w-])(?![:.,]\d)")
    documents = 0
    for note_name, note in store.notes("").items():
        of_company = note_name in (f"{BOT_MEMORY}{company}", f"{WENT_BACK}{company}")
        if of_company or note_name.startswith(f"{UNREADABLE}{company}/"):
            store.remember(note_name, None)
            documents += 1
        elif name.search(note.document):
            store.remember(note_name, _without(note.document, name))
            documents += 1
    return documents


def _without(document: str, name: re.Pattern[str]) -> str:
    """Return a JSON document without the name in any of its strings."""

    def clean(part: Any) -> Any:
        match part:
            case str():
                return name.sub(NOBODY, part)
            case list():
                return [clean(item) for item in part]
            case dict():
                return {clean(key): clean(value) for key, value in part.items()}
        return part

    return json.dumps(clean(json.loads(document)), ensure_ascii=False)
