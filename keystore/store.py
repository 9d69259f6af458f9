"""The contract: what a key store promises, whatever database is behind it.

Two interfaces, read top to bottom. `KeyStore` is what a bot needs; `Upkeep` is what the watch needs. A backend is
a `Store`: both. The conformance suite (`tests/conformance/`) is written against this file alone.

For every method: ids are checked as `keystore.ids` says and `company_X` means `X`; times are timezone-aware UTC;
any method raises `InvalidInput` (bad argument), `StoreUnavailable` (database away: repeating is safe),
`SchemaMismatch` (tables not ours, or not converted yet) or `StoreClosed`. A read that fails raises; it never
looks like an absent key. The database's clock decides what time it is, unless the store was opened with its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from keystore.records import (
    AuthState,
    Burst,
    Census,
    CompanyLease,
    CompanyPage,
    DueCompany,
    HistoryEntry,
    HourCount,
    KeyName,
    KeyRow,
    Keys,
    Lease,
    LifeCount,
    Note,
    SweepRun,
    TokenRecord,
)
from keystore.ttl import Policy


class KeyStore(ABC):
    """What a bot needs. Every operation is idempotent, and one round trip to the database whatever its size.

    While a company's lease lives, a write to it must carry its `epoch`. A write raises LeaseLost, having written
    nothing, when it carries none then, and when it carries one that isn't the current one: passed on, run out or never
    given. Reads and `touch` need none, nor does the watch: a sweep, a backfill, an import.
    """

    @abstractmethod
    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        """The values of these keys; an id that isn't stored isn't in the answer.

        A read is a use: a key with less than half of its life left has its expiry renewed, in the same round trip.
        """

    @abstractmethod
    def set(self, company_id: str, keys: Keys, creds: bytes | None = None, *, epoch: int | None = None) -> None:
        """Writes `{key_type: {key_id: value}}`, a value of None deleting the key, and `creds` unless None.

        Atomic and durable once it returns: all of it is there or, after an error, maybe all of it (repeat it). Each
        key written starts a new life under the policy. Values are 1 byte to 16 MiB.
        """

    @abstractmethod
    def load(self, company_id: str) -> AuthState:
        """Creds and all keys, as of one moment. Not a use: renews nothing. Unknown company: no creds, no keys."""

    @abstractmethod
    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> None:
        """Marks `{key_type: [key_id]}` as used, as a `get` does; ids that aren't stored are passed over."""

    @abstractmethod
    def get_creds(self, company_id: str) -> bytes | None:
        """The credentials document, None when there is none."""

    @abstractmethod
    def set_creds(self, company_id: str, creds: bytes, *, epoch: int | None = None) -> None:
        """Writes the credentials document; it never expires. Durable once it returns."""

    @abstractmethod
    def clear(self, company_id: str, *, epoch: int | None = None) -> None:
        """Deletes the company's creds and all its keys, atomically; its lease stays."""

    @abstractmethod
    def lease_company(
        self, company_id: str, holder: str, ttl_s: float, *, epoch: int | None = None, force: bool = False
    ) -> CompanyLease:
        """The right to write this company's keys for `ttl_s` seconds (up to a day).

        Without `epoch` it is taken, with a new epoch, where it is free, run out or this holder's own already, or with
        `force`; else raises LeaseHeld. Writes under way are waited for: once it is taken, no write of an earlier epoch
        lands any more. (One without an epoch still may, that began before the company's very first lease.)
        With `epoch` it is renewed under that; raises LeaseLost when that isn't the current one or has run out.
        """

    @abstractmethod
    def release_company(self, company_id: str, holder: str, epoch: int) -> None:
        """Ends the lease at once; one that has passed on is left alone."""

    @abstractmethod
    def close(self) -> None:
        """Gives back every connection and thread. A call after it raises StoreClosed; a second close does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Upkeep(ABC):
    """What the watch needs: counts, the sweep's steps, leases, backfill, rows with their times.

    Works on a diary-shaped database with only our own tables attached, except where values are read or written.
    """

    @property
    @abstractmethod
    def database(self) -> str:
        """Which database this is: backend, host and name, never a secret. Every report says it."""

    @property
    @abstractmethod
    def converted(self) -> bool:
        """Whether a bot can use it; False where only the watch is attached and the values are still `jsonb`."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """How long keys live here."""

    @property
    @abstractmethod
    def guards(self) -> bool:
        """Whether keys that can't be had again are kept from the sweep."""

    @abstractmethod
    def now(self) -> datetime:
        """What time it is for this store."""

    @abstractmethod
    def census(self) -> Census:
        """Counts the whole table; one consistent moment."""

    @abstractmethod
    def companies(self) -> list[str]:
        """Every company with creds or keys, sorted."""

    @abstractmethod
    def company_page(self, search: str = "", limit: int = 50, offset: int = 0) -> CompanyPage:
        """Those of the companies whose id contains `search`, sorted by id, from the `offset`th on; up to 1,000."""

    @abstractmethod
    def largest_company(self) -> str | None:
        """The company with the most keys, None where there are no keys."""

    @abstractmethod
    def counts(self, since: datetime) -> list[HourCount]:
        """What happened to keys, by the hour, from the hour that holds `since` on; kept for 90 days.

        Saves first what this store has counted itself; what others count comes within a minute. Nothing is counted of
        what is written past a store: by the bot of an attached database, by an import, a `repair`, a `backfill`.
        """

    @abstractmethod
    def bursts(self, since: datetime) -> list[Burst]:
        """The bursts from the hour that holds `since` on, oldest first; kept for 90 days."""

    @abstractmethod
    def life_counts(self) -> list[LifeCount]:
        """The whole table by type and what its keys have left to live; [] where only the watch is attached."""

    @abstractmethod
    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        """`{company_id: pre-keys left}` of the companies with creds and fewer than `below` pre-keys."""

    @abstractmethod
    def remember(self, name: str, document: str | None) -> None:
        """Keeps a small document under a name, replacing what was there; None forgets. Durable once it returns."""

    @abstractmethod
    def recall(self, name: str) -> Note | None:
        """What is remembered under a name, None when nothing is."""

    @abstractmethod
    def notes(self, prefix: str) -> dict[str, Note]:
        """What is remembered under names that begin so, by name."""

    @abstractmethod
    def add_history(self, kind: str, at: datetime, document: str) -> None:
        """Adds an entry to a series, replacing one of the same time."""

    @abstractmethod
    def history(self, kind: str, since: datetime) -> list[HistoryEntry]:
        """A series from a time on, oldest first."""

    @abstractmethod
    def thin_history(self, kind: str, daily_before: datetime, before: datetime) -> None:
        """Deletes entries older than `before`; of those older than `daily_before`, each UTC day's first stays."""

    @abstractmethod
    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """The lease for `ttl_s` seconds, or None while another holder's lives; a holder may take its own anew."""

    @abstractmethod
    def release_lease(self, lease: Lease) -> None:
        """Ends the lease; one that has passed on is left alone."""

    @abstractmethod
    def add_token(self, token: TokenRecord) -> None:
        """Keeps a token. Raises InvalidInput when another has its id."""

    @abstractmethod
    def tokens(self) -> list[TokenRecord]:
        """Every token, expired and revoked ones too, oldest first."""

    @abstractmethod
    def find_token(self, token_id: str) -> TokenRecord | None:
        """The token of this id, whether or not it is still good; None when there is none."""

    @abstractmethod
    def revoke_token(self, token_id: str) -> bool:
        """Revokes a token; one that is revoked keeps its time. Returns whether there is such a token."""

    @abstractmethod
    def start_sweep(self, sweeper: str) -> SweepRun:
        """Records that a sweep starts."""

    @abstractmethod
    def due_companies(self) -> list[DueCompany]:
        """The companies that have keys past their expiry, sorted by id."""

    @abstractmethod
    def sweep_companies(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        """Deletes these companies' expired keys, guarded and locked ones apart, in one transaction that also renews
        the lease by `ttl_s` and records the deletions; returns the run with them added.

        A key renewed meanwhile survives. A `sender-key` and its group's `sender-key-memory` go together or stay.
        Raises LeaseLost, having deleted nothing, when the lease has passed to another holder.
        """

    @abstractmethod
    def finish_sweep(self, run: SweepRun, took_ms: float, error: str | None) -> SweepRun:
        """Records the sweep's end; forgets runs older than 90 days."""

    @abstractmethod
    def sweep_runs(self, limit: int) -> list[SweepRun]:
        """The latest sweeps, newest first."""

    @abstractmethod
    def backfill(self, limit: int) -> dict[str, int]:
        """Gives up to `limit` keys without expiry one, counted from now; how many by type, {} when none is left."""

    @abstractmethod
    def enforce_expiry(self) -> None:
        """Makes the database refuse a key without expiry. Raises InvalidInput while there are such keys."""

    @property
    @abstractmethod
    def expiry_enforced(self) -> bool:
        """Whether the database refuses a key without expiry."""

    @abstractmethod
    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        """Every company's keys of these types, as they stand in the table, sorted."""

    @abstractmethod
    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        """Moves a key to another type and id with its value and times, replacing what stands there if that is older.

        Returns whether it moved; False when something newer stands there or the key is gone.
        """

    @abstractmethod
    def export_rows(self, company_id: str) -> list[KeyRow]:
        """All of a company's keys with their times, sorted by type and id."""

    @abstractmethod
    def restore_rows(self, company_id: str, rows: Iterable[KeyRow], creds: bytes | None = None) -> None:
        """Writes keys with the times they carry, overwriting; and `creds` unless None. Atomic and durable."""


class Store(KeyStore, Upkeep, ABC):
    """A whole backend."""
