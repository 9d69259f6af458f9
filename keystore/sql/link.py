"""The interface to a database driver, which each backend implements for its own.

A link runs statements and units of work, and translates the driver's errors into those of `keystore.errors`.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from keystore.errors import KeystoreError, StoreClosed, StoreUnavailable

Row = tuple[Any, ...]
Run = Callable[[str, Any], list[Row]]
"""Runs one statement with its parameters inside a transaction, and returns its rows."""

T = TypeVar("T")

BOT_DEADLINE_S = 30.0
"""Limit of a bot's call, with every wait and repetition in it: below the 40 s after which a client gives up."""

UPKEEP_TIMEOUT_S = 300.0
"""Timeout of a statement that may read or change the whole table."""


class StatementTimedOut(StoreUnavailable):
    """The server's own limit for a statement ended it."""


class RefusalError(KeystoreError):
    """A function in the database refused a write. `reason` is one of the codes in its file, and `details` are facts."""

    def __init__(self, reason: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"the database refused the write ({reason})")
        self.reason = reason
        self.details = details


class Link(Protocol):
    """A connection pool to one database; thread-safe."""

    name: str

    @property
    def usable(self) -> bool:
        """True while the link is open, in the process that opened it."""

    def rows(self, statement: str, params: Mapping[str, Any], timeout_s: float | None = None) -> list[Row]:
        """Run one statement by itself and return its rows. With None as `timeout_s` it has a bot's deadline."""

    def work(
        self, unit: Callable[[Run], T], *, snapshot: bool = False, timeout_s: float | None = UPKEEP_TIMEOUT_S
    ) -> T:
        """Run `unit(run)` in one transaction; with `snapshot` in a read-only one that sees the data of one moment."""

    def close(self) -> None:
        """Close every connection and end every thread."""


def require_own_process(opened_in: int) -> None:
    """Raise StoreClosed in any process but the one with this id, which opened the store.

    A forked child and its parent would read each other's answers from one connection: another company's keys.
    """
    if os.getpid() != opened_in:
        raise StoreClosed("the store was opened before this process was forked; open a new one")
