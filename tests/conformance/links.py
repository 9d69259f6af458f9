"""The connections of a store under test, for tests of one backend."""

from keystore import Store
from keystore.postgres.link import PostgresLink
from keystore.sql.store import SqlStore
from keystore.sqlite.link import SqliteLink


def postgres_link(store: Store) -> PostgresLink:
    """Return a store's connections to Postgres."""
    assert isinstance(store, SqlStore)
    assert isinstance(store.link, PostgresLink)
    return store.link


def sqlite_link(store: Store) -> SqliteLink:
    """Return a store's connections to an SQLite file."""
    assert isinstance(store, SqlStore)
    assert isinstance(store.link, SqliteLink)
    return store.link
