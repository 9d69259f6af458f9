"""The base of a SQL backend: its link, its named statements, and how values become parameters.

The statements of both backends have the same names and parameters. A backend adds its link, its `.sql` file, and its
representation of times, lists and the policy.

The idea of a `.sql` file with complete statements is procrastinate's `queries.sql`. Parameters are named, and no
statement is assembled from strings.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystore.errors import InvalidInput, SchemaMismatch
from keystore.ids import KNOWN_TYPES, OTHER_TYPES
from keystore.invocation import command
from keystore.records import Quota
from keystore.sql.link import UPKEEP_TIMEOUT_S, Link, Row
from keystore.sql.policy_table import read_policy, write_policy
from keystore.sql.quota import Allowances
from keystore.tally import Count, Tally
from keystore.ttl import DEFAULT, Policy

Clock = Callable[[], datetime]


class SqlDialect(ABC):
    """A link to a SQL database, the statements to run there, and the form of their parameters."""

    _sql: Mapping[str, str]
    """The backend's statements by name."""

    def __init__(self, link: Link, clock: Clock | None, policy: Policy, quota: Quota, *, guard: bool) -> None:
        self.link = link
        self._clock = clock
        self._guard = guard
        self._named_types = KNOWN_TYPES.union(policy.by_type)
        """The types that are counted by name: the known ones, and those that the policy names."""
        self._tally = Tally(self._save_counts)
        self._allowances = Allowances(quota)

    @property
    def database(self) -> str:
        return self.link.name

    @property
    def converted(self) -> bool:
        return True

    @property
    def durable(self) -> bool:
        return True

    @property
    def policy(self) -> Policy:
        return read_policy(self.link, self._sql) or DEFAULT

    def replace_policy(self, policy: Policy) -> None:
        """Make `policy` the one in the database, by the store's clock."""
        write_policy(self.link, self._sql, policy, self._now_param())

    @property
    def guards(self) -> bool:
        return self._guard

    def close(self) -> None:
        if self.link.usable:
            self._tally.close()
        self.link.close()

    # Values, in the form of the backend.

    @abstractmethod
    def _now_param(self) -> Any:
        """Return the clock's time as a parameter."""

    @abstractmethod
    def _time_param(self, time: datetime) -> Any:
        """Return a time as a parameter."""

    @abstractmethod
    def _list_param(self, values: Iterable[str]) -> Any:
        """Return several strings as one parameter."""

    @abstractmethod
    def _time(self, stored: Any) -> datetime:
        """Return a time that was read from the database."""

    def _optional_time(self, stored: Any) -> datetime | None:
        return None if stored is None else self._time(stored)

    def _clock_time(self) -> datetime | None:
        """Return the time of the store's own clock; None when the database's clock decides."""
        if self._clock is None:
            return None
        now = self._clock()
        if now.tzinfo is None:
            raise InvalidInput("clock: it returned a time without a time zone; return an aware UTC datetime")
        return now.astimezone(UTC)

    # Running statements by name.

    def _run_upkeep(self, name: str, /, **params: Any) -> list[Row]:
        """Run a statement that may take minutes."""
        return self.link.rows(self._sql[name], {"now": self._now_param(), **params}, UPKEEP_TIMEOUT_S)

    def _run(self, name: str, /, **params: Any) -> list[Row]:
        """Run a statement on the path of a request: the timeout is short."""
        return self.link.rows(self._sql[name], {"now": self._now_param(), **params})

    def _run_for_bot(self, name: str, /, **params: Any) -> list[Row]:
        """Run a statement that reads or writes values."""
        self._require_converted()
        return self._run(name, **params)

    def _require_converted(self) -> None:
        """Raise SchemaMismatch on a legacy database, where values can't be read or written yet."""
        if not self.converted:
            raise SchemaMismatch(
                f"{self.database}: the values are not converted yet: only the watch is attached here. Stop the bot, "
                f"run `{command('migrate')}`, then let it use this store"
            )

    # Counting events.

    def _count_events(self, company_id: str, events: Iterable[tuple[Any, str, int]]) -> None:
        """Count events `(event, key_type, keys)` by the hour."""
        named = [(event, self._counted_as(key_type), keys) for event, key_type, keys in events]
        self._tally.add(company_id, self._clock_time() or datetime.now(UTC), named)

    def _counted_as(self, key_type: str) -> str:
        """Return the name under which a type is counted: its own, or `other`."""
        return key_type if key_type in self._named_types else OTHER_TYPES

    @abstractmethod
    def _save_counts(self, counts: Mapping[Count, int]) -> None:
        """Add counts to those in the database."""


def read_statements(path: Path) -> Mapping[str, str]:
    """Return the `{name: statement}` of a `.sql` file: each statement follows a line `-- name: …`, without comments."""
    _, *parts = re.split(r"^-- name: (\w+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names, texts = parts[::2], (re.sub(r"^\s*--.*\n?", "", text, flags=re.MULTILINE) for text in parts[1::2])
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: two statements have the same name")
    return {name: text.strip().removesuffix(";") for name, text in zip(names, texts, strict=True)}
