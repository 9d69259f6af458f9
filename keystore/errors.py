"""The errors a caller can act on, as one tree.

KeystoreError
├── InvalidInput      the call itself is wrong: never retry
├── QuotaExceeded     the company has as many keys, bytes or types as it may: delete some, or raise the quota
├── StoreUnavailable  the database did not answer: safe to repeat, every operation is idempotent
├── CorruptValue      a stored value can't be read back: never retry, look at the named key
├── SecretKeyMissing  values are sealed with a secret key that this program hasn't: set KEYSTORE_SECRET_KEYS
├── SchemaMismatch    the tables aren't the ones this version works with: migrate
├── LeaseLost         the lease isn't this caller's, or no longer is: stop what it protected
├── LeaseHeld         another holder has the lease: wait until it ends, or force it
├── WentBack          the database lacks an acknowledged write: write the whole state again
└── StoreClosed       the store was closed before the call

Each backend's link translates its driver's errors into these, with the driver's error as `__cause__`. No message ever
contains a key's value, a token or a password.
"""

from datetime import datetime


class KeystoreError(Exception):
    """Something went wrong in the key store."""


class InvalidInput(KeystoreError, ValueError):
    """The contract doesn't allow the call's arguments; repeating it can't help."""


class QuotaExceeded(KeystoreError):
    """The write would take the company over its quota of keys, bytes or key types; nothing was written."""


class StoreUnavailable(KeystoreError):
    """The database can't be reached, or didn't answer in time; repeating the call is safe."""


class CorruptValue(KeystoreError):
    """A stored value isn't in a form that this version can read."""


class SecretKeyMissing(KeystoreError):
    """Values are sealed with a secret key that this program doesn't have."""


class SchemaMismatch(KeystoreError):
    """The database's tables aren't the ones this version works with."""


class LeaseLost(KeystoreError):
    """The lease that protects this work has ended or passed to another holder; nothing was written."""


class WentBack(KeystoreError):
    """The database lacks a write that it had acknowledged to this holder; nothing was written.

    A backup was put back, or a replica that was behind took over. The holder's state is the newer one.
    """


class LeaseHeld(KeystoreError):
    """Another holder's lease is live: `holder` has it until `expires_at`."""

    def __init__(self, message: str, holder: str, expires_at: datetime) -> None:
        super().__init__(message)
        self.holder = holder
        self.expires_at = expires_at


class StoreClosed(KeystoreError):
    """The store was closed; open a new one."""
