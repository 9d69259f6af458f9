"""Signal Keystore: where WhatsApp bots keep their Signal-protocol state. Start with `open_store`."""

from keystore.errors import (
    CorruptValue,
    InvalidInput,
    KeystoreError,
    LeaseHeld,
    LeaseLost,
    SchemaMismatch,
    StoreClosed,
    StoreUnavailable,
)
from keystore.opening import open_store
from keystore.records import AuthState
from keystore.store import KeyStore, Store

__all__ = [
    "AuthState",
    "CorruptValue",
    "InvalidInput",
    "KeyStore",
    "KeystoreError",
    "LeaseHeld",
    "LeaseLost",
    "SchemaMismatch",
    "Store",
    "StoreClosed",
    "StoreUnavailable",
    "open_store",
]
