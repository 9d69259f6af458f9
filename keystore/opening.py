"""`open_store`: from a database's address to a store that works, or one clear reason why it doesn't.

A backend is imported when its kind of address is opened: the driver of the other one would take a start longer.
"""

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from keystore.errors import InvalidInput, SchemaMismatch, SecretKeyMissing
from keystore.ids import KNOWN_TYPES
from keystore.invocation import command
from keystore.records import DEFAULT_QUOTA, Quota
from keystore.schema import UPKEEP_MIGRATIONS, DatabaseLink, Schema, Shape, schema_of, statements_for
from keystore.sealing.secret_keys import parse_secret_keys, require_masters
from keystore.sql.policy_table import read_policy, write_policy
from keystore.sql.queries import Queries
from keystore.sql.store import SqlStore
from keystore.store import Store
from keystore.ttl import DEFAULT, Policy

MAX_CONNECTIONS = 8
"""Default size of the pool. It is enough for the threads of one process: a call holds a connection only while its
statement runs."""

_ADDRESSES = "expected sqlite:///file.db (relative), sqlite:////srv/file.db (absolute) or postgresql://user:password@host:5432/database"


def open_store(
    url: str,
    *,
    clock: Callable[[], datetime] | None = None,
    policy: Policy | None = None,
    guard: bool = True,
    quota: Quota = DEFAULT_QUOTA,
    trash_s: float | None = None,
    secret_keys: str = "",
    without_values: bool = False,
    max_connections: int = MAX_CONNECTIONS,
    create: bool = True,
) -> Store:
    """Open the database at `url`, creating the tables of a new one. The store is pooled and thread-safe.

    Without `create` nothing is made or changed by opening: no file, no table, no journal mode. A database without our
    tables is then refused, so that a mistyped address is noticed.

    `clock` returns an aware UTC datetime, and replaces the database's clock everywhere. The lifetimes of keys stand in
    the database, for everybody who writes there. `policy` replaces them if they differ. Without it they stay, and a new
    database gets those of `careful` (decision 19). `guard` keeps sweeps from keys that can't be replaced.
    `quota` bounds each company. `trash_s`, the seconds that the trash keeps, stands in the database too; 0 is off, and
    None leaves what it has. The pool has up to `max_connections`.

    With `secret_keys` values are sealed: the text of KEYSTORE_SECRET_KEYS, keys of 32 bytes in base64, newest first
    (docs/sealing.md). A store whose values are sealed doesn't open without the right keys, unless `without_values` is
    set: then everything works but reads and writes of values, which raise SecretKeyMissing.

    Raises SecretKeyMissing for a secret key that is missing or wrong, InvalidInput for an address or key that can't be
    read, StoreUnavailable when the database doesn't answer, and SchemaMismatch when its tables aren't ours, or need
    `migrate` first. With `create` an SQLite file is migrated here.
    """
    link = open_link(url, max_connections, create=create)
    try:
        schema = schema_of(link)
        if create and _lacks_tables(link, schema):
            make_tables(link, policy or DEFAULT)
            schema = schema_of(link)
        if schema.shape is Shape.EMPTY:
            raise SchemaMismatch(
                f"{link.name}: {_other_tables(link)}. Is this the right database? If it is, "
                f"`{command('migrate')}` or `{command('serve')}` makes the tables"
            )
        if schema.shape is Shape.LEGACY:
            raise SchemaMismatch(
                f"{link.name}: the tables are a bot's own, with jsonb values. Stop the bot and run "
                f"`{command('migrate')}` to convert them, or run `{command('migrate --attach')}` to watch beside the "
                "running bot"
            )
        if schema.shape is Shape.ATTACHED and set(schema.pending) & set(UPKEEP_MIGRATIONS):
            raise SchemaMismatch(f"{link.name}: the watch needs new tables; run `{command('migrate --attach')}`")
        if schema.shape is not Shape.ATTACHED and schema.pending:
            raise SchemaMismatch(
                f"{link.name}: schema outdated, {len(schema.pending)} to apply ({schema.pending[0]} first); "
                f"run `{command('migrate')}`"
            )
        if schema.functions_outdated:
            advice = command("migrate --attach" if schema.shape is Shape.ATTACHED else "migrate")
            raise SchemaMismatch(
                f"{link.name}: the functions in the database aren't those of this version; run `{advice}`"
            )
        stored = read_policy(link, statements_for(link))
        if stored is None and policy is None and not create:
            raise SchemaMismatch(
                f"{link.name}: the table keystore_policy has no lifetimes; run `{command('migrate')}`, "
                "which writes them"
            )
        wanted = policy or stored or DEFAULT
        named_types = KNOWN_TYPES.union(wanted.by_type)
        queries: Queries
        if link.is_server:
            from keystore.postgres.queries import PostgresQueries

            attached = schema.shape is Shape.ATTACHED
            queries = PostgresQueries(link, clock, guard=guard, named_types=named_types, attached=attached)
        else:
            from keystore.sqlite.queries import SqliteQueries

            queries = SqliteQueries(link, clock, guard=guard, named_types=named_types)
        store = _store(queries, quota, parse_secret_keys(secret_keys), without_values=without_values)
        if wanted != stored:
            store.replace_policy(wanted)
        if trash_s is not None:
            replace_trash_life(link, trash_s)
        return store
    except BaseException:
        link.close()
        raise


