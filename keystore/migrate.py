"""Migrates a database's tables to those of this version: plain SQL files, applied and recorded by yoyo.

One call is one transaction, with the records and yoyo's lock row in it. A migration that fails, or whose process dies,
leaves the tables as the bot knew them. Two processes may start together: the transaction begins with a lock that ends
with it (an advisory lock on Postgres, `BEGIN IMMEDIATE` on SQLite), and the pending files are read under that lock.

yoyo would use separate transactions for each file, its record and the lock row. So its steps are called one by one
here, on a connection of our own. `migrations/NOTES.md` lists what can go wrong with migrations.
"""

from collections.abc import Callable
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
"""The Postgres migrations that add only our own tables, which `attach_upkeep` applies beside a live bot."""

LOCK_TIMEOUT_S = 60
"""Wait for another process to finish migrating."""

STATEMENT_TIMEOUT_S = 2.5 * 3600
"""Timeout of one statement of a migration; the files themselves limit the server to two hours."""

_LOCKED = {"55P03", "40P01"}
"""SQLSTATE of a lock timeout, and of a deadlock."""

_UNAVAILABLE = ("08", "53", "57P")
"""SQLSTATE classes: connection lost, server out of resources, server shutting down."""

_SQLITE_UNAVAILABLE = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


class Shape(Enum):
    """The kinds of tables in a database."""

    EMPTY = "empty"
    CONVERTED = "converted"
    """Our tables, with values as bytes."""
    LEGACY = "legacy"
    """A bot's own tables, with values as `jsonb`."""
    ATTACHED = "attached"
    """Legacy tables, with our own tables for the upkeep added."""


@dataclass(frozen=True)
class Schema:
    """The shape of a database's tables, and the ids of the pending migrations, in order."""

    shape: Shape
    pending: tuple[str, ...]


def migrate(link: DatabaseLink, only: tuple[str, ...] | None = None) -> list[str]:
    """Apply the pending migrations (those in `only`, if it is set) in order, all or none, and return their ids.

    Raises SchemaMismatch with the database's message when a migration fails, and StoreUnavailable when the database
    goes away or another process migrates for too long.
    """

    def pending(read: Read | None = None) -> list[str]:
        return [name for name in schema_of(link, read).pending if only is None or name in only]

    if not pending():
        return []
    applied: list[str] = []
    backend_class: Any = _SqliteBackend if isinstance(link, SqliteLink) else _PostgresBackend
    with backend_class(link) as backend:
        try:
            with backend.transaction():
                backend.acquire_migration_lock()
                names = pending(lambda statement: list(backend.execute(statement).fetchall()))
                if names:
                    backend.create_yoyo_tables()
                    # Under our lock, an existing lock row was left behind by a process that died.
                    backend.break_lock()
                    with backend.lock():
                        for migration in MigrationList([m for m in _migrations(link) if m.id in names]):
                            applied.append(migration.id)
                            with backend.transaction():
                                migration.process_steps(backend, "apply")
                                backend.log_migration(migration, "apply")
                                backend.mark_one(migration, log=False)
        except backend.DatabaseError as error:
            first: Exception = error
            # Later errors of the chain, raised during the cleanup, only say that nothing works.
            while isinstance(first.__context__, backend.DatabaseError):
                first = first.__context__
            _raise_translated(link, applied[-1] if applied else None, first)
        except LockTimeout as error:
            raise StoreUnavailable(f"{link.name}: yoyo is migrating by hand here; run migrate again later") from error
    return applied


def attach_upkeep(link: DatabaseLink) -> list[str]:
    """Add only our own tables beside a live bot's, and return the ids of the migrations applied.

    Raises KeystoreError when this isn't a bot's own database.
    """
    shape = schema_of(link).shape
    if isinstance(link, SqliteLink) or shape not in (Shape.LEGACY, Shape.ATTACHED):
        raise KeystoreError(
            f"{link.name}: there is nothing to attach to: attaching is for a Postgres database where a bot still "
            f"writes whatsapp_keys as jsonb, and this one is {shape.value}; run `python run.py migrate`"
        )
    return migrate(link, only=UPKEEP_TABLES)


