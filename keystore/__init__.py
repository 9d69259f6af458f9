"""The store for the Signal-protocol state of WhatsApp bots. Every other part of the program may call it.

Start with `open_store`. `store.py` is the contract; `postgres/` and `sqlite/` are the backends, and `sql/` has
what they share.
"""

from keystore.errors import (
    CorruptValue,
    InvalidInput,
    KeystoreError,
    LeaseHeld,
    LeaseLost,
    QuotaExceeded,
    SchemaMismatch,
    SecretKeyMissing,
    StoreClosed,
    StoreUnavailable,
    WentBack,
)
from keystore.opening import open_store
from keystore.records import AuthState, Quota
from keystore.store import KeyStore, Store

__all__ = [
    "AuthState",
    "CorruptValue",
    "InvalidInput",
    "KeyStore",
    "KeystoreError",
    "LeaseHeld",
    "LeaseLost",
    "Quota",
    "QuotaExceeded",
    "SchemaMismatch",
    "SecretKeyMissing",
    "Store",
    "StoreClosed",
    "StoreUnavailable",
    "WentBack",
    "open_store",
]
