"""The queries of sealed values, which each database has in its own form."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Name = tuple[str, str]
"""The type and the id of a key; both are empty for the creds."""

CREDS: Name = ("", "")

UNSEALED_TYPES = frozenset({"lid-mapping"})
"""Types whose values stay plain, because the guards of a sweep read them. They hold no key: see docs/sealing.md."""

COMPARED_TYPES = frozenset({"pre-key"})
"""Types for which a write with another value is counted: an unused pre-key was overwritten."""

KEY_ERASED = "KS005"
"""The code with which a write is refused because the data key that sealed it was erased."""


@dataclass(frozen=True, repr=False)
class Reseal:
    """A stored value, and the form that takes its place. `trashed_at` is set for a value in the trash."""

    name: Name
    former: bytes
    sealed: bytes
    trashed_at: Any = None


class SealingQueries(ABC):
    """The queries of one database. Each may raise StoreUnavailable."""

    @abstractmethod
    def run(self, name: str, /, **params: Any) -> list[tuple[Any, ...]]:
        """Run a statement of a bot's call, with its short timeout."""

    @abstractmethod
    def run_upkeep(self, name: str, /, **params: Any) -> list[tuple[Any, ...]]:
        """Run a statement that may take minutes."""

    @abstractmethod
    def stored_values(self, company: str, names: Sequence[Name]) -> dict[Name, bytes]:
        """Return the stored forms of those of the values that there are. This is no use, and renews nothing."""

    @abstractmethod
    def reseal(self, company: str, data_key: bytes, changes: Sequence[Reseal]) -> int:
        """Replace stored forms, all of them in the trash or none. Return the number of those that were replaced.

        A value that has another form by now stays. Raises RefusalError if the data key was erased.
        """
