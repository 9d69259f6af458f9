"""The contract that every key store keeps, whichever database holds the keys.

It has two interfaces: `KeyStore` for a bot, and `Upkeep` for the service around the bots, which consists of one
interface for each purpose. A backend is a `Store`, which has both. The conformance suite (`tests/conformance/`) tests
every backend against this file alone.

These rules hold for every method:

* Ids are checked by `keystore.ids`, and `company_X` means `X`.
* Times are timezone-aware UTC. The database's clock decides the time, unless the store was opened with another clock.
* A read that fails raises an error; it never looks like an absent key.
* Any method may raise `InvalidInput` (a wrong argument), `StoreUnavailable` (the database didn't answer; repeating is
  safe), `SchemaMismatch` (the tables aren't ours, or aren't converted yet) or `StoreClosed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Self

from keystore.records import (
    AuthState,
    Burst,
    Census,
    CompanyLease,
    CompanyOrder,
    CompanyPage,
    DueCompany,
    DueSessions,
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
    """The operations of a bot. Each is idempotent, and one round trip to the database however many keys it takes.

    While a company's lease is live, every write to that company must carry the lease's `epoch`; at any other time it
    must carry none. A write with the wrong epoch raises LeaseLost and changes nothing. Reads and `touch` need no
    epoch, and neither do a sweep and a backfill. An import is a write that carries none.

    A holder may number its writes: `seq` is 1 for the first under an epoch, and rises by one with each. A repeated
    number is answered as done, and was written once. A lower number is answered as done too, and changes nothing: that
    write was given up on and arrives late. A number may be skipped, because a write may be refused (QuotaExceeded,
    InvalidInput). `load` and the lease return the last number that the database has.
    """

    @abstractmethod
    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Return `{key_id: value}` of those keys that are stored.

        A read counts as a use: a key with less than half of its life left gets a new expiry, in the same round trip.
        """

    @abstractmethod
    def set(
        self,
        company_id: str,
        keys: Keys,
        creds: bytes | None = None,
        *,
        epoch: int | None = None,
        seq: int | None = None,
    ) -> None:
        """Write `{key_type: {key_id: value}}`, where None deletes the key, and `creds` unless they are None.

        The write is atomic, and durable once this returns. After an error either all of it was written or nothing was,
        so repeat it. Each key written starts a new life under the policy. A value has 1 byte to 16 MiB.
        """

    @abstractmethod
    def load(self, company_id: str) -> AuthState:
        """Return the creds and all keys as of one moment, and renew no expiry. An unknown company has neither."""

    @abstractmethod
    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> None:
        """Mark the keys `{key_type: [key_id]}` as used, as a `get` does. Ids that aren't stored are skipped."""

    @abstractmethod
    def get_creds(self, company_id: str) -> bytes | None:
        """Return the credentials document, or None when there is none."""

    @abstractmethod
    def set_creds(self, company_id: str, creds: bytes, *, epoch: int | None = None, seq: int | None = None) -> None:
        """Write the credentials document, which never expires. It is durable once this returns."""

    @abstractmethod
    def clear(self, company_id: str, *, epoch: int | None = None, seq: int | None = None) -> None:
        """Delete the company's creds and all its keys, atomically. Its lease stays."""

    @abstractmethod
    def lease_company(
        self, company_id: str, holder: str, ttl_s: float, *, epoch: int | None = None, force: bool = False
    ) -> CompanyLease:
        """Acquire or renew the right to write this company's keys for `ttl_s` seconds (up to a day).

        Without `epoch` the lease is acquired under a new epoch. That raises LeaseHeld while another holder's lease is
        live, unless `force` is set. It waits for writes in progress, so that no write of an earlier epoch takes effect
        afterwards. (One exception: a write without an epoch that began before the company's very first lease.)

        With `epoch` the lease is renewed. That raises LeaseLost when the epoch isn't the current one or has run out.
        """

    @abstractmethod
    def release_company(self, company_id: str, holder: str, epoch: int) -> bool:
        """End the lease now. Does nothing and returns False when it has ended, or passed to another holder or epoch."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection and end every thread. Later calls raise StoreClosed; a second close does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class StoreInfo(ABC):
    """Facts about a store, its clock, and a trial of its database."""

    @property
    @abstractmethod
    def database(self) -> str:
        """The backend, host and name of the database, for reports; never a secret."""

    @property
    @abstractmethod
    def converted(self) -> bool:
        """True when a bot can use the store; False on a legacy database, where the values are still `jsonb`."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The lifetimes of keys in this store."""

    @property
    @abstractmethod
    def guards(self) -> bool:
        """True when sweeps keep the keys that can't be replaced."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the store's time."""

    @abstractmethod
    def probe_write(self) -> None:
        """Make a real, durable write that leaves nothing behind. Raises what a bot's write would raise now.

        For example StoreUnavailable, with the database's reason, when it is read-only or its disk is full, and
        SchemaMismatch when the role may not write a table. No guarantee for a table that refuses a company's rows.
        """

    @property
    @abstractmethod
    def durable(self) -> bool:
        """True when the database waits for its disk before it acknowledges a write."""


