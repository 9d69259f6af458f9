"""What a store needs of its driver, whichever it is: the `Link` that both backends implement, and what they share.

A link runs statements and units of work, and turns the driver's errors into ours.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from keystore.errors import StoreClosed, StoreUnavailable

Row = tuple[Any, ...]
Run = Callable[[str, Any], list[Row]]
"""Runs one statement with its parameters inside a unit of work; the rows."""

T = TypeVar("T")

UPKEEP_TIMEOUT_S = 300.0
"""For a statement that may read or change the whole table."""


class RowLocked(StoreUnavailable):
    """Somebody holds a row for longer than the statement would wait."""


class Link(Protocol):
    """How a backend talks to its driver."""

    name: str

    @property
    def usable(self) -> bool:
        """Whether it is open, and in the process that opened it."""

    def rows(
        self, statement: str, params: Mapping[str, Any], timeout_s: float | None = None, *, large: bool = False
    ) -> list[Row]:
        """Runs one statement on its own and returns its rows; `large` says that those are many."""

    def work(self, unit: Callable[[Run], T], timeout_s: float = ..., *, snapshot: bool = False) -> T:
        """Runs `unit(run)` in one transaction; with `snapshot` read-only, all of it as of one moment."""

    def close(self) -> None:
        """Gives back every connection and thread."""


def require_own_process(opened_in: int) -> None:
    """Raises StoreClosed in a process forked from the one (its id) that opened the store.

    Parent and child would read each other's answers from one connection: another company's keys.
    """
    if os.getpid() != opened_in:
        raise StoreClosed("the store was opened before this process was forked; open a new one")
