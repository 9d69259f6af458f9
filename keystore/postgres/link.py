"""The only module that uses psycopg: a pool, statements with time limits, and psycopg's errors translated into ours.

Its rules:
* A statement is one round trip: autocommit, and no check of a pooled connection before its use. After a broken
  connection the call is repeated on another one; that is safe, because every operation is idempotent.
* A bot's statements are prepared on a direct connection to the server (decision 12), because planning is most of the
  cost of a small statement. Behind a transaction pooler nothing is prepared, because it offers no lasting session to
  hold a prepared statement. Upkeep statements are never prepared: each is planned for its parameters.
* Every wait has a limit: for opening a connection, for getting one from the pool, and for an answer. psycopg has no
  setting for the last limit. Only its method `Connection.wait(timeout=…)` takes one (3.3.9), so a subclass passes it.
* A translated error has psycopg's error as its cause, unless Postgres's message may quote the values of a row.

Length: psycopg is imported in one module, which is this one.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from datetime import datetime
from time import monotonic
from typing import Any, Literal, NoReturn

import psycopg
import structlog
from psycopg import errors
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch, StoreClosed, StoreUnavailable
from keystore.invocation import command
from keystore.postgres.address import address_for_login, read_address
from keystore.postgres.arrays import Blobs, Texts
from keystore.sql.link import (
    BOT_DEADLINE_S,
    UPKEEP_TIMEOUT_S,
    RefusalError,
    Row,
    Run,
    StatementTimedOut,
    T,
    require_own_process,
)
from keystore.sql.times import time_of

Params = Mapping[str, Any]

CONNECT_TIMEOUT_S = 5
"""Timeout for opening a connection, and for getting one from the pool."""

ANSWER_TIMEOUT_S = 15.0
"""Timeout for the answer to a bot's statement."""

PREPARE_AFTER = 5
"""Number of unprepared uses of a statement on a connection, before it is prepared."""

MOST_ITEMS_HELD, MOST_BYTES_HELD = 100, 64 * 1024
"""Limits of a call that a connection holds until the next use of its statement: rows, items of a list, and bytes."""

REFUSAL_CLASS = "KS"
"""Begins the codes with which the database's functions refuse a write (`functions/`)."""

_LIMIT_LOCK_WAIT = "SELECT set_config('lock_timeout', '200ms', true)"
"""Limits each wait for a lock to 200 ms, until the transaction ends. A pipeline is one transaction."""

_UNUSABLE_VALUE = re.compile(r"invalid \w+ value: |bad value for ")
"""Begins libpq's or psycopg's reason when a parameter of the address has a value that it doesn't know."""

log = structlog.get_logger()

_PREPARED_STATEMENT_LOST = (
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
    errors.FeatureNotSupported,
)
"""Errors that mean that the server no longer has our prepared statement.

FeatureNotSupported means that the statement no longer fits, because a column's type has changed.
"""

_REPEATABLE = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.UniqueViolation,
)
"""Errors after which the same call may succeed on a second attempt.

A UniqueViolation means that another session has just inserted the same row. The second attempt sees that row.
"""


class _ArrayDumper(Dumper):
    format = psycopg.pq.Format.BINARY

    def dump(self, obj: Texts | Blobs) -> bytes:
        return obj.encoded()


for array_type in (Texts, Blobs):
    psycopg.adapters.register_dumper(array_type, type("_Dumper", (_ArrayDumper,), {"oid": array_type.oid}))


class _TimeLoader(Loader):
    """Loads each `timestamptz`, also one of a year that Python hasn't."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return time_of(int.from_bytes(data, "big", signed=True) + _YEAR_2000)


_YEAR_2000 = 946_684_800_000_000
"""The microseconds from 1970 to the time from which Postgres counts."""

psycopg.adapters.register_loader("timestamptz", _TimeLoader)


class _BoundedConnection(psycopg.Connection[Row]):
    """A connection on which each wait for the server has a time limit."""

    answer_timeout_s = ANSWER_TIMEOUT_S
    prepares = False
    """True on a direct connection to the server. A pooler in between would mix up prepared statements."""
    large_query_prepared = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_at = monotonic()
        self.uses: Counter[tuple[str, tuple[bool, ...]]] = Counter()
        self.cursors: dict[str, psycopg.Cursor[Row]] = {}
        """The cursor of each prepared statement: a new one would look up how to convert each parameter and column."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        return super().wait(gen, interval, self.answer_timeout_s if timeout is None else timeout)


