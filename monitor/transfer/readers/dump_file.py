"""The interface of a reader: it turns a file into stored values, each with the name of its key and of its state."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from keystore.baileys import Json, write_json
from keystore.errors import InvalidInput
from keystore.store import Store
from monitor.transfer.collector import StateCollector, save_without_times
from monitor.transfer.readers.text_files import Records
from monitor.transfer.state import CompanyState, Name, Progress, StateEntry

MOST_NAMED = 5
"""The most states that a message names."""


@dataclass(frozen=True)
class StoredValue:
    """A value in a dump. `state` tells one bot's values from another's, and is "" where a dump has only one.

    `name` is None for something that is no key of Baileys'. `reason` says why this can't be read.
    """

    state: str
    label: str
    name: Name | None
    text: bytes = field(default=b"", repr=False)
    reason: str = ""


@dataclass(frozen=True)
class DumpFile(ABC):
    """A file at `path` that another program made; `state` chooses one, if it holds several bots' states."""

    path: Path
    state: str | None = None

    read_as: ClassVar[str]
    """The name of the format, for `--from`."""

    describes: ClassVar[str]
    """The format in words, for the help."""

    @classmethod
    @abstractmethod
    def recognizes(cls, path: Path, records: Records | None) -> bool:
        """True if the file has this format. `records` is the content of a text file."""

    @abstractmethod
    def values(self) -> Iterable[StoredValue]:
        """Yield everything in the file. Raises InvalidInput if it has another format."""

    def read(self, progress: Progress | None) -> CompanyState:
        """Read one bot's state. Raises InvalidInput if the file holds several, and none was chosen."""
        values = self._chosen(list(self.values()))
        collector = StateCollector()
        for done, value in enumerate(values, 1):
            if value.reason:
                collector.skip(value.label, value.reason, value.name)
            elif value.name is None:
                collector.ignored.append((value.label, "not a name that Baileys gives a key"))
            else:
                collector.add(value.label, value.name, value.text)
            if progress is not None:
                progress(done, len(values))
        if not collector.entries and not collector.skipped:
            raise InvalidInput(f"{self.path} has no key of Baileys in it (creds, pre-key-1 and so on)")
        return collector.state()

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Write and delete everything in one `set`."""
        save_without_times(store, company, state, removed)

    def delete(self, entry: StateEntry) -> None:
        """Refuse to delete: an entry has no file of its own."""
        raise InvalidInput("it is in a file with others")

    def _chosen(self, values: list[StoredValue]) -> list[StoredValue]:
        """Return the values of the chosen state, and those that belong to none."""
        states = sorted({value.state for value in values if value.name is not None})
        chosen = self.state
        if chosen is None and len(states) > 1:
            named = ", ".join(map(repr, states[:MOST_NAMED])) + (", …" if len(states) > MOST_NAMED else "")
            raise InvalidInput(f"{self.path} holds the states of {len(states)} bots ({named}); choose one with --state")
        if chosen is not None and chosen not in states:
            named = ", ".join(map(repr, states[:MOST_NAMED])) or "none"
            raise InvalidInput(f"{self.path} holds no state {chosen!r}; it holds {named}")
        chosen = states[0] if chosen is None and states else chosen
        return [value for value in values if value.state == chosen or value.name is None]


def value_text(value: Json) -> bytes:
    """Return a stored value as JSON text: a string holds it already, anything else is the document itself."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    return value if isinstance(value, bytes) else write_json(value)
