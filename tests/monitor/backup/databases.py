"""Databases to back up, and what is in one."""

from hashlib import sha256

from keystore import Store, open_store
from keystore.records import TokenRecord
from tests.conformance.sealing.stored import execute

TABLES = ("whatsapp_keys", "whatsapp_auth", "keystore_trash", "keystore_tokens", "keystore_data_keys")


def digest(url: str) -> str:
    """Return a checksum over every row of the tables that an import may change."""
    with open_store(url, without_values=True, create=False) as store:
        rows = [
            repr([bytes(cell) if isinstance(cell, bytes | memoryview) else cell for cell in row])
            for table in TABLES
            for row in execute(store, f"SELECT * FROM {table}")
        ]
    return sha256("\n".join(sorted(rows)).encode()).hexdigest()


def contents(store: Store) -> dict[str, object]:
    """Return the creds and the keys with their times of every company, and the tokens."""
    companies = {company: (store.get_creds(company), store.export_rows(company)) for company in store.companies()}
    return {**companies, "tokens": sorted(store.tokens(), key=lambda token: token.token_id)}


def token(token_id: str, company: str | None, store: Store) -> TokenRecord:
    """Return a token, made at the store's time, whose secret is its id."""
    return TokenRecord(token_id, sha256(token_id.encode()).digest(), company, store.now(), None, None)
