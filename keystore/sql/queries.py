"""The queries of a SQL database: its link, its named statements, and the form of its parameters.

The store (`keystore.sql.store`) checks arguments, counts events, decodes values and words errors, once for both
databases. A backend adds its `.sql` file, its form of times and lists, and the operations that differ. The statements
of both backends have the same names and parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from keystore.errors import InvalidInput, KeystoreError, LeaseLost
from keystore.ids import OTHER_TYPES
from keystore.records import KeyRow, Lease, Quota, SweepRun
from keystore.sealing.queries import SealingQueries
from keystore.sql.link import UPKEEP_TIMEOUT_S, Link, Row, Run, StatementTimedOut
from keystore.sql.portions import SMALLER_PORTIONS, SMALLEST_PORTIONS, WHOLE_TABLE, Portion
from keystore.sql.quota import Usage
from keystore.tally import Count

Clock = Callable[[], datetime]

Numbers = tuple[int | None, int | None, int | None]
"""The epoch and seq of a write, and the seq of the last acknowledged write before it."""


@dataclass(frozen=True, repr=False)
class Change:
    """A checked write. `written` is `(key_type, key_id, stored value)`, and `deleted` is `(key_type, key_id)`.

    `creds` are in their stored form too. `acknowledged` is the number of the holder's last acknowledged write. With a
    `quota`, the company's use is counted, and must not exceed it. If the values are sealed, `data_key` is the id of
    their key, and `other_identity` says whether the creds replace others'.
    """

    company: str
    written: list[tuple[str, str, bytes]]
    deleted: list[tuple[str, str]]
    creds: bytes | None
    epoch: int | None
    seq: int | None
    acknowledged: int | None
    quota: Quota | None
    data_key: bytes | None = None
    other_identity: bool = False


@dataclass(frozen=True)
class Changed:
    """The outcome of a change: events `(event, key_type, keys)` to count, and the ids of rewritten pre-keys.

    `used` is the company's use after the change; None if it wasn't counted.
    """

    events: list[tuple[Any, str, int]]
    rewritten: list[str]
    used: Usage | None


Outcome = Changed | KeystoreError
"""The outcome of one change of several: what it changed, or the error that refused it."""

NOTHING_CHANGED = Changed([], [], None)


class Queries(SealingQueries, ABC):
    """The queries of one database. Any may raise StoreUnavailable. A write that a rule refuses raises RefusalError."""

    sql: Mapping[str, str]
    """The backend's statements by name."""

    converted = True
    """False on a legacy database, where values can't be read or written yet."""

    def __init__(self, link: Link, clock: Clock | None, *, guard: bool, named_types: Iterable[str]) -> None:
        self.link = link
        self.guard = guard
        self.named_types = frozenset(named_types)
        """The types that are counted by name: the known ones, and those that the policy names."""
        self._clock = clock

    # Facts about the database.

    @property
    def distributed(self) -> bool:
        """True when the tables are spread over several machines, which have no index of all companies."""
        return False

    @property
    def durable(self) -> bool:
        """True when the database waits for its disk before it acknowledges a write."""
        return True

    def companies_with_logins(self) -> frozenset[str]:
        """Return the companies whose bots read the tables without us, by a login of their own."""
        return frozenset()

    def columns_in_the_way(self) -> list[Row]:
        """Return `(table, column)` of each column that requires a value which our writes don't have."""
        return []

    # Running statements by name.

    def run(self, name: str, /, **params: Any) -> list[Row]:
        """Run a statement of a bot's call, with its short timeout."""
        return self.link.rows(self.sql[name], {"now": self.now_param(), **params})

    def run_upkeep(self, name: str, /, **params: Any) -> list[Row]:
        """Run a statement that may take minutes."""
        return self.link.rows(self.sql[name], {"now": self.now_param(), **params}, UPKEEP_TIMEOUT_S)

    def run_within(self, run: Run, name: str, /, **params: Any) -> list[Row]:
        """Run a statement within a transaction."""
        return run(self.sql[name], {"now": self.now_param(), **params})

    @abstractmethod
    def run_in_turn(self, names: Sequence[str], params: dict[str, Any]) -> list[Row]:
        """Run several statements in one transaction with the timeout of a bot's call, and return the rows of all."""

    def add_token(self, params: dict[str, Any]) -> list[Row]:
        """Insert a token and return a row; return none if another token has its id."""
        return self.run("add_token", **params)

    # Values, in the form of the backend.

    @abstractmethod
    def now(self) -> datetime:
        """Return the time of the store's clock, or of the database's."""

    @abstractmethod
    def now_param(self) -> Any:
        """Return the clock's time as a parameter."""

    @abstractmethod
    def time_param(self, time: datetime) -> Any:
        """Return a time as a parameter."""

    @abstractmethod
    def list_param(self, values: Iterable[str]) -> Any:
        """Return several strings as one parameter."""

    @abstractmethod
    def texts(self, stored: Any) -> tuple[str, ...]:
        """Return several strings that were read as one column."""

    @abstractmethod
    def time(self, stored: Any) -> datetime:
        """Return a time that was read from the database."""

    def optional_time(self, stored: Any) -> datetime | None:
        """Return a time that was read from the database, or None."""
        return None if stored is None else self.time(stored)

    def clock_time(self) -> datetime | None:
        """Return the time of the store's own clock; None when the database's clock decides."""
        if self._clock is None:
            return None
        now = self._clock()
        if now.tzinfo is None:
            raise InvalidInput("clock: it returned a time without a time zone; return an aware UTC datetime")
        return now.astimezone(UTC)

    # The operations of a bot that differ.

    @abstractmethod
    def get(self, company: str, key_type: str, key_ids: list[str]) -> tuple[list[Row], int]:
        """Renew the keys that are due. Return rows `(key_id, stored value, …)` and the number of renewed keys."""

    @abstractmethod
    def set(self, change: Change) -> Changed:
        """Make a change, all of it or nothing."""

    @abstractmethod
    def set_all(self, changes: list[Change]) -> list[Outcome]:
        """Write changes of several companies in one transaction. An error of one leaves the others alone."""

    @abstractmethod
    def clear(self, company: str, numbers: Numbers, *, keys_only: bool) -> list[Row]:
        """Put a company's keys, and its creds unless `keys_only`, into the trash. Return `(key_type, deleted keys)`."""

    @abstractmethod
    def touch(self, company: str, used: list[tuple[str, str]]) -> tuple[list[Row], dict[str, list[str]]]:
        """Mark keys `(key_type, key_id)` as used.

        Return rows `(key_type, renewed keys)`, and by type the ids that aren't stored.
        """

    # The upkeep that differs.

    @abstractmethod
    def save_counts(self, counts: Mapping[Count, int]) -> None:
        """Add counts to those in the database."""

    @abstractmethod
    def largest_company(self, most_keys: int, most_bytes: int) -> str | None:
        """Return the largest company within both limits, out of the ten with the most keys; None if none is."""

    @abstractmethod
    def life_params(self) -> dict[str, Any]:
        """Return the parameters of `life_counts`.

        The rows of `life_counts` are `(key_type, lasting, gone_on, keys)`; `gone_on` is in days since 1970, or None.
        """

    @abstractmethod
    def due_sessions(self) -> list[Row]:
        """Return `(company_id, due, total)` of the companies that have due sessions."""

    @abstractmethod
    def sweep_batch(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> dict[str, int]:
        """Sweep under the lease, and return the recorded deletions of the whole run by type. Raises LeaseLost.

        The deletions are added to the run's record, not to the caller's `run`. So a batch counts once, even if its
        answer gets lost and it is repeated. The renewed lease begins at the end of a long batch, not at its start.
        """

    @abstractmethod
    def backfill(self, limit: int) -> list[Row]:
        """Set an expiry for up to `limit` keys that have none. Return rows `(key_type, keys)`."""

    @abstractmethod
    def enforce_expiry(self) -> None:
        """Add the constraint to a table that has no keys without expiry."""

    @abstractmethod
    def restore(
        self,
        company: str,
        rows: list[KeyRow],
        creds: bytes | None,
        gone: list[tuple[str, str]],
        reason: str,
        data_key: bytes | None,
    ) -> None:
        """Write rows with the times they carry, write `creds` unless they are None, and delete the keys `gone`.

        All values are in their stored form, and `data_key` is the id of the key that sealed them.
        """

    @abstractmethod
    def empty_trash(self) -> int:
        """Delete everything that the trash has kept long enough, and return the number of rows."""

    @abstractmethod
    def purge(self, run: Run, company: str) -> dict[str, int]:
        """Erase a company in a transaction, and return the erased rows by table."""

    def drop_older(self, run: Run, params: Mapping[str, Any]) -> None:
        """Make room for a key that moves. If the key at its destination is older, put that key into the trash."""
        run(self.sql["drop_older"], {**params, "now": self.now_param()})

    def lease_lost(self, lease: Lease) -> LeaseLost:
        """Return the error of work under a lease that has passed to another holder."""
        return LeaseLost(f"{self.link.name}: the lease {lease.name!r} of {lease.holder} has passed to another holder")

    def counted_as(self, key_type: str) -> str:
        """Return the name under which a type is counted: its own, or `other`."""
        return key_type if key_type in self.named_types else OTHER_TYPES

    # Counting the table.

    def in_portions(self, names: Sequence[str], params: Mapping[str, Any]) -> list[list[Row]]:
        """Run statements that count the table, and return the rows of each.

        All run in one snapshot, at one time of the clock, and so count the data of one moment. Where the server limits
        the time of a statement, each runs once for each portion of the companies, and the rows of all portions are
        returned. A statement named `…_totals` runs only once. If a statement still takes too long, all begin again
        with smaller portions.
        """

        def count(run: Run, share: float) -> list[list[Row]]:
            all_params = {**params, "now": self.now_param() or run(self.sql["now"], {})[0][0]}
            portions = self.portions(run, share)
            return [
                [
                    row
                    for portion in (portions[:1] if name.endswith("_totals") else portions)
                    for row in run(self.sql[name], {**all_params, **portion})
                ]
                for name in names
            ]

        for share in SMALLER_PORTIONS:
            with suppress(StatementTimedOut):
                return self.link.work(partial(count, share=share), snapshot=True)
        return self.link.work(partial(count, share=SMALLEST_PORTIONS), snapshot=True)

    def portions(self, run: Run, share: float) -> list[Portion]:
        """Return portions of whole companies that together are the table, each with `share` of the usual size."""
        return [WHOLE_TABLE]
