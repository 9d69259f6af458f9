"""Collects the creds and keys of a source whose format carries no times, each value with its type's shape."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from keystore import ids
from keystore.errors import InvalidInput
from keystore.store import Store
from keystore.values.fitting import fitted, is_nothing
from monitor.transfer.state import CREDS, CompanyState, Name, Skipped, StateEntry, by_type, label


@dataclass
class StateCollector:
    """Collects what a source holds, each value with its type's shape; then `state` returns it."""

    entries: dict[Name, StateEntry] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: list[Skipped] = field(default_factory=list)
    unreadable: set[Name] = field(default_factory=set)

    def add(self, source_label: str, name: Name, text: bytes, content: bytes | None = None) -> None:
        """Take the value that this JSON text holds, or skip it and say why."""
        try:
            if name != CREDS:
                ids.checked_writes({name[0]: {name[1]: b"-"}})
            if name != CREDS and is_nothing(text):
                self.ignored.append((source_label, "no value in it (null)"))
                return
            result = fitted(name, text)
            entry = StateEntry(
                source_label, ids.checked_value(label(name), result.value), content=content, wrappings=result.wrappings
            )
            former = self.entries.setdefault(name, entry)
            if former.value != entry.value:
                raise InvalidInput(f"{former.label} is the same key with another value")
        except InvalidInput as error:
            self.skip(source_label, str(error), name)

    def skip(self, source_label: str, reason: str, name: Name | None = None) -> None:
        """Leave out something that may have been a key; `name` is which, where that can be known."""
        self.skipped.append((source_label, reason))
        if name is not None:
            self.unreadable.add(name)

    def state(self) -> CompanyState:
        """Return everything collected."""
        return CompanyState(None, self.entries, tuple(self.skipped), frozenset(self.unreadable), tuple(self.ignored))


def save_without_times(store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
    """Write a state that carries no times, and delete the removed keys, in one `set`."""
    values = {name: entry.value for name, entry in state.entries.items()}
    store.set(company, by_type({**values, **dict.fromkeys(removed)}), state.creds)