class PostgresLink:
    """A pool of connections to one Postgres database; thread-safe."""

    is_server: Literal[True] = True
    """Tells both kinds of links apart without importing either."""

    def __init__(self, url: str, max_connections: int, large_query: tuple[str, Params]) -> None:
        """Connect once, to detect a wrong address. Raises StoreUnavailable or InvalidInput.

        `large_query` is the statement of a bot that returns many rows (see `rows`), with parameters that match no row.
        """
        address = read_address(url, _libpq_parameters(), _parse_address)
        self.name = address.name
        self._conninfo = make_conninfo(**address.params)
        if address.passed_over:
            log.info("address_parameters_passed_over", database=self.name, parameters=list(address.passed_over))
        self.answer_timeout_s = ANSWER_TIMEOUT_S
        self._options: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": None,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "application_name": "signal-keystore",
            "client_encoding": "UTF8",
        }
        self._max_connections = max_connections
        self._large_query = large_query
        self._process = os.getpid()
        self._options = {key: value for key, value in self._options.items() if key not in address.params}
        self.connect(ANSWER_TIMEOUT_S).close()
        self._pool: ConnectionPool[_BoundedConnection] = ConnectionPool(
            self._conninfo,
            connection_class=_BoundedConnection,
            kwargs=self._options,
            min_size=0,
            max_size=max_connections,
            timeout=CONNECT_TIMEOUT_S,
            reconnect_timeout=CONNECT_TIMEOUT_S,
            max_idle=600,
            num_workers=1,
            configure=self._configure,
            open=True,
            name="keystore",
        )

    @property
    def usable(self) -> bool:
        return not self._pool.closed and os.getpid() == self._process

    def rows(self, statement: str, params: Params, timeout_s: float | None = None) -> list[Row]:
        """Run one statement by itself, in one round trip, and return its rows.

        Without `timeout_s` the statement is a bot's: its timeout is short, and it is prepared after frequent use. The
        large query is prepared when a connection is opened, and at no later time. In the pipeline of a later use, its
        answer would begin before the whole pipeline had been sent.
        """
        if timeout_s is not None:
            return self._retry(_execute, timeout_s, statement, params)
        if statement == self._large_query[0]:
            return self._retry(lambda conn: _execute(conn, statement, params, prepare=conn.large_query_prepared), None)
        return self._retry(_execute_and_prepare, None, statement, params)

    def run_in_turn(self, statements: list[str], params: Params) -> list[Row]:
        """Run several statements in one round trip and one transaction, and return the rows of all.

        Each statement sees the data that was committed before it began.
        """

        def run(conn: _BoundedConnection) -> list[Row]:
            # Only the simple query protocol takes several statements. It has no parameters, so psycopg writes their
            # values into the text of the statements.
            cursor = psycopg.ClientCursor(conn)
            cursor.execute(";".join(statements), params)
            return [row for result in cursor.results() if result.description for row in result.fetchall()]

        return self._retry(run, None)

    def work(
        self, unit: Callable[[Run], T], *, snapshot: bool = False, timeout_s: float | None = UPKEEP_TIMEOUT_S
    ) -> T:
        """Run `unit(run)` in one transaction. If the connection breaks, run it again from the start.

        With `snapshot` the transaction is read-only, and sees the data of one moment.
        """

        def in_transaction(conn: _BoundedConnection) -> T:
            with conn.transaction():
                if snapshot:
                    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return unit(lambda statement, params: _execute(conn, statement, params))

        return self._retry(in_transaction, timeout_s)

    def connect(self, answer_timeout_s: float) -> psycopg.Connection[Row]:
        """Open a connection outside the pool; the caller closes it. Raises StoreUnavailable."""
        try:
            conn = _BoundedConnection.connect(self._conninfo, **self._options)
        except psycopg.Error as error:
            self._raise(error)
        conn.answer_timeout_s = answer_timeout_s
        return conn

    def renew_connections(self) -> None:
        """Open new connections in place of the idle ones, so that they prepare the large query after a migration."""
        self._pool.drain()

    def scram_verifier(self, login: str, password: str) -> str:
        """Return the form of a login's password that a server stores, from which nobody can log in."""

        def encrypted(conn: _BoundedConnection) -> bytes:
            return conn.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")

        return self._retry(encrypted, UPKEEP_TIMEOUT_S).decode()

    def address_for(self, login: str, password: str) -> str:
        """Return this database's address for another login."""
        return address_for_login(conninfo_to_dict(self._conninfo), login, password)

    def error_of(self, code: str, message: str, detail: str) -> KeystoreError:
        """Return the error of one write of several: a refusal, a row that can never be stored, or a failure."""
        if code.startswith(REFUSAL_CLASS):
            return RefusalError(code, json.loads(detail or "{}"))
        if code[:2] in ("22", "23", "54", "P0"):
            return InvalidInput(f"{self.name}: the database refused a row: {message}")
        return StoreUnavailable(f"{self.name}: {message}")

    def close(self) -> None:
        if os.getpid() == self._process:
            self._pool.close(timeout=CONNECT_TIMEOUT_S)

    def _retry(self, operation: Callable[..., T], timeout_s: float | None, *args: Any) -> T:
        """Run an operation, and repeat it on another connection after a broken connection or a deadlock.

        After a restart of the server each pooled connection may be broken, so a call is repeated once more often than
        the pool has connections. A bot's call (`timeout_s` None) ends by its deadline, for any wait.
        """
        answer_timeout_s = self.answer_timeout_s if timeout_s is None else timeout_s
        began = monotonic()
        give_up_at = began + max(answer_timeout_s, CONNECT_TIMEOUT_S)
        deadline = began + BOT_DEADLINE_S
        repeats = self._max_connections + 1
        while True:
            conn = self._checkout()
            left_s = deadline - monotonic() if timeout_s is None else answer_timeout_s
            conn.answer_timeout_s = min(answer_timeout_s, left_s)
            try:
                return operation(conn, *args)
            except psycopg.Error as error:
                # The status is ACTIVE while the statement still runs: its answer didn't come within the limit.
                timed_out = conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
                if timed_out:
                    # A short attempt to cancel the statement on a server that didn't answer in time.
                    with suppress(psycopg.Error):
                        conn.cancel_safe(timeout=1.0)
                    conn.close()
                elif isinstance(error, (errors.ReadOnlySqlTransaction, *_PREPARED_STATEMENT_LOST)):
                    # Either another server is the primary now, or the prepared statement is lost. A new connection
                    # reaches the primary, and prepares the statement again.
                    conn.close()
                repeatable = conn.closed or isinstance(error, _REPEATABLE)
                if isinstance(error, errors.ReadOnlySqlTransaction) and conn.opened_at > began:
                    repeatable = False  # A new connection reaches a server that takes no writes either.
                if timed_out or not repeatable or not repeats or monotonic() > give_up_at:
                    self._raise(error)
                repeats -= 1
            finally:
                self._pool.putconn(conn)

    def _checkout(self) -> _BoundedConnection:
        """Take a connection from the pool; the caller puts it back."""
        require_own_process(self._process)
        try:
            return self._pool.getconn()
        except PoolClosed:
            raise StoreClosed("the store is closed; open a new one") from None
        except PoolTimeout as error:
            stats = self._pool.get_stats()
            if stats.get("pool_available", 0) == 0 and stats.get("pool_size", 0) >= self._max_connections:
                detail = f"all {self._max_connections} connections were busy for {CONNECT_TIMEOUT_S} s"
            else:
                detail = f"no connection within {CONNECT_TIMEOUT_S} s"
            raise StoreUnavailable(f"{self.name}: {detail}; is the database up?") from error

    def _configure(self, conn: _BoundedConnection) -> None:
        """Let a new connection prepare statements, unless it has a pooler's process id instead of the server's."""
        ((server_process,),) = conn.execute("SELECT pg_backend_pid()").fetchall()
        conn.prepares = server_process == conn.info.backend_pid
        if not conn.prepares:
            return
        conn.prepare_threshold = sys.maxsize  # With None, psycopg ignores `prepare=True`.
        # A table that is missing or locked must not make the connection useless.
        with suppress(psycopg.Error):
            with conn.pipeline():
                conn.execute(_LIMIT_LOCK_WAIT)
                conn.execute(*self._large_query, prepare=True)
            conn.large_query_prepared = True

    def _raise(self, error: psycopg.Error) -> NoReturn:
        """Raise our error in place of psycopg's. It quotes only the first line: the next ones may show values."""
        text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
        translated: KeystoreError
        match error:
            case (
                psycopg.IntegrityError() | psycopg.DataError() | errors.RaiseException() | errors.ProgramLimitExceeded()
            ):
                # Repeating can't help: a constraint, a column's length, a trigger or an index refuses this row.
                raise InvalidInput(f"{self.name}: the database refused a row: {text}") from None
            case _ if (error.sqlstate or "").startswith(REFUSAL_CLASS):
                raise RefusalError(error.sqlstate or "", json.loads(error.diag.message_detail or "{}")) from None
            case (
                errors.UndefinedTable()
                | errors.UndefinedColumn()
                | errors.UndefinedFunction()
                | errors.DatatypeMismatch()
            ):
                translated = SchemaMismatch(f"{self.name}: {text}; run `{command('migrate')}`")
            case errors.InsufficientPrivilege():
                translated = SchemaMismatch(f"{self.name}: {text}; use the role that owns the tables")
            case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
                translated = StoreUnavailable(f"{self.name}: the server refused the login: {text}")
            case errors.QueryCanceled():
                translated = StatementTimedOut(
                    f"{self.name}: {text}; where the role has a short statement_timeout, ALTER ROLE … SET "
                    "statement_timeout gives it more time"
                )
            case errors.LockNotAvailable():
                translated = StatementTimedOut(f"{self.name}: {text}; another session holds the rows of this company")
            case errors.InvalidColumnReference():
                translated = SchemaMismatch(
                    f"{self.name}: {text}; the tables have lost the primary key that a write relies on"
                )
            case errors.FeatureNotSupported() | errors.SyntaxError():
                translated = KeystoreError(f"{self.name}: {text}")
            case _ if _UNUSABLE_VALUE.search(text):
                raise InvalidInput(f"{self.name}: database address: {text}") from error
            case psycopg.ProgrammingError() if (error.sqlstate or "").startswith("42"):
                translated = SchemaMismatch(f"{self.name}: {text}; the tables aren't those of this version")
            case _ if "authentication failed" in text or "no password supplied" in text:
                translated = StoreUnavailable(f"{self.name}: the server refused the login; check user and password")
            case _:
                translated = StoreUnavailable(f"{self.name}: {text}")
        raise translated from error


