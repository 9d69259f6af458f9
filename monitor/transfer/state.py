"""A company's state on its way in or out, and the report of that, in the shapes that both formats share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from keystore.records import AuthState, KeyRow

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
    times, where the format keeps them. `content` is the file that the value was read from."""

    label: str
    value: bytes = field(repr=False)
    row: KeyRow | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CompanyState:
    """The creds and keys that could be read from a folder, an archive or the store, and what could not. `company` is
    None where the source doesn't say it. `unreadable` are the keys among the skipped; None if those can be any keys."""

    company: str | None
    entries: dict[Name, StateEntry]
    skipped: tuple[Skipped, ...] = ()
    unreadable: frozenset[Name] | None = frozenset()

    @property
    def creds(self) -> bytes | None:
        """The creds' value; None if there are none."""
        return self.entries[CREDS].value if CREDS in self.entries else None

    @property
    def rows(self) -> list[KeyRow]:
        """The keys with their times; empty where the format doesn't keep times."""
        return [entry.row for entry in self.entries.values() if entry.row is not None]


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """The keys and creds that went in or out; with `dry_run`, those that would have.

    They were read back and compared, `verified` of them; a dry run verifies none. `skipped` are (name, reason) of
    everything left out. `expired` keys are past their expiry: the next sweep deletes them unless a guard keeps them.
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
    deleted_files: int = 0
    dry_run: bool


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
