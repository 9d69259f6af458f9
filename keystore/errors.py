"""The errors a caller can act on, as one tree.

KeystoreError
├── InvalidInput      the call itself is wrong: never retry
├── StoreUnavailable  the database did not answer: safe to repeat, every operation is idempotent
├── CorruptValue      a stored value can't be read back: never retry, look at the named key
├── SchemaMismatch    the tables aren't the ones this version works with: migrate
├── LeaseLost         somebody else holds the lease now: stop what it protected
└── StoreClosed       the store was closed before the call

Driver errors are translated into these where a backend talks to its driver, with the driver's error as
`__cause__`. No message ever carries a key's value, a token or a password.
"""


class KeystoreError(Exception):
    """Something went wrong in the key store."""


class InvalidInput(KeystoreError, ValueError):
    """The call's arguments are not what the contract allows; repeating it can't help."""


class StoreUnavailable(KeystoreError):
    """The database can't be reached or did not answer in time; repeating the call is safe."""


class CorruptValue(KeystoreError):
    """A stored value isn't in a form that this version can read."""


class SchemaMismatch(KeystoreError):
    """The database's tables aren't the ones this version works with."""


class LeaseLost(KeystoreError):
    """The lease that protects this work has passed to another holder."""


class StoreClosed(KeystoreError):
    """The store was closed; open a new one."""
