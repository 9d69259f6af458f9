"""The records that a key store accepts and returns: frozen values, with units in their names and times in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypeAlias

Keys: TypeAlias = Mapping[str, Mapping[str, bytes | None]]
"""`{key_type: {key_id: value}}`; in a write, None deletes the key."""


@dataclass(frozen=True)
class AuthState:
    """Everything a bot needs to reconnect: `creds` (None before pairing) and `{key_type: {key_id: value}}`.

    `epoch` is that of the company's latest lease, and `seq` the number of the last numbered write under it. Both are 0
    before the first. A holder whose acknowledged write has a higher pair knows that the database has gone back: to a
    backup, or to a replica that was behind.
    """

    creds: bytes | None = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)
    epoch: int = 0
    seq: int = 0

    def __repr__(self) -> str:
        """Say how much is there, without a value: `AuthState(creds=2,048 bytes, keys=721 of 9 types)`."""
        creds = "None" if self.creds is None else f"{len(self.creds):,} bytes"
        return f"AuthState(creds={creds}, keys={self.total:,} of {len(self.keys)} types)"

    @property
    def total(self) -> int:
        """The number of keys."""
        return sum(len(by_id) for by_id in self.keys.values())


@dataclass(frozen=True)
class Write:
    """A write for `set_all`, with the parameters of `set`."""

    company_id: str
    keys: Keys = field(repr=False)
    creds: bytes | None = field(default=None, repr=False)
    epoch: int | None = None
    seq: int | None = None
    acknowledged: int | None = None


@dataclass(frozen=True)
class Quota:
    """The most keys that one company may have, and the most bytes that their values may take.

    The defaults are far above real use: a busy account with 10,000 contacts has some 15,000 keys in 25 MB.
    """

    keys: int = 100_000
    value_bytes: int = 256 * 2**20


DEFAULT_QUOTA = Quota()


@dataclass(frozen=True)
class KeyRow:
    """A key with its times, for `export_rows` and `restore_rows`.

    `expires_at` is None when the key has no expiry yet, and when it `never_expires`.
    """

    key_type: str
    key_id: str
    value: bytes = field(repr=False)
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    never_expires: bool = False


@dataclass(frozen=True)
class CompanySnapshot:
    """A company's creds and keys as they go into an archive: in clear, or sealed.

    `value_bytes` is the length of all values in clear. `data_key` opens sealed values, and is itself sealed by a master
    key; None if the values are in clear. `unreadable` are the values that are left out, because they can't be read.
    """

    company_id: str
    creds: bytes | None = field(repr=False)
    rows: list[KeyRow]
    value_bytes: int
    data_key: bytes | None = field(repr=False)
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KeyName:
    """A key's company, type and id as the table spells them, and the time of its last write."""

    company_id: str
    key_type: str
    key_id: str
    updated_at: datetime


@dataclass(frozen=True)
class Lease:
    """The right to do one kind of work until `expires_at`. `epoch` rises with each holder, to detect a stale one."""

    name: str
    holder: str
    epoch: int
    expires_at: datetime


@dataclass(frozen=True)
class CompanyLease:
    """The right to write a company's keys until `expires_at`. `epoch` rises each time the lease is acquired.

    `seq` is the number of the last write under this epoch that the database has; 0 before the first.
    """

    company_id: str
    holder: str
    epoch: int
    expires_at: datetime
    seq: int = 0


@dataclass(frozen=True)
class TypeCount:
    """The count of one type's keys. The next sweep deletes the `expired`; `guarded` ones are past their expiry too."""

    key_type: str
    total: int
    with_expiry: int
    without_expiry: int
    expired: int
    guarded: int
    created_24h: int
    created_7d: int


@dataclass(frozen=True)
class Census:
    """A count of the whole table as of one moment.

    `total = active + expired + guarded`. `active` keys aren't past their expiry, or have none. The next sweep deletes
    the `expired`. `guarded` keys are past their expiry, but a guard keeps them. `pre_keys_rewritten_7d` counts unused
    pre-keys that were overwritten with another value: each may cost a stranger's first message.
    """

    taken_at: datetime
    total: int
    active: int
    expired: int
    guarded: int
    without_expiry: int
    companies: int
    last_activity_at: datetime | None
    oldest_created_at: datetime | None
    created_24h: int
    created_7d: int
    pre_keys_rewritten_7d: int
    size_bytes: int
    by_type: tuple[TypeCount, ...]


@dataclass(frozen=True)
class CompanySummary:
    """A company's number of keys, its last activity, and its live lease or None."""

    company_id: str
    keys: int
    last_activity_at: datetime | None
    lease: CompanyLease | None


