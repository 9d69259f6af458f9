"""`open_store`: from a database's address to a store that works, or one clear reason why it doesn't."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from keystore.errors import InvalidInput, SchemaMismatch
from keystore.migrate import UPKEEP_MIGRATIONS, DatabaseLink, Shape, migrate, schema_of
from keystore.postgres.link import PostgresLink
from keystore.postgres.store import LARGE_QUERY, PostgresStore
from keystore.records import DEFAULT_QUOTA, Quota
from keystore.sqlite.link import SqliteLink
from keystore.sqlite.store import SqliteStore
from keystore.store import Store
from keystore.ttl import DIARY, Policy

MAX_CONNECTIONS = 8
"""Default size of the pool. It is enough for the threads of one process: a call holds a connection only while its
statement runs."""

_ADDRESSES = "expected sqlite:///file.db (relative), sqlite:////srv/file.db (absolute) or postgresql://user:password@host:5432/database"


def open_store(
    url: str,
    *,
    clock: Callable[[], datetime] | None = None,
    policy: Policy = DIARY,
    guard: bool = True,
    quota: Quota = DEFAULT_QUOTA,
    max_connections: int = MAX_CONNECTIONS,
) -> Store:
    """Open the database at `url`, creating the tables of a new one. The store is pooled and thread-safe.

    `clock` returns an aware UTC datetime, and replaces the database's clock everywhere. `policy` sets the lifetimes of
    keys. `guard` keeps sweeps from keys that can't be replaced. `quota` bounds each company. The pool has
    up to `max_connections`.

    Raises InvalidInput for an address that can't be read, StoreUnavailable when the database doesn't answer, and
    SchemaMismatch when a server's tables need `run.py migrate` first. An SQLite file is migrated here.
    """
    link = open_link(url, max_connections)
    try:
        schema = schema_of(link)
        if schema.pending and (isinstance(link, SqliteLink) or schema.shape is Shape.EMPTY):
            migrate(link)
            schema = schema_of(link)
        if schema.shape is Shape.LEGACY:
            raise SchemaMismatch(
                f"{link.name}: the tables are a bot's own, with jsonb values. Stop the bot and run `python run.py "
                "migrate` to convert them, or run `python run.py migrate --attach` to watch beside the running bot"
            )
        if schema.shape is Shape.ATTACHED and set(schema.pending) & set(UPKEEP_MIGRATIONS):
            raise SchemaMismatch(f"{link.name}: the watch needs new tables; run `python run.py migrate --attach`")
        if schema.shape is not Shape.ATTACHED and schema.pending:
            raise SchemaMismatch(
                f"{link.name}: schema outdated, {len(schema.pending)} to apply ({schema.pending[0]} first); "
                "run `python run.py migrate`"
            )
        if isinstance(link, SqliteLink):
            return SqliteStore(link, clock, policy, quota, guard=guard)
        return PostgresStore(link, clock, policy, quota, guard=guard, attached=schema.shape is Shape.ATTACHED)
    except BaseException:
        link.close()
        raise


def open_link(url: str, max_connections: int = MAX_CONNECTIONS) -> DatabaseLink:
    """Open a connection pool to the database at `url`, regardless of its tables.

    Raises InvalidInput for an address that can't be read, and StoreUnavailable when the database doesn't answer.
    """
    scheme = url.partition("://")[0].lower()
    if max_connections < 1:
        raise InvalidInput(f"max_connections: {max_connections}; at least 1 is needed")
    if scheme == "sqlite":
        return SqliteLink(_sqlite_path(url), max_connections)
    if scheme in ("postgresql", "postgres"):
        return PostgresLink(url, max_connections, LARGE_QUERY)
    raise InvalidInput(f"database address: can't tell which kind it is; {_ADDRESSES}")


def _sqlite_path(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or "\0" in path or parts.query or parts.fragment:
        raise InvalidInput(f"database address: it names no SQLite file; {_ADDRESSES}")
    if path == ":memory:":
        raise InvalidInput("database address: a database in memory is gone with the process; name a file")
    if os.path.isdir(path):  # unlike Path.is_dir, False in a folder that can't be read
        raise InvalidInput(f"database address: {path} is a folder; name a file in it")
    return Path(path)
