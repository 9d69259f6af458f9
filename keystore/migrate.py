"""Brings a database's tables to what this version works with: plain SQL files, applied and recorded by yoyo.

Everything that one call applies is one transaction, the records and yoyo's lock row included: a migration that fails,
or whose process dies, leaves the tables as the bot knew them. Two processes that start together are safe: the
transaction begins with a lock that ends with it (an advisory lock on Postgres, `BEGIN IMMEDIATE` on SQLite), and what
is to apply is looked up once it is held.

yoyo alone would give each file, its record and the lock row transactions of their own; so its steps are called one by
one here, on a connection of ours. What went wrong, or can, with migrations is in `migrations/NOTES.md`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from yoyo import internalmigrations, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.backends.core.sqlite3 import SQLiteBackend
from yoyo.connections import DatabaseURI
from yoyo.exceptions import LockTimeout
from yoyo.migrations import MigrationList, default_migration_table

from keystore.errors import KeystoreError, SchemaMismatch, StoreUnavailable
from keystore.postgres.link import PostgresLink
from keystore.postgres.store import STATEMENTS as POSTGRES_STATEMENTS
from keystore.sqlite.link import SqliteLink
from keystore.sqlite.store import STATEMENTS as SQLITE_STATEMENTS

DatabaseLink = PostgresLink | SqliteLink
Read = Callable[[str], list[tuple[Any, ...]]]

MIGRATIONS = Path(__file__).parent.parent / "migrations"

UPKEEP_TABLES = ("20261124_01_keystore_tables", "20261125_01_watch_memory", "20261125_02_access")
"""The Postgres migrations that add only our own tables: what `attach_upkeep` applies beside a live bot."""

LOCK_TIMEOUT_S = 60
"""For another process to finish migrating."""

STATEMENT_TIMEOUT_S = 2.5 * 3600
"""For one statement of a migration; the files themselves let the server work for two hours at most."""

_BUSY_TABLES = {"55P03", "40P01"}
"""SQLSTATE of a lock not had in time, and of a deadlock."""

_AWAY = ("08", "53", "57P")
"""SQLSTATE classes: connection lost, server out of room, server shutting down."""

_QUOTES_VALUES = ("22", "23")
"""SQLSTATE classes whose messages may quote a row: data that doesn't fit, a constraint that is violated."""

_SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


class Shape(Enum):
    """What stands in a database."""

    EMPTY = "empty"
    OURS = "ours"
    DIARY = "diary"
    """Bot tables with `jsonb` values that we have not touched."""
    ATTACHED = "attached"
    """The same, with our own tables beside them."""


@dataclass(frozen=True)
class Schema:
    """A database's tables: their shape, and the ids of the migrations still to apply, in order."""

    shape: Shape
    pending: tuple[str, ...]


def schema_of(link: DatabaseLink) -> Schema:
    """What stands in this database. Raises SchemaMismatch for tables of a newer version, or that hide their rows."""
    return _schema(link, lambda statement: link.rows(statement, {}))


def migrate(link: DatabaseLink, only: tuple[str, ...] | None = None) -> list[str]:
    """Applies what is pending, in order, and returns the ids of what it applied; with `only`, of those alone.

    All of it or nothing. Raises SchemaMismatch, with the database's own words, when a migration fails, and
    StoreUnavailable when the database goes away or another process migrates for too long.
    """
    if not _wanted(schema_of(link), only):
        return []
    applied: list[str] = []
    with _yoyo(link) as backend:
        try:
            with backend.transaction():
                backend.wait_for_turn()
                pending = _wanted(_schema(link, lambda statement: _fetched(backend, statement)), only)
                if pending:
                    backend.create_own_tables()
                    # Under our lock, a row that is there already was left behind by a process that died.
                    backend.break_lock()
                    with backend.lock():
                        for migration in MigrationList([m for m in _migrations(link) if m.id in pending]):
                            applied.append(migration.id)
                            with backend.transaction():
                                migration.process_steps(backend, "apply")
                                backend.log_migration(migration, "apply")
                                backend.mark_one(migration, log=False)
        except backend.DatabaseError as error:
            _raise(link, applied[-1] if applied else None, _first(error, backend.DatabaseError))
        except LockTimeout as error:
            raise StoreUnavailable(f"{link.name}: yoyo is migrating by hand here; run migrate again later") from error
    return applied


def attach_upkeep(link: DatabaseLink) -> list[str]:
    """Adds only our own tables beside a live bot's; returns the ids of what it applied, [] when they are there.

    Raises KeystoreError where there is no such bot's database to attach to.
    """
    shape = schema_of(link).shape
    if isinstance(link, SqliteLink) or shape not in (Shape.DIARY, Shape.ATTACHED):
        raise KeystoreError(
            f"{link.name}: there is nothing to attach to: attaching is for a Postgres database whose whatsapp_keys "
            f"a bot still writes as jsonb, and this one is {shape.value}; run `python run.py migrate`"
        )
    return migrate(link, only=UPKEEP_TABLES)