CompanyOrder = Literal["id", "keys", "latest", "oldest"]
"""The order of a list of companies: by id, most keys first, latest activity first, or oldest activity first.

Companies that are equal in it follow each other by id.
"""


@dataclass(frozen=True)
class CompanyPage:
    """A page of the companies that match a search, and the `total` of all that match."""

    total: int
    companies: tuple[CompanySummary, ...]


Event = Literal["created", "renewed", "deleted", "cleared", "swept", "burst"]
"""The events that are counted for each key.

* `created`: a write of a key that was absent.
* `renewed`: a write of a key that was present, or a read that renewed its expiry.
* `deleted`, `cleared`, `swept`: a deletion by a bot's `set`, by `clear`, by a sweep.
* `burst`: the part of the `created` keys that one set created by the hundred.
"""


@dataclass(frozen=True)
class HourCount:
    """The number of keys of a type, in all companies, that had an event in the hour that begins at `hour`."""

    hour: datetime
    key_type: str
    event: Event
    keys: int


@dataclass(frozen=True)
class Burst:
    """The keys of one type created by a company's large sets (100 keys or more) in the hour that begins at `at`."""

    company_id: str
    at: datetime
    key_type: str
    keys: int


@dataclass(frozen=True)
class LifeCount:
    """An entry of a life table: keys of a type that expire on the same day unless they are used again.

    They are gone at the first moment of `gone_on` (UTC), or never when it is None. `lasting` marks the pre-keys of a
    company's newest 1,000, and keys of other types that were used again on a day after their creation.
    """

    key_type: str
    lasting: bool
    gone_on: date | None
    keys: int


@dataclass(frozen=True)
class DueCompany:
    """A company and the number of its keys past their expiry, guarded ones included."""

    company_id: str
    keys: int


@dataclass(frozen=True)
class DueSessions:
    """A company that has due sessions: the number of these, which no guard keeps, and of all its sessions."""

    company_id: str
    due: int
    total: int


@dataclass(frozen=True)
class TokenRecord:
    """An API token as it is stored: with the SHA-256 of its secret, never the secret.

    Without `company_id` it is an admin's token, valid for every company. A token of several companies has the first of
    them there, and the others in `further_companies`. Without `expires_at` it doesn't expire.
    """

    token_id: str
    secret_hash: bytes = field(repr=False)
    company_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    further_companies: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """True for an admin's token."""
        return self.company_id is None

    @property
    def companies(self) -> tuple[str, ...]:
        """The companies that it is for; none for an admin's, which is for all of them."""
        return () if self.company_id is None else (self.company_id, *self.further_companies)

    def reaches(self, company_id: str) -> bool:
        """Return True if it is for this company (a canonical id)."""
        return self.company_id in (None, company_id) or company_id in self.further_companies


@dataclass(frozen=True)
class SweepRun:
    """The record of a sweep. `finished_at` is None while it runs, and for good when its process died."""

    run_id: int
    sweeper: str
    started_at: datetime
    finished_at: datetime | None
    took_ms: float
    deleted: int
    by_type: dict[str, int]
    error: str | None


CREDS_OF_A_DAY = "creds of a day"
"""The reason of a deletion that holds a day's version of the creds."""

REPAIR = "repair"
"""The reason of a deletion that holds a single key, not a whole state."""


@dataclass(frozen=True)
class Deletion:
    """The part of a company's trash that one operation put there: keys, creds, or both.

    The `reason` is the operation: `clear`, `import`, `restore`, `rolled back`, `other identity` (creds of another one
    were written, and the keys are a copy), CREDS_OF_A_DAY or REPAIR.
    """

    company_id: str
    trashed_at: datetime
    reason: str
    keys: int
    creds: bool
    value_bytes: int


@dataclass(frozen=True)
class UnreadableValue:
    """A stored value that can't be read, named but never shown, and the time when that was noticed.

    The creds have an empty type and id.
    """

    company_id: str
    key_type: str
    key_id: str
    reason: str
    noticed_at: datetime


SealingState = Literal["off", "on", "locked"]
"""The state of a store: it writes plain values, or sealed ones, or can't open the sealed ones for lack of a key."""


@dataclass(frozen=True)
class Rotation:
    """A rotation of one company: the number of values that were sealed, and whether its data key got another seal."""

    company_id: str
    sealed: int
    rewrapped: bool


@dataclass(frozen=True)
class Note:
    """A small document that the service saved under a name, and the time of that."""

    document: str = field(repr=False)
    updated_at: datetime


@dataclass(frozen=True)
class HistoryEntry:
    """An entry of a series over time."""

    at: datetime
    document: str = field(repr=False)
