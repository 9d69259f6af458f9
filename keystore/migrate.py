"""Migrates a database's tables to those of this version: plain SQL files, applied and recorded by yoyo.

`migrate` runs in one transaction, which includes yoyo's migration records and its lock row. A migration that fails, or
whose process dies, leaves the tables unchanged. Two processes may start together: the transaction first takes a lock,
which is released when it ends (an advisory lock on Postgres, `BEGIN IMMEDIATE` on SQLite). The pending files are read
under that lock.

yoyo would use separate transactions for each file, its record and the lock row. So its steps are called one by one
here, on a connection of our own. `migrations/NOTES.md` lists what can go wrong with migrations.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from yoyo import internalmigrations, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.backends.core.sqlite3 import SQLiteBackend
from yoyo.connections import DatabaseURI
from yoyo.exceptions import LockTimeout
from yoyo.migrations import MigrationList, default_migration_table

from keystore.errors import KeystoreError, SchemaMismatch, StoreUnavailable
from keystore.invocation import command
from keystore.postgres import adoption
from keystore.postgres.adoption import NO_CHOICES, AdoptionChoices, AdoptionReport
from keystore.postgres.function_files import function_hash, function_names, function_text, recording_text
from keystore.postgres.statements import STATEMENTS as POSTGRES_STATEMENTS
from keystore.schema import UPKEEP_MIGRATIONS, DatabaseLink, Read, Schema, Shape, migrations_folder, schema_of
from keystore.sqlite.link import MigrationCursor

if TYPE_CHECKING:
    from keystore.postgres.link import PostgresLink
    from keystore.sqlite.link import SqliteLink

CONVERSION = "20261124_03_opaque_values"
"""Id of the Postgres migration that converts a bot's own values. There is no way back from it."""

FUNCTIONS = "functions"
"""Stands for the database's functions among the migrations to apply, when no migration is pending."""

LOCK_TIMEOUT_S = 60
"""Timeout for the lock while another process migrates, in seconds."""

STATEMENT_TIMEOUT_S = 2.5 * 3600
"""Client-side timeout of a statement, in seconds. The longest migration sets the server's own to two hours, which
expires first."""

_LOCKED = {"55P03", "40P01"}
"""SQLSTATE of a lock timeout, and of a deadlock."""

_NOT_PERMITTED = {"42501", "3F000"}
"""SQLSTATE of a missing privilege, and of a search path without a schema that the role may use."""

_UNAVAILABLE = ("08", "53", "57P")
"""SQLSTATE classes: connection lost, server out of resources, server shutting down."""

_SQLITE_UNAVAILABLE = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


def migrate(
    link: DatabaseLink,
    only: tuple[str, ...] | None = None,
    choices: AdoptionChoices = NO_CHOICES,
    adopted: Callable[[AdoptionReport], None] = lambda _: None,
) -> list[str]:
    """Apply the pending migrations (those in `only`, if it is set) in order, all or none, and return their ids.

    A bot's own tables are looked at first, and refused if the store couldn't live in them. `choices` are the operator's
    decisions about them, and `adopted` is called with the report.

    On Postgres it also replaces the functions if they aren't those of this version. It returns `functions` when nothing
    else was to be done. Raises SchemaMismatch with the database's message when a migration fails, and StoreUnavailable
    when the database goes away or another process migrates for too long.
    """

    def pending_now(read: Read | None = None) -> tuple[list[str], bool]:
        """Return the ids of the pending migrations, and whether the functions are to be replaced."""
        schema = schema_of(link, read)
        ids = [name for name in schema.pending if only is None or name in only]
        outdated = bool(ids) or (schema.functions_outdated and schema.shape not in (Shape.EMPTY, Shape.LEGACY))
        if outdated and schema.tables_in and schema.tables_in != schema.makes_in:
            raise SchemaMismatch(
                f"{link.name}: the tables are in the schema {schema.tables_in}, and new ones would be made in "
                f"{schema.makes_in}: add schema={schema.tables_in} to the address's parameters, or set the role's "
                "search_path to that schema alone"
            )
        return ids, outdated

    if pending_now() == ([], False):
        return []
    applied: list[str] = []
    step = ""
    backend_class: Any = _PostgresBackend if link.is_server else _SqliteBackend
    with backend_class(link) as backend:

        def read(statement: str) -> list[tuple[Any, ...]]:
            return list(backend.execute(statement).fetchall())

        try:
            with backend.transaction():
                backend.acquire_migration_lock()
                ids, outdated = pending_now(read)
                if CONVERSION in ids and schema_of(link, read).shape in (Shape.LEGACY, Shape.ATTACHED):
                    step = "looking at the tables"
                    adopted(adoption.prepare(backend.connection, link.name, choices))
                if ids:
                    backend.create_yoyo_tables()
                    # Under our lock, an existing lock row was left behind by a process that died.
                    backend.break_lock()
                    with backend.lock():
                        for migration in MigrationList([m for m in _migrations(link) if m.id in ids]):
                            step = f"migration {migration.id}"
                            applied.append(migration.id)
                            with backend.transaction():
                                migration.process_steps(backend, "apply")
                                backend.log_migration(migration, "apply")
                                backend.mark_one(migration, log=False)
                if outdated and isinstance(backend, _PostgresBackend):
                    step = "making the functions"
                    applied = applied or [FUNCTIONS]
                    backend.make_functions(schema_of(link, read))
        except backend.DatabaseError as error:
            original_error: Exception = error
            # Later errors of the chain, raised during the cleanup, only say that nothing works.
            while isinstance(original_error.__context__, backend.DatabaseError):
                original_error = original_error.__context__
            _raise_translated(link, step, original_error)
        except LockTimeout as error:
            raise StoreUnavailable(
                f"{link.name}: someone is running the yoyo command on this database; wait for it, "
                "then run migrate again"
            ) from error
    return applied