def _schema(link: DatabaseLink, read: Read) -> Schema:
    applied: set[str] = set()
    if isinstance(link, SqliteLink):
        ((has_keys, has_record),) = read(SQLITE_STATEMENTS["schema"])
        if has_record:
            applied = {row[0] for row in read(SQLITE_STATEMENTS["applied_migrations"])}
        shape = Shape.OURS if has_keys else Shape.EMPTY
    else:
        ((has_keys, has_creds, has_record, value_type, rows_are_hidden),) = read(POSTGRES_STATEMENTS["schema"])
        if rows_are_hidden:
            raise SchemaMismatch(
                f"{link.name}: row-level security hides the tables from this role; use the role that owns them "
                "(a table that forces it on its owner too needs NO FORCE ROW LEVEL SECURITY)"
            )
        if has_record:
            applied = {row[0] for row in read(POSTGRES_STATEMENTS["applied_migrations"])}
        if not has_keys and not has_creds:
            shape = Shape.EMPTY
        elif value_type == "bytea":
            shape = Shape.OURS
        else:
            shape = Shape.ATTACHED if UPKEEP_TABLES[0] in applied else Shape.DIARY
    known = [migration.id for migration in _migrations(link)]
    unknown = sorted(applied - set(known))
    if unknown:
        raise SchemaMismatch(
            f"{link.name}: its tables were made by a newer version ({unknown[-1]}); upgrade this program"
        )
    return Schema(shape, tuple(name for name in known if name not in applied))


def _wanted(schema: Schema, only: tuple[str, ...] | None) -> tuple[str, ...]:
    return schema.pending if only is None else tuple(name for name in schema.pending if name in only)


def _migrations(link: DatabaseLink) -> MigrationList:
    folder = MIGRATIONS / ("sqlite" if isinstance(link, SqliteLink) else "postgres")
    return read_migrations(str(folder))


class _OnOurConnection:
    """What both of yoyo's backends need changed. It never sees an address: it would read parts of it wrongly."""

    def create_own_tables(self) -> None:
        """yoyo's own, where they aren't there yet: part of the transaction, unlike yoyo's own way of making them."""
        backend: Any = self
        backend.execute(backend.format_sql(backend.create_lock_table_sql).replace("TABLE", "TABLE IF NOT EXISTS", 1))
        if internalmigrations.needs_upgrading(backend):
            internalmigrations.upgrade(backend)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """As yoyo's, without who and where: it asks the name server, and fails for a user id without a name."""
        return {
            "id": str(uuid4()),
            "migration_id": migration and migration.id,
            "migration_hash": migration and migration.hash,
            "username": "",
            "hostname": "",
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


class _YoyoOnPostgres(_OnOurConnection, PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo on a connection made like every other of the link: its time-outs, and nothing prepared."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link
        super().__init__(_address("postgresql+psycopg"), default_migration_table)

    def connect(self, dburi: DatabaseURI) -> Any:
        return self._link.connect(STATEMENT_TIMEOUT_S)

    def wait_for_turn(self) -> None:
        """Takes the lock that ends with the transaction."""
        self.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        self.execute(POSTGRES_STATEMENTS["migration_lock"])

    def rollback(self) -> None:
        # A server that has not answered yet won't answer a ROLLBACK either; without us it rolls back by itself.
        if self.connection.info.transaction_status.name == "ACTIVE":
            self.connection.close()
        if self.connection.closed:
            self._in_transaction = False
            return
        super().rollback()


class _YoyoOnSqlite(_OnOurConnection, SQLiteBackend):  # type: ignore[misc]
    """yoyo on a connection without the shared cache, whose locks no busy timeout waits for."""

    def __init__(self, link: SqliteLink) -> None:
        self._path = link.path
        super().__init__(_address("sqlite"), default_migration_table)

    def connect(self, dburi: DatabaseURI) -> Any:
        return self.driver.connect(self._path, timeout=LOCK_TIMEOUT_S, isolation_level=None)

    def begin(self) -> None:
        # Not in two steps: a transaction that first reads may find out that it may not write any more.
        self.execute("BEGIN IMMEDIATE")
        self._in_transaction = True

    def wait_for_turn(self) -> None:
        """Nothing more to wait for: there is one writer at a time."""


def _address(scheme: str) -> DatabaseURI:
    return DatabaseURI(scheme, None, None, None, None, None, {})


def _yoyo(link: DatabaseLink) -> AbstractContextManager[Any]:
    backend: AbstractContextManager[Any] = (
        _YoyoOnSqlite(link) if isinstance(link, SqliteLink) else _YoyoOnPostgres(link)
    )
    return backend


def _fetched(backend: Any, statement: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = backend.execute(statement).fetchall()
    return rows


def _first(error: Exception, kind: type[Exception]) -> Exception:
    """The error that the others came from while it was cleaned up after: those only say that nothing works any more."""
    while isinstance(error.__context__, kind):
        error = error.__context__
    return error


def _raise(link: DatabaseLink, migration: str | None, error: Exception) -> NoReturn:
    """Our error for the driver's, which is its cause where it can't quote a row."""
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
    said = (said or type(error).__name__).splitlines()[0]
    at = f"{link.name}: migration {migration}" if migration else f"{link.name}: migrating"
    told: KeystoreError
    if isinstance(link, SqliteLink):
        away = getattr(error, "sqlite_errorname", "").startswith(_SQLITE_AWAY)
    else:
        away = not sqlstate or sqlstate.startswith(_AWAY)
    if sqlstate in _BUSY_TABLES and migration is None:
        told = StoreUnavailable(f"{at}: another process has been at it for {LOCK_TIMEOUT_S} s; repeating is safe")
    elif sqlstate in _BUSY_TABLES:
        told = SchemaMismatch(
            f"{at}: another session holds the tables, so nothing was changed; stop the bot, and whatever else has a "
            "transaction open there, and run `python run.py migrate` again"
        )
    elif away:
        told = StoreUnavailable(f"{at} broke off, repeating is safe: {said}")
    elif sqlstate.startswith(_QUOTES_VALUES):
        raise SchemaMismatch(f"{at} failed, nothing was changed: {said.partition(': ')[0]}") from None
    else:
        told = SchemaMismatch(f"{at} failed, nothing was changed: {said}")
    raise told from error
