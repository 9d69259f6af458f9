"""The contract that every key store keeps, whichever database holds the keys.

It has two interfaces: `KeyStore` for a bot, and `Upkeep` for the service around the bots. `Upkeep` consists of one
interface for each purpose. A backend is a `Store`, which has both. The conformance suite (`tests/conformance/`) tests
every backend against this file alone.

These rules hold for every method:

* `keystore.ids` checks the ids. The company id `company_X` means `X`.
* Times are timezone-aware UTC. The database's clock decides the time, unless the store was opened with another clock.
* A read that fails raises an error; it never looks like an absent key.
* Any method may raise `InvalidInput` (a wrong argument), `StoreUnavailable` (the database didn't answer; repeating is
  safe), `SchemaMismatch` (the tables aren't ours, or aren't converted yet) or `StoreClosed`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Self

from keystore.errors import KeystoreError
from keystore.records import AuthState, CompanyLease, Keys, Write
from keystore.upkeep import Upkeep


class KeyStore(ABC):
    """The operations of a bot. Each is idempotent, and takes one round trip for any number of keys.

    While a company's lease is live, every write to that company must carry the lease's `epoch`. At any other time a
    write must carry none. A write with the wrong epoch raises LeaseLost and changes nothing. Reads and `touch` need no
    epoch, and neither do a sweep and a backfill. An import is a write without an epoch.

    A holder may number its writes: `seq` is 1 for the first write under an epoch, and rises by one with each write. A
    write with the latest number again succeeds and changes nothing: it was written before. A write with a lower number
    succeeds and changes nothing either: its sender gave it up, and it arrives late. A number may be skipped, because
    a write may be refused (QuotaExceeded, InvalidInput). `load` and the lease return the latest number that the
    database has.

    A numbered write may carry `acknowledged`, the number of the holder's last acknowledged write (0 before the first).
    If the database lacks that write, it went back to an older state: WentBack is raised, and nothing changes.
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
        acknowledged: int | None = None,
    ) -> None:
        """Write `{key_type: {key_id: value}}`, where None deletes the key, and `creds` unless they are None.

        The write is atomic, and durable once this returns. After an error, either all of it was written or nothing;
        repeat the call. Each written key starts a new life under the policy. A value has 1 byte to 16 MiB.
        """

    @abstractmethod
    def set_all(self, writes: Iterable[Write]) -> list[KeystoreError | None]:
        """Write for several companies, in one round trip, and return the error of each in order; None: it was written.

        Each write is atomic by itself, and durable once this returns, as with `set`. An error of the whole call is
        raised; then each write was written or not, so repeat the call. A company has one write in a call.
        """

    @abstractmethod
    def load(self, company_id: str) -> AuthState:
        """Return the creds and all keys as of one moment, and renew no expiry. An unknown company has neither."""

    @abstractmethod
    def touch(self, company_id: str, keys: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """Mark the keys `{key_type: [key_id]}` as used, as a `get` does, and return those that aren't stored."""

    @abstractmethod
    def get_creds(self, company_id: str) -> bytes | None:
        """Return the credentials document, or None when there is none."""

    @abstractmethod
    def set_creds(self, company_id: str, creds: bytes, *, epoch: int | None = None, seq: int | None = None) -> None:
        """Write the credentials document, which never expires. It is durable once this returns.

        If the noise key, registration id or account is another, the former creds and a copy of all keys go to the
        trash. Otherwise the trash gets the last creds of each day.
        """

    @abstractmethod
    def clear(
        self,
        company_id: str,
        *,
        keys_only: bool = False,
        epoch: int | None = None,
        seq: int | None = None,
        acknowledged: int | None = None,
    ) -> None:
        """Put the company's creds and all its keys into the trash, atomically; with `keys_only` the creds stay.

        Its lease stays in either case.
        """

    @abstractmethod
    def lease_company(
        self, company_id: str, holder: str, ttl_s: float, *, epoch: int | None = None, force: bool = False
    ) -> CompanyLease:
        """Acquire or renew the right to write this company's keys for `ttl_s` seconds (up to a day).

        Without `epoch` the lease is acquired under a new epoch. That raises LeaseHeld while another holder's lease is
        live, unless `force` is set. It waits for writes in progress, so that no write of an earlier epoch takes effect
        afterwards. (The exception is a write without an epoch that began before the company's very first lease.)

        With `epoch` the lease is renewed, also after it has run out. That raises LeaseLost when the lease was released
        or has passed on, or when somebody wrote without a lease since it ran out. The lease's `seq` is the number of
        the last write under it, so a holder that had no answer knows which of its writes landed.
        """

    @abstractmethod
    def release_company(self, company_id: str, holder: str, epoch: int) -> bool:
        """End the lease now. Does nothing and returns False when it has ended, or passed to another holder or epoch."""

    @abstractmethod
    def last_write(self, company_id: str) -> tuple[int, int]:
        """Return `(epoch, seq)` of the company's latest lease, as `load` does; both 0 before the first."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection and end every thread. Later calls raise StoreClosed; a second close does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Store(KeyStore, Upkeep, ABC):
    """A complete backend."""