class Counting(ABC):
    """Counts of the whole table, and of the events of keys."""

    @abstractmethod
    def census(self) -> Census:
        """Count the whole table as of one moment."""

    @abstractmethod
    def companies(self) -> list[str]:
        """Return every company with creds or keys, sorted."""

    @abstractmethod
    def company_page(
        self, search: str = "", limit: int = 50, offset: int = 0, order: CompanyOrder = "id"
    ) -> CompanyPage:
        """Return up to `limit` (at most 1,000) companies from the `offset`th on whose id contains `search`, sorted.

        An order other than "id" counts every company that matches.
        """

    @abstractmethod
    def largest_company(self) -> str | None:
        """Return the company to time a load of: of the ten with the most keys, the largest that may be loaded whole.

        A larger one isn't loaded, because the service would need a multiple of its size in memory: its limits are
        20,000 keys and 16 MiB of values. Returns None without such a company, and on a legacy database.
        """

    @abstractmethod
    def counts(self, since: datetime) -> list[HourCount]:
        """Return the hourly counts of key events, from the hour that contains `since` on. They are kept for 90 days.

        This store saves its own counts first; those of other processes arrive within a minute. Writes that bypass
        `KeyStore` aren't counted: those of a bot on a legacy database, of an import, of `repair` and of `backfill`.
        """

    @abstractmethod
    def bursts(self, since: datetime) -> list[Burst]:
        """Return the bursts from the hour that contains `since` on, oldest first. They are kept for 90 days."""

    @abstractmethod
    def life_counts(self) -> list[LifeCount]:
        """Return the whole table by key type and remaining life; [] on a legacy database."""

    @abstractmethod
    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        """Return `{company_id: pre-keys left}` of the companies with creds and fewer than `below` pre-keys."""


class Notes(ABC):
    """Small documents and series over time, which the service saves for itself."""

    @abstractmethod
    def remember(self, name: str, document: str | None) -> None:
        """Save a small document as the note of this name, replacing the last one; None deletes the note. Durable."""

    @abstractmethod
    def recall(self, name: str) -> Note | None:
        """Return the note of this name, or None."""

    @abstractmethod
    def notes(self, prefix: str) -> dict[str, Note]:
        """Return the notes whose names begin with `prefix`, by name."""

    @abstractmethod
    def add_history(self, kind: str, at: datetime, document: str) -> None:
        """Add an entry to the series `kind`, replacing one of the same time."""

    @abstractmethod
    def history(self, kind: str, since: datetime) -> list[HistoryEntry]:
        """Return the entries of a series from `since` on, oldest first."""

    @abstractmethod
    def thin_history(self, kind: str, daily_before: datetime, before: datetime) -> None:
        """Delete entries older than `before`, and all but the first of each UTC day older than `daily_before`."""


