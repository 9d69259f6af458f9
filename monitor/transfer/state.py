"""A company's state on its way in or out, and the report of that, in the shapes that all formats share."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from keystore.records import AuthState, KeyRow
from keystore.store import Store
from keystore.values.codec import is_sealed_by_bot

Name: TypeAlias = tuple[str, str]
"""A key's type and id."""

CREDS: Name = ("", "")
"""The name of the creds among the names of keys; it sorts before them."""

Skipped: TypeAlias = tuple[str, str]
"""The name of something that was left out, and the reason."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called with `(done, total)` as the work goes on."""


@dataclass(frozen=True)
class StateEntry:
    """The creds or one key. `label` is its file name in a folder, or its name in reports. `row` is the key with its
    times, where the format keeps them. `content` is the file that the value was read from. `wrappings` are the names of
    what was taken off the value."""

    label: str
    value: bytes = field(repr=False)
    row: KeyRow | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    wrappings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CompanyState:
    """The creds and keys that could be read from a folder, a file or the store, and what could not.

    `company` is None where the source doesn't say it. `skipped` may have been keys: without them the state isn't whole.
    `unreadable` are the keys among the skipped; None if those can be any keys. `ignored` are no keys. `odd` are taken,
    but don't have the shape that Baileys gives their type.
    """

    company: str | None
    entries: dict[Name, StateEntry]
    skipped: tuple[Skipped, ...] = ()
    unreadable: frozenset[Name] | None = frozenset()
    ignored: tuple[Skipped, ...] = ()
    odd: tuple[Skipped, ...] = ()

    @property
    def unwrapped(self) -> dict[str, int]:
        """The number of values that each wrapping was taken off."""
        return dict(Counter(wrapping for entry in self.entries.values() for wrapping in sorted(entry.wrappings)))

    @property
    def creds(self) -> bytes | None:
        """The creds' value; None if there are none."""
        return self.entries[CREDS].value if CREDS in self.entries else None

    @property
    def sealed_by_bot(self) -> int:
        """The number of values that a bot has sealed."""
        return sum(is_sealed_by_bot(entry.value) for entry in self.entries.values())

    @property
    def rows(self) -> list[KeyRow]:
        """The keys with their times; empty where the format doesn't keep times."""
        return [entry.row for entry in self.entries.values() if entry.row is not None]


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """The keys and creds that went in or out; with `dry_run`, those that would have.

    They were read back and compared, `verified` of them; a dry run verifies none. `skipped` are (name, reason) of
    everything left out that may have been a key, `ignored` of everything else. `unwrapped` counts the values that
    each wrapping was taken off. `odd` values don't have their type's shape. `removed` keys were the company's, and
    aren't in the source. Nobody but their bot can read the values that are `sealed_by_bot`. `expired` keys are past
    their expiry: the next sweep deletes them unless a guard keeps them. `source_stays` is the reason why no source
    file was deleted, though that was asked for. With `creds_missing` the target has no creds, and no bot can
    connect with these keys.
    """

    company: str
    database: str
    source: str
    target: str
    keys: int
    by_type: dict[str, int]
    creds: bool
    verified: int = 0
    expired: int
    skipped: tuple[Skipped, ...]
    ignored: tuple[Skipped, ...] = ()
    unwrapped: dict[str, int] = field(default_factory=dict)
    odd: tuple[Skipped, ...] = ()
    removed: int = 0
    sealed_by_bot: int = 0
    read_as: str = ""
    deleted_files: int = 0
    source_stays: str = ""
    creds_missing: bool = False
    dry_run: bool

    @property
    def partial(self) -> bool:
        """True when something that may have been a key was left out."""
        return bool(self.skipped)


class StateSource(Protocol):
    """A source of a company's state: how to read it, and how to store what was read."""

    @property
    def path(self) -> Path:
        """The folder or file."""

    @property
    def read_as(self) -> str:
        """The name of its format."""

    def read(self, progress: Progress | None) -> CompanyState:
        """Read the state. Raises InvalidInput if the source has another format."""

    def save(self, store: Store, company: str, state: CompanyState, removed: Iterable[Name]) -> None:
        """Write the state, and delete the removed keys, in one write."""

    def delete(self, entry: StateEntry) -> None:
        """Delete the entry's own file. Raises InvalidInput if there is none, or if it can't be deleted."""


def label(name: Name) -> str:
    """The name as reports show it: `creds`, or the key's type and id."""
    return "creds" if name == CREDS else " ".join(name)


def by_name(state: AuthState) -> dict[Name, bytes]:
    """The creds and all keys of the store's state, by name."""
    values = {} if state.creds is None else {CREDS: state.creds}
    return values | {(key_type, key_id): keys[key_id] for key_type, keys in state.keys.items() for key_id in keys}


def by_type(values: Mapping[Name, bytes | None]) -> dict[str, dict[str, bytes | None]]:
    """The keys, without the creds, as `Store.set` takes them."""
    keys: dict[str, dict[str, bytes | None]] = {}
    for (key_type, key_id), value in values.items():
        if (key_type, key_id) != CREDS:
            keys.setdefault(key_type, {})[key_id] = value
    return keys
