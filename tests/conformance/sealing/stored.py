"""The stored rows of a store under test, read and changed past it, and secret keys."""

import base64
import random
from typing import Any

from keystore import Store
from keystore.sql.store import SqlStore
from keystore.values.codec import nonce_of


def secret_key(seed: int) -> str:
    """Return a secret key, as KEYSTORE_SECRET_KEYS has it: the same for the same seed."""
    return base64.b64encode(random.Random(seed).randbytes(32)).decode()


OLD_KEY, NEW_KEY = secret_key(1), secret_key(2)


def execute(store: Store, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement that both databases read in the same way, past the store; return its rows."""
    assert isinstance(store, SqlStore)
    return store.link.work(lambda run: run(statement, {}))


def forms(store: Store) -> dict[tuple[str, str, str], bytes]:
    """Return the stored form of every key and creds by company, type and id. Each has its nonce beside it."""
    keys = execute(store, "SELECT company_id, key_type, key_id, value, value_nonce FROM whatsapp_keys")
    creds = execute(store, "SELECT company_id, '', '', creds, creds_nonce FROM whatsapp_auth")
    for *name, value, nonce in keys + creds:
        assert nonce_of(value) == nonce, name
    return {(company, key_type, key_id): bytes(value) for company, key_type, key_id, value, _ in keys + creds}