def _libpq_parameters() -> set[str]:
    return {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | {"ssl"}


def _parse_address(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError("libpq can't read the address") from None


def _execute(
    conn: _BoundedConnection, statement: str, params: Params, *, prepare: bool = False, pipelined: bool = False
) -> list[Row]:
    with conn.cursor(binary=True) as cursor:
        with conn.pipeline() if pipelined else nullcontext():
            cursor.execute(statement, params, prepare=prepare)
        return _rows_of(cursor)


def _rows_of(cursor: psycopg.Cursor[Row]) -> list[Row]:
    has_rows = cursor.pgresult is not None and cursor.pgresult.status == psycopg.pq.ExecStatus.TUPLES_OK
    return cursor.fetchall() if has_rows else []


def _execute_and_prepare(conn: _BoundedConnection, statement: str, params: Params) -> list[Row]:
    """Run a statement. After PREPARE_AFTER uses it is also prepared, in the same round trip."""
    if not conn.prepares:
        return _execute(conn, statement, params)
    # psycopg prepares a statement once for each combination of parameter types, and None is a type of its own.
    statement_and_nulls = (statement, tuple([value is None for value in params.values()]))
    uses = conn.uses[statement_and_nulls] = conn.uses[statement_and_nulls] + 1
    if uses <= PREPARE_AFTER + 1:
        return _execute(conn, statement, params, prepare=uses > PREPARE_AFTER, pipelined=uses > PREPARE_AFTER)
    # A cursor holds its parameters and its result until its next use. So that of a large call isn't used again.
    cursor = conn.cursors.pop(statement, None) or conn.cursor(binary=True)
    rows = _rows_of(cursor.execute(statement, params, prepare=True))
    if _is_small(params, rows):
        conn.cursors[statement] = cursor
    return rows


def _is_small(params: Params, rows: list[Row]) -> bool:
    held_bytes = 0
    for values in (params.values(), *rows):
        for value in values:
            if isinstance(value, list):
                if len(value) > MOST_ITEMS_HELD:
                    return False
                held_bytes += sum([len(item) for item in value if isinstance(item, str | bytes)])
            elif type(value) is bytes:
                held_bytes += len(value)
    return len(rows) <= MOST_ITEMS_HELD and held_bytes <= MOST_BYTES_HELD
