"""The contract of the service around the bots: one interface for each purpose, and all of them as `Upkeep`.

The rules in `keystore.store` hold for these methods too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from keystore.backup.snapshot import Snapshot
from keystore.records import (
    Burst,
    Census,
    CompanyOrder,
    CompanyPage,
    Deletion,
    DueCompany,
    DueSessions,
    HistoryEntry,
    HourCount,
    KeyName,
    KeyRow,
    Lease,
    LifeCount,
    Note,
    Rotation,
    SealingState,
    SweepRun,
    TokenRecord,
    UnreadableValue,
)
from keystore.ttl import Policy

T = TypeVar("T")


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
        """Make a real, durable write that leaves nothing behind. It fails as a bot's write would fail now.

        It raises StoreUnavailable, with the database's reason, when for example the database is read-only or its disk
        is full. It raises SchemaMismatch when the role may not write a table. It can't notice that a table refuses the
        rows of a certain company.
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
        """Return a page of the companies whose id contains `search`, sorted by `order`.

        The page has up to `limit` (at most 1,000) companies, from the `offset`th on. For an order other than "id", the
        keys of every matching company are counted.
        """

    @abstractmethod
    def largest_company(self) -> str | None:
        """Return the company whose load the service times: of the ten with the most keys, the largest within limits.

        The limits are 20,000 keys and 16 MiB of values, because a load takes a multiple of its size in memory. Returns
        None if none of the ten is within them, and on a legacy database.
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
        """Return the number of keys by type and remaining life; [] on a legacy database."""

    @abstractmethod
    def low_on_pre_keys(self, below: int) -> dict[str, int]:
        """Return `{company_id: pre-keys left}` of the companies with creds and fewer than `below` pre-keys."""


class Notes(ABC):
    """Small documents and series over time, which the service saves for itself."""

    @abstractmethod
    def remember(self, name: str, document: str | None) -> None:
        """Save a small document as the note of this name, durably. It replaces a former note; None deletes it."""

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
        """Delete entries older than `before`. Of those older than `daily_before`, keep the first of each UTC day."""


class JobLeases(ABC):
    """The leases of the service's own jobs: one process at a time does a job."""

    @abstractmethod
    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Acquire the lease for `ttl_s` seconds. Returns None while another holder's lease is live.

        The holder of a lease may acquire it again. All holders of a lease use the same `ttl_s`. If a lease ends well
        after that time from now, it was made before the clock was set back, and is free.
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
        """Return every token, oldest first. Expired and revoked tokens are among them."""

    @abstractmethod
    def find_token(self, token_id: str) -> TokenRecord | None:
        """Return the token of this id, also when it is expired or revoked; None when there is none."""

    @abstractmethod
    def revoke_token(self, token_id: str) -> bool:
        """Revoke a token and return True; False when there is none. A second call doesn't change the time."""


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
        """Delete these companies' expired keys, and return the run with these deletions added.

        One transaction deletes the keys, records them and renews the lease by `ttl_s`. It skips guarded and locked
        keys, and keys that were renewed meanwhile. A `sender-key` and its group's `sender-key-memory` go together or
        stay. If the lease has passed to another holder, it raises LeaseLost and deletes nothing.
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
        """Set an expiry, counted from now, for up to `limit` keys that have none; return their number by type."""

    @abstractmethod
    def enforce_expiry(self) -> None:
        """Make the database reject keys without expiry. Raises InvalidInput while there are any."""

    @property
    @abstractmethod
    def expiry_enforced(self) -> bool:
        """True when the database rejects keys without expiry."""


class Rows(ABC):
    """Keys that move to another name, and keys with their times."""

    @abstractmethod
    def key_names(self, key_types: Iterable[str]) -> Iterator[KeyName]:
        """Yield the names of every company's keys of these types, spelled as in the table, sorted."""

    @abstractmethod
    def move_key(self, key: KeyName, key_type: str, key_id: str) -> bool:
        """Move a key with its value and times to another type and id, replacing an older key there.

        Returns False when the key is gone, when a newer one has that type and id, or when its bot has sealed it.
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
        reason: str = "import",
    ) -> None:
        """Write keys with the times they carry, and `creds` unless they are None. Stored keys are overwritten.

        The keys in `removed`, each `(key_type, key_id)`, are deleted. The write is atomic and durable. If it deletes
        or replaces anything, the trash gets the whole former state, with the `reason`. Raises LeaseLost while a lease
        of the company lives.
        """


class Trash(ABC):
    """The trash, which holds deleted and replaced states for a while, and the erasure of a company."""

    @property
    @abstractmethod
    def trash_s(self) -> float:
        """The seconds for which the trash keeps a deletion; 0 when it is off."""

    @abstractmethod
    def deletions(self, company_id: str | None = None) -> list[Deletion]:
        """Return the deletions in the trash of a company, or of all companies, newest first."""

    @abstractmethod
    def deleted_state(self, deletion: Deletion) -> tuple[bytes | None, list[KeyRow]]:
        """Return the creds and the keys of a deletion; (None, []) when it isn't in the trash any more."""

    @abstractmethod
    def empty_trash(self) -> int:
        """Delete everything that has been in the trash for `trash_s`; return the number of keys and creds."""

    @abstractmethod
    def purge(self, company_id: str) -> dict[str, int]:
        """Erase a company and its tokens; return the erased rows by table. Raises LeaseLost while it is leased."""


