"""What both halves of a SQL backend stand on: named statements with the same parameters, and how values look.

A backend adds its link, its `.sql` file, and how its values look (times, lists, the policy).
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from keystore import ttl
from keystore.errors import InvalidInput, SchemaMismatch
from keystore.sql.link import UPKEEP_TIMEOUT_S, Link, Row
from keystore.tally import Count, Tally
from keystore.ttl import Policy

Clock = Callable[[], datetime]


class SqlDialect(ABC):
    """A link to a SQL database, its statements, and its ways with values."""

    def __init__(
        self, link: Link, statements: Mapping[str, str], clock: Clock | None, policy: Policy, *, guard: bool
    ) -> None:
        self.link = link
        self._sql = statements
        self._clock = clock
        self._policy = policy
        self._guard = guard
        self._tally = Tally(self._save_counts)

    @property
    def database(self) -> str:
        return self.link.name

    @property
    def converted(self) -> bool:
        return True

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def guards(self) -> bool:
        return self._guard

    def close(self) -> None:
        if self.link.usable:
            self._tally.close()
        self.link.close()

    # What differs between the dialects' values.

    @abstractmethod
    def _now(self) -> Any:
        """The clock's time as a parameter."""

    @abstractmethod
    def _time(self, stored: Any) -> datetime:
        """A time from the database."""

    @abstractmethod
    def _policy_params(self, key_types: Iterable[str]) -> dict[str, Any]:
        """What the policy says of these types, as parameters."""

    @abstractmethod
    def _stored_time(self, time: datetime) -> Any:
        """A time as a parameter."""

    @abstractmethod
    def _list(self, values: Iterable[str]) -> Any:
        """Several strings as one parameter."""

    def _require_converted(self) -> None:
        """Raises SchemaMismatch where values can't be read or written yet."""
        if not self.converted:
            raise SchemaMismatch(
                f"{self.database}: the values are not converted yet: only the watch is attached here. Stop the bot, "
                "run `python run.py migrate`, then let it use this store"
            )

    def _optional_time(self, stored: Any) -> datetime | None:
        return None if stored is None else self._time(stored)

    def _clock_time(self) -> datetime | None:
        """The time of the store's own clock, None when the database's decides."""
        if self._clock is None:
            return None
        now = self._clock()
        if now.tzinfo is None:
            raise InvalidInput("clock: it returned a time without a time zone; return an aware UTC datetime")
        return now.astimezone(UTC)

    def _rows(self, name: str, /, **params: Any) -> list[Row]:
        return self.link.rows(self._sql[name], {"now": self._now(), **params}, UPKEEP_TIMEOUT_S)

    def _answered(self, name: str, /, **params: Any) -> list[Row]:
        """The rows of a statement that somebody waits for."""
        return self.link.rows(self._sql[name], {"now": self._now(), **params})

    def _bot_rows(self, name: str, /, **params: Any) -> list[Row]:
        self._require_converted()
        return self._answered(name, **params)

    # Counting what happens.

    def _count(self, company_id: str, happened: Iterable[tuple[Any, str, int]]) -> None:
        """Counts `(event, key_type, keys)` by the hour."""
        self._tally.add(company_id, self._clock_time() or datetime.now(UTC), happened)

    def _count_each(self, company_id: str, event: str, rows: Iterable[Row]) -> None:
        """Counts one key for each row, whose first field is its type."""
        self._count(company_id, [(event, key_type, keys) for key_type, keys in Counter(row[0] for row in rows).items()])

    @abstractmethod
    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        """Adds counts to those in the database."""


def ttl_and_step(policy: Policy, key_type: str) -> tuple[float, float]:
    """The lifetime and the rounding step of a type, both in seconds."""
    ttl_s = policy.ttl_s(key_type)
    return ttl_s, float(ttl.step_s(ttl_s))
