"""The records that a key store takes and gives: frozen values with units in their names, times in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypeAlias

Keys: TypeAlias = Mapping[str, Mapping[str, bytes | None]]
"""`{key_type: {key_id: value}}`; None in a write deletes."""


@dataclass(frozen=True)
class AuthState:
    """Everything a bot needs to reconnect: `creds` (None before pairing) and `{key_type: {key_id: value}}`."""

    creds: bytes | None = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)

    @property
    def total(self) -> int:
        """How many keys there are."""
        return sum(len(by_id) for by_id in self.keys.values())


@dataclass(frozen=True)
class KeyRow:
    """One key with its times, as `export_rows` gives and `restore_rows` takes it; `expires_at` None: no expiry set.

    A key that never expires has `never_expires`, and then no `expires_at`.
    """

    key_type: str
    key_id: str
    value: bytes = field(repr=False)
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    never_expires: bool = False


@dataclass(frozen=True)
class KeyName:
    """Where a key stands: its company, type and id as they are in the table, and when it was last written."""

    company_id: str
    key_type: str
    key_id: str
    updated_at: datetime


@dataclass(frozen=True)
class TypeCount:
    """Keys of one type, counted. `expired` go with the next sweep, `guarded` are past their expiry and kept."""

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
    """A count of the whole table at one moment.

    `total = active + expired + guarded`: `active` are not past their expiry (those without one included), `expired`
    go with the next sweep, `guarded` are past their expiry but kept by a guard. `pre_keys_rewritten_7d` counts unused
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
class Lease:
    """The right to do one kind of work until `expires_at`; `epoch` rises with each holder, to find out a stale one."""

    name: str
    holder: str
    epoch: int
    expires_at: datetime


@dataclass(frozen=True)
class CompanyLease:
    """The right to write a company's keys until `expires_at`; `epoch` rises with each time that it is taken."""

    company_id: str
    holder: str
    epoch: int
    expires_at: datetime


@dataclass(frozen=True)
class CompanySeen:
    """A company as an operator looks at it; `lease` None where none lives."""

    company_id: str
    keys: int
    last_activity_at: datetime | None
    lease: CompanyLease | None


@dataclass(frozen=True)
class CompanyPage:
    """Some of the companies that a search found, and how many it found in `total`."""

    total: int
    companies: tuple[CompanySeen, ...]


@dataclass(frozen=True)
class TokenRecord:
    """What is kept of an API token: never the secret, only the SHA-256 of it.

    `company_id` None: an admin's, for every company. `expires_at` None: it doesn't expire.
    """

    token_id: str
    secret_hash: bytes = field(repr=False)
    company_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class SweepRun:
    """One sweep: when, how long, what it deleted, what went wrong. `finished_at` None: at work, or it died."""

    run_id: int
    sweeper: str
    started_at: datetime
    finished_at: datetime | None
    took_ms: float
    deleted: int
    by_type: dict[str, int]
    error: str | None


@dataclass(frozen=True)
class DueCompany:
    """A company and how many of its keys are past their expiry, guarded ones included."""

    company_id: str
    keys: int


Event = Literal["created", "renewed", "deleted", "cleared", "swept", "burst"]
"""What is counted: a key that wasn't there was written; one that was there was written again, or its expiry renewed by
a read; a bot deleted one; its whole company was cleared; a sweep did. `burst` are those of the created that one set
brought by the hundred."""


@dataclass(frozen=True)
class HourCount:
    """To how many keys of a type something happened in the hour that begins at `hour`; all companies together."""

    hour: datetime
    key_type: str
    event: Event
    keys: int


@dataclass(frozen=True)
class Burst:
    """Keys of one type that a company's sets created by the hundred, in the hour that begins at `at`."""

    company_id: str
    at: datetime
    key_type: str
    keys: int


@dataclass(frozen=True)
class LifeCount:
    """Keys of a type that live equally long unless somebody uses them: an entry of a life table.

    They are gone at the first moment of `gone_on` (UTC), None for those without an end. `lasting`: of pre-keys, those
    of their company's newest generation; of other types, those that were used again on a later day than they came.
    """

    key_type: str
    lasting: bool
    gone_on: date | None
    keys: int


@dataclass(frozen=True)
class Note:
    """Something the watch remembers under a name, and since when."""

    document: str = field(repr=False)
    updated_at: datetime


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of a series over time."""

    at: datetime
    document: str = field(repr=False)