class Sealing(ABC):
    """Sealed values (docs/sealing.md), and values that can't be read."""

    @property
    @abstractmethod
    def sealing(self) -> SealingState:
        """The state of the store: plain values, sealed values, or sealed values that it can't open."""

    @abstractmethod
    def unreadable(self) -> list[UnreadableValue]:
        """Return the values that a read left out, and that still can't be read, sorted by company.

        At most 20 of a company are named. A value that was written again, or deleted, is no longer among them.
        """

    @abstractmethod
    def companies_sealed_by_bots(self) -> list[str]:
        """Return the companies whose bots seal their values themselves, sorted. The store can't read those values.

        Values that the store seals too aren't looked into. A role that only counts gets none.
        """

    @abstractmethod
    def companies_to_rotate(self) -> list[str]:
        """Return the companies whose values can be sealed, sorted: all but those whose bot has a login of its own.

        The methods below take a company as it is spelled here. A company that no command can name is among them.
        """

    @abstractmethod
    def unsealed_values(self, company_id: str) -> int:
        """Return the number of a company's plain values that could be sealed, with its creds and its trash."""

    @abstractmethod
    def needs_new_wrapping(self, company_id: str) -> bool:
        """Return True if a company's data key isn't sealed by the newest master key."""

    @abstractmethod
    def rotate_company(self, company_id: str) -> Rotation:
        """Seal a company's plain values, and its data key by the newest master key.

        Its bot may read and write meanwhile. A rotation that broke off can be repeated, and does the rest.
        Raises InvalidInput in a store that has no secret keys.
        """

    @abstractmethod
    def forget_master_keys(self) -> int:
        """Forget the master keys that seal nothing any more, and return their number. None of them is needed then."""


class Backups(ABC):
    """Reading the whole database for a backup."""

    @abstractmethod
    def snapshot(self, read: Callable[[Snapshot], T]) -> T:
        """Return the result of `read`, which gets every company as of one moment. Bots may write meanwhile.

        If the connection breaks, `read` is called again from the start, with a new snapshot.
        """


class Upkeep(StoreInfo, Counting, Notes, JobLeases, Tokens, Sweeping, Backfilling, Rows, Trash, Sealing, Backups, ABC):
    """The operations of the service around the bots.

    Those that read or write values need a converted database. The others also work on a legacy database, to which only
    our own tables are attached.
    """