def _store(queries: Queries, quota: Quota, secret_keys: Sequence[bytes], *, without_values: bool) -> SqlStore:
    """Return the store. Raises SecretKeyMissing if values are sealed by keys that aren't there."""
    if not queries.converted:
        return SqlStore(queries, quota)
    canaries: dict[bytes, bytes] = dict(queries.link.rows(queries.sql["master_keys"], {}))
    if secret_keys:
        from keystore.sealing.sealer import Sealer  # It imports cryptography, which only sealed values need.

        try:
            return SqlStore(queries, quota, Sealer(queries, secret_keys, canaries), sealing="on")
        except SecretKeyMissing:
            if not without_values:
                raise
    if not without_values:
        require_masters(canaries, ())
    return SqlStore(queries, quota, sealing="locked" if canaries else "off")


def replace_policy(link: DatabaseLink, policy: Policy) -> None:
    """Make `policy` the one in a migrated database."""
    write_policy(link, statements_for(link), policy)


def replace_trash_life(link: DatabaseLink, trash_s: float) -> None:
    """Make the trash of a migrated database keep for `trash_s` seconds; 0 is off."""
    link.rows(statements_for(link)["set_trash_s"], {"trash_s": trash_s})


def make_tables(link: DatabaseLink, policy: Policy = DEFAULT) -> list[str]:
    """Migrate a file, or a server's database that has none of our tables, and return the migrations applied.

    New tables get the lifetimes of `policy`. A server's older tables aren't changed here: an operator decides that, by
    `migrate`.
    """
    if not _lacks_tables(link, schema_of(link)):
        return []
    from keystore.migrate import migrate  # It imports yoyo, which most starts don't need.

    applied = migrate(link)
    if link.is_server:
        link.renew_connections()
    if read_policy(link, statements_for(link)) is None:
        replace_policy(link, policy)
    return applied


def _lacks_tables(link: DatabaseLink, schema: Schema) -> bool:
    return bool(schema.pending) and (not link.is_server or schema.shape is Shape.EMPTY)


def open_link(url: str, max_connections: int = MAX_CONNECTIONS, *, create: bool = True) -> DatabaseLink:
    """Open a connection pool to the database at `url`, regardless of its tables. `create` makes a missing file.

    Raises InvalidInput for an address that can't be read, and StoreUnavailable when the database doesn't answer.
    """
    url = url.strip()
    if url[:1] in ("'", '"'):
        raise InvalidInput("database address: it is in quotes; remove them (an env file of Docker's keeps them)")
    if any(ord(character) < 32 for character in url):
        raise InvalidInput("database address: it has a line break or another control character in it; remove it")
    scheme = url.partition("://")[0].lower()
    if max_connections < 1:
        raise InvalidInput(f"max_connections: {max_connections}; at least 1 is needed")
    if scheme == "sqlite":
        from keystore.sqlite.link import SqliteLink

        return SqliteLink(_sqlite_path(url), max_connections, create=create)
    if scheme in ("postgresql", "postgres"):
        from keystore.postgres.link import PostgresLink
        from keystore.postgres.queries import LARGE_QUERY

        return PostgresLink(url, max_connections, LARGE_QUERY)
    if re.fullmatch(r"postgres(ql)?\+\w+", scheme):
        raise InvalidInput(f"database address: {scheme}:// names a driver of SQLAlchemy's; write postgresql://")
    raise InvalidInput(f"database address: can't tell which kind it is; {_ADDRESSES}")


def _other_tables(link: DatabaseLink) -> str:
    ((count, first),) = link.rows(statements_for(link)["tables"], {})
    if not count:
        return "this database is empty"
    return f"this database has no table of Signal Keystore, and {count} of something else (for example {first})"


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