class JobLeases(ABC):
    """The leases of the service's own jobs: one process at a time does a job."""

    @abstractmethod
    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Acquire the lease for `ttl_s` seconds, also when it is the holder's own; None while another's is live.

        All holders of a lease use the same `ttl_s`. One that ends minutes later than that from now was made before the
        clock was set back, and is free.
        """

    @abstractmethod
    def release_lease(self, lease: Lease) -> None:
        """End the lease now. Does nothing when it has passed to another holder."""


class Tokens(ABC):
    """The API tokens."""

    @abstractmethod
    def add_token(self, token: TokenRecord) -> None:
        """Save a token. Raises InvalidInput when another token has its id."""

    @abstractmethod
    def tokens(self) -> list[TokenRecord]:
        """Return every token, oldest first, with those that have expired or are revoked."""

    @abstractmethod
    def find_token(self, token_id: str) -> TokenRecord | None:
        """Return the token of this id, expired and revoked ones too; None when there is none."""

    @abstractmethod
    def revoke_token(self, token_id: str) -> bool:
        """Revoke a token and return True; False when there is none. A revoked token keeps the time it has."""


class Sweeping(ABC):
    """Sweeps, and their records."""

    @abstractmethod
    def start_sweep(self, sweeper: str) -> SweepRun:
        """Record the start of a sweep."""

    @abstractmethod
    def due_companies(self) -> list[DueCompany]:
        """Return the companies that have keys past their expiry, sorted by id."""

    @abstractmethod
    def due_sessions(self) -> list[DueSessions]:
        """Return the companies that have due sessions, sorted by id. (A sweep deletes each due session.)"""

    @abstractmethod
    def sweep_companies(self, lease: Lease, run: SweepRun, company_ids: list[str], ttl_s: float) -> SweepRun:
        """Delete these companies' expired keys and return the run with the deletions added.

        One transaction deletes the keys, records them and renews the lease by `ttl_s`. It skips guarded and locked
        keys, and keys that were renewed meanwhile. A `sender-key` and its group's `sender-key-memory` go together or
        stay. Raises LeaseLost, having deleted nothing, when the lease has passed to another holder.
        """

    @abstractmethod
    def finish_sweep(self, run: SweepRun, took_ms: float, error: str | None) -> SweepRun:
        """Record the end of a sweep, and delete the records of runs older than 90 days."""

    @abstractmethod
    def sweep_runs(self, limit: int) -> list[SweepRun]:
        """Return the latest sweeps, newest first."""


class Backfilling(ABC):
    """Expiries for keys that have none."""

    @abstractmethod
    def backfill(self, limit: int) -> dict[str, int]:
        """Give up to `limit` keys without expiry one, counted from now; return the number of each type, {} for none."""

    @abstractmethod
    def enforce_expiry(self) -> None:
        """Make the database reject keys without expiry. Raises InvalidInput while there are any."""

    @property
    @abstractmethod
    def expiry_enforced(self) -> bool:
        """True when the database rejects keys without expiry."""


class Rows(ABC):
    """Keys that move, and keys with their times."""

    @abstractmethod
    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        """Yield every company's keys of these types, spelled as in the table, sorted."""

    @abstractmethod
    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        """Move a key with its value and times to another type and id, replacing an older key there.

        Returns False when the key is gone, or when a newer one has that type and id.
        """

    @abstractmethod
    def export_rows(self, company_id: str) -> list[KeyRow]:
        """Return all keys of a company with their times, sorted by type and id."""

    @abstractmethod
    def restore_rows(
        self,
        company_id: str,
        rows: Iterable[KeyRow],
        creds: bytes | None = None,
        removed: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Write keys with the times they carry, overwriting, and `creds` unless they are None. Atomic and durable.

        The keys `removed`, `(key_type, key_id)`, are deleted. Raises LeaseLost while a lease of the company lives.
        """


class Upkeep(StoreInfo, Counting, Notes, JobLeases, Tokens, Sweeping, Backfilling, Rows, ABC):
    """The operations of the service around the bots.

    All but those that read or write values also work on a legacy database to which only our own tables are attached.
    """


class Store(KeyStore, Upkeep, ABC):
    """A complete backend."""