def attach_upkeep(link: DatabaseLink) -> list[str]:
    """Add only our own tables beside a live bot's, and return the ids of the migrations applied.

    Raises KeystoreError when this isn't a bot's own database.
    """
    shape = schema_of(link).shape
    if not link.is_server or shape not in (Shape.LEGACY, Shape.ATTACHED):
        raise KeystoreError(
            f"{link.name}: there is nothing to attach to, because this database is {shape.value}; run "
            f"`{command('migrate')}`. Attaching is for a Postgres database where a bot still writes "
            "whatsapp_keys as jsonb"
        )
    return migrate(link, only=UPKEEP_MIGRATIONS)


def look(link: DatabaseLink, choices: AdoptionChoices) -> AdoptionReport | None:
    """Return what `migrate` would find in a bot's own tables, and change nothing; None if there are none."""
    schema = schema_of(link)
    if not link.is_server or schema.shape not in (Shape.LEGACY, Shape.ATTACHED):
        return None
    connection = link.connect(STATEMENT_TIMEOUT_S)
    try:
        with connection.transaction():
            return adoption.look(connection, choices)
    finally:
        connection.close()


def _migrations(link: DatabaseLink) -> MigrationList:
    return read_migrations(str(migrations_folder(is_server=link.is_server)))


class _BackendOverrides:
    """Overrides shared by both backends.

    Each opens its connection from our link, because yoyo misreads parts of some addresses.
    """

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
    """yoyo on a connection with the link's settings: it has timeouts and prepares no statements."""

    _link: "PostgresLink"

    def connect(self, dburi: DatabaseURI) -> Any:
        return self._link.connect(STATEMENT_TIMEOUT_S)

    def acquire_migration_lock(self) -> None:
        """Acquire the lock that ends with the transaction, and set what the migrations' SQL needs."""
        self.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
        # The migrations have backslashes in their strings, which a role's old setting may give another meaning.
        self.execute("SET LOCAL standard_conforming_strings = on")
        self.execute(POSTGRES_STATEMENTS["migration_lock"])

    def make_functions(self, schema: Schema) -> None:
        """Make the functions of this version in the tables' schema, and drop those of other versions."""
        attached = schema.shape is Shape.ATTACHED
        made = function_text(attached=attached)
        names = ",".join(function_names(made))
        params = {"schema": schema.tables_in, "hash": function_hash(attached=attached), "names": names}
        self.execute(POSTGRES_STATEMENTS["pin_schema"], params)
        # To check a body's names would lock a bot's tables.
        self.execute("SET LOCAL check_function_bodies = off")
        for statements in (made, recording_text()):
            self.connection.execute(statements)  # yoyo would take a percent sign for a parameter.

    def rollback(self) -> None:
        # A server that hasn't answered yet won't answer a ROLLBACK either. It rolls back when the connection closes.
        if self.connection.info.transaction_status.name == "ACTIVE":
            self.connection.close()
        if self.connection.closed:
            self._in_transaction = False
            return
        super().rollback()


class _SqliteBackend(_BackendOverrides, SQLiteBackend):  # type: ignore[misc]
    """yoyo on a connection without a shared cache, because the busy timeout doesn't apply to a shared cache's locks."""

    _link: "SqliteLink"

    def connect(self, dburi: DatabaseURI) -> Any:
        return self.driver.connect(self._link.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)

    def begin(self) -> None:
        # A deferred transaction that reads first may later be refused to write.
        self.execute("BEGIN IMMEDIATE")
        self._in_transaction = True

    def cursor(self) -> Any:
        return self.connection.cursor(MigrationCursor)

    def acquire_migration_lock(self) -> None:
        """Do nothing: the transaction is the only writer already."""


def _raise_translated(link: DatabaseLink, step: str, error: Exception) -> NoReturn:
    """Raise our own error in place of the driver's, which is its cause unless it may quote a row."""
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error).strip()
    message = (message or type(error).__name__).splitlines()[0]
    prefix = f"{link.name}: {step or 'migrating'}"
    if link.is_server:
        unavailable = not sqlstate or sqlstate.startswith(_UNAVAILABLE)
    else:
        unavailable = getattr(error, "sqlite_errorname", "").startswith(_SQLITE_UNAVAILABLE)
    if sqlstate in _LOCKED and not step:
        reason = f"another process has been migrating for {LOCK_TIMEOUT_S} s; it is safe to run this again"
        raise StoreUnavailable(f"{prefix}: {reason}") from error
    if sqlstate in _LOCKED:
        raise SchemaMismatch(
            f"{prefix}: another session has locked the tables, so nothing was changed. Stop the bot and every other "
            f"program with an open transaction there, and run `{command('migrate')}` again"
        ) from error
    if unavailable:
        raise StoreUnavailable(f"{prefix} broke off; it is safe to run this again: {message}") from error
    if sqlstate.startswith(("22", "23")):  # Invalid data or a violated constraint: the message may quote a row.
        raise SchemaMismatch(f"{prefix} failed and changed nothing: {message.partition(': ')[0]}") from None
    advice = ""
    if sqlstate in _NOT_PERMITTED:
        grant = _grant_needed(link)
        advice = "; use the role that owns the tables" + (f", or for new tables run {grant}" if grant else "")
    raise SchemaMismatch(f"{prefix} failed and changed nothing: {message}{advice}") from error


def _grant_needed(link: DatabaseLink) -> str | None:
    """The GRANT without which this role can make no tables; None where it may, or can't ask."""
    try:
        rows = link.rows(POSTGRES_STATEMENTS["grant_needed"], {})
    except KeystoreError:
        return None
    return str(rows[0][0]) if rows else None