def schema_of(link: DatabaseLink, read: Read | None = None) -> Schema:
    """Return the schema, which `read` reads inside a transaction.

    Raises SchemaMismatch when the tables are of a newer version, or hide their rows.
    """
    read = read or (lambda statement: link.rows(statement, {}))
    applied: set[str] = set()
    if isinstance(link, SqliteLink):
        ((has_keys, has_record),) = read(SQLITE_STATEMENTS["schema"])
        if has_record:
            applied = {name for (name,) in read(SQLITE_STATEMENTS["applied_migrations"])}
        shape = Shape.CONVERTED if has_keys else Shape.EMPTY
    else:
        ((has_keys, has_creds, has_record, value_type, rows_are_hidden),) = read(POSTGRES_STATEMENTS["schema"])
        if rows_are_hidden:
            raise SchemaMismatch(
                f"{link.name}: row-level security hides the tables from this role; use the role that owns them "
                "(a table that forces it on its owner too needs NO FORCE ROW LEVEL SECURITY)"
            )
        if has_record:
            applied = {name for (name,) in read(POSTGRES_STATEMENTS["applied_migrations"])}
        if not has_keys and not has_creds:
            shape = Shape.EMPTY
        elif value_type == "bytea":
            shape = Shape.CONVERTED
        else:
            shape = Shape.ATTACHED if UPKEEP_TABLES[0] in applied else Shape.LEGACY
    known = [migration.id for migration in _migrations(link)]
    unknown = sorted(applied - set(known))
    if unknown:
        raise SchemaMismatch(
            f"{link.name}: its tables were made by a newer version ({unknown[-1]}); upgrade this program"
        )
    return Schema(shape, tuple(name for name in known if name not in applied))


def _migrations(link: DatabaseLink) -> MigrationList:
    return read_migrations(str(MIGRATIONS / ("sqlite" if isinstance(link, SqliteLink) else "postgres")))


class _BackendOverrides:
    """The changes to both of yoyo's backends. They get a connection, because yoyo misreads parts of addresses."""

    def __init__(self, link: DatabaseLink) -> None:
        self._link = link
        no_address = DatabaseURI("", None, None, None, None, None, {})
        super().__init__(no_address, default_migration_table)  # type: ignore[call-arg]

    def create_yoyo_tables(self) -> None:
        """Create yoyo's own tables if they are missing, inside the transaction (yoyo itself would do it outside)."""
        backend: Any = self
        backend.execute(backend.format_sql(backend.create_lock_table_sql).replace("TABLE", "TABLE IF NOT EXISTS", 1))
        if internalmigrations.needs_upgrading(backend):
            internalmigrations.upgrade(backend)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        """Return yoyo's log entry without user and host, for which yoyo needs a user name and a name server."""
        return {
            "id": str(uuid4()),
            "migration_id": migration and migration.id,
            "migration_hash": migration and migration.hash,
            "username": "",
            "hostname": "",
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


class _PostgresBackend(_BackendOverrides, PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo on a connection like every other of the link: with timeouts, and nothing prepared."""

    _link: PostgresLink

    def connect(self, dburi: DatabaseURI) -> Any:
        return self._link.connect(STATEMENT_TIMEOUT_S)

    def acquire_migration_lock(self) -> None:
        """Acquire the lock that ends with the transaction."""
        self.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        self.execute(POSTGRES_STATEMENTS["migration_lock"])

    def rollback(self) -> None:
        # A server that hasn't answered yet won't answer a ROLLBACK either. It rolls back when the connection closes.
        if self.connection.info.transaction_status.name == "ACTIVE":
            self.connection.close()
        if self.connection.closed:
            self._in_transaction = False
            return
        super().rollback()


class _SqliteBackend(_BackendOverrides, SQLiteBackend):  # type: ignore[misc]
    """yoyo on a connection without the shared cache, whose locks no busy timeout waits for."""

    _link: SqliteLink

    def connect(self, dburi: DatabaseURI) -> Any:
        return self.driver.connect(self._link.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)

    def begin(self) -> None:
        # A deferred transaction that reads first may later be refused to write.
        self.execute("BEGIN IMMEDIATE")
        self._in_transaction = True

    def acquire_migration_lock(self) -> None:
        """Do nothing: the transaction is the only writer already."""


def _raise_translated(link: DatabaseLink, migration: str | None, error: Exception) -> NoReturn:
    """Raise our error for the driver's. The driver's is its cause unless it may quote a row."""
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
    message = (message or type(error).__name__).splitlines()[0]
    at = f"{link.name}: migration {migration}" if migration else f"{link.name}: migrating"
    if isinstance(link, SqliteLink):
        unavailable = getattr(error, "sqlite_errorname", "").startswith(_SQLITE_UNAVAILABLE)
    else:
        unavailable = not sqlstate or sqlstate.startswith(_UNAVAILABLE)
    if sqlstate in _LOCKED and migration is None:
        reason = f"another process has been migrating for {LOCK_TIMEOUT_S} s; repeating is safe"
        raise StoreUnavailable(f"{at}: {reason}") from error
    if sqlstate in _LOCKED:
        raise SchemaMismatch(
            f"{at}: another session holds the tables, so nothing was changed; stop the bot and every other "
            "program with an open transaction there, and run `python run.py migrate` again"
        ) from error
    if unavailable:
        raise StoreUnavailable(f"{at} broke off, repeating is safe: {message}") from error
    if sqlstate.startswith(("22", "23")):  # Invalid data or a violated constraint: the message may quote a row.
        raise SchemaMismatch(f"{at} failed, nothing was changed: {message.partition(': ')[0]}") from None
    raise SchemaMismatch(f"{at} failed, nothing was changed: {message}") from error
