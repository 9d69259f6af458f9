"""The only module that uses psycopg: a pool, statements with time limits, and psycopg's errors translated into ours.

Its rules:
* A statement is one round trip: autocommit, and no check of a pooled connection before its use. A broken connection
  fails, and the call is repeated on another, because every operation is idempotent.
* A bot's statements are prepared where the server itself answers (decision 12), because planning is most of the cost of
  a small statement. Behind a transaction-pooling proxy nothing is prepared, because there is no session to hold it.
  Upkeep statements are never prepared: each is planned for its parameters.
* Every wait is bounded: for opening a connection, for one from the pool, and for an answer. psycopg bounds the last
  only inside its own code (`Connection.wait(timeout=…)`, 3.3.9), so a subclass passes the limit.
* A translated error has psycopg's as its cause, except where Postgres's message may quote the values of a row.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from time import monotonic
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch, StoreClosed, StoreUnavailable
from keystore.postgres.arrays import Blobs, Texts
from keystore.sql.link import UPKEEP_TIMEOUT_S, Row, RowLocked, Run, T, require_own_process

Params = Mapping[str, Any]

CONNECT_TIMEOUT_S = 5
"""Timeout for opening a connection, and for getting one from the pool."""

ANSWER_TIMEOUT_S = 15.0
"""Timeout for the answer to a bot's statement."""

NOT_AN_ADDRESS = (
    "not a Postgres address; expected postgresql://user:password@host:5432/database, "
    "with @ / : # ? in user or password percent-encoded"
)

PREPARE_AFTER = 5
"""Number of unprepared uses of a statement on a connection, before it is prepared."""

_WAIT_BRIEFLY = "SELECT set_config('lock_timeout', '200ms', true)"
"""Holds until the end of the transaction, and so of the pipeline."""

_PREPARED_STATEMENT_LOST = (
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
    errors.FeatureNotSupported,
)
"""Errors when the server no longer has our prepared statement; the last one when a column's type has changed."""

_REPEATABLE = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.UniqueViolation,
)


class _ArrayDumper(Dumper):
    format = psycopg.pq.Format.BINARY

    def dump(self, obj: Texts | Blobs) -> bytes:
        return obj.encoded()


for kind in (Texts, Blobs):
    psycopg.adapters.register_dumper(kind, type("_Dumper", (_ArrayDumper,), {"oid": kind.oid}))


class _BoundedConnection(psycopg.Connection[Row]):
    """A connection on which every wait for the server ends."""

    answer_timeout_s = ANSWER_TIMEOUT_S
    prepares = False
    """True when the server itself answers, without a pooler in between that would mix up prepared statements."""
    has_large_query = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_at = monotonic()
        self.uses: Counter[tuple[str, tuple[bool, ...]]] = Counter()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        return super().wait(gen, interval, self.answer_timeout_s if timeout is None else timeout)


class PostgresLink:
    """A pool of connections to one Postgres database; thread-safe."""

    def __init__(self, url: str, max_connections: int, large_query: tuple[str, Params]) -> None:
        """Connect once, to detect a wrong address. Raises StoreUnavailable or InvalidInput.

        `large_query` is a bot's statement with many rows (see `rows`), and parameters for which it has none.
        """
        self.name = database_name(url)
        self.url = url
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
        try:
            options_of_url = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise InvalidInput(NOT_AN_ADDRESS) from None
        self._options = {key: value for key, value in self._options.items() if key not in options_of_url}
        self.connect(ANSWER_TIMEOUT_S).close()
        self._pool: ConnectionPool[_BoundedConnection] = ConnectionPool(
            url,
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

        Without `timeout_s` it is a bot's: its timeout is short, and it is prepared once it is used often. The large
        query is prepared when a connection is opened, or never: later its answer would begin before the pipeline that
        prepares it has been sent.
        """
        if timeout_s is not None:
            return self._retry(_execute, timeout_s, statement, params)
        if statement == self._large_query[0]:
            return self._retry(lambda conn: _execute(conn, statement, params, prepare=conn.has_large_query), None)
        return self._retry(_execute_often, None, statement, params)

    def run_in_turn(self, statements: list[str], params: Params) -> list[Row]:
        """Run several statements in one round trip and one transaction, and return the rows of all.

        Each statement sees the data that was committed before it began.
        """

        def run(conn: _BoundedConnection) -> list[Row]:
            # Only the simple protocol runs several. It has no parameters, so psycopg quotes them on this side.
            cursor = psycopg.ClientCursor(conn)
            cursor.execute(";".join(statements), params)
            return [row for result in cursor.results() if result.description for row in result.fetchall()]

        return self._retry(run, None)

    def work(self, unit: Callable[[Run], T], *, snapshot: bool = False) -> T:
        """Run `unit(run)` in one transaction, and from its start again if the connection breaks.

        With `snapshot` the transaction is read-only, and sees the data of one moment.
        """

        def in_transaction(conn: _BoundedConnection) -> T:
            with conn.transaction():
                if snapshot:
                    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return unit(lambda statement, params: _execute(conn, statement, params))

        return self._retry(in_transaction, UPKEEP_TIMEOUT_S)

    def connect(self, answer_timeout_s: float) -> psycopg.Connection[Row]:
        """Open a connection outside the pool, which the caller closes. Raises StoreUnavailable."""
        try:
            conn = _BoundedConnection.connect(self.url, **self._options)
        except psycopg.Error as error:
            self._raise(error)
        conn.answer_timeout_s = answer_timeout_s
        return conn

    def close(self) -> None:
        if os.getpid() == self._process:
            self._pool.close(timeout=CONNECT_TIMEOUT_S)

    def _retry(self, operation: Callable[..., T], timeout_s: float | None, *args: Any) -> T:
        """Run an operation, and repeat it on another connection after a broken connection or a deadlock.

        After a restart of the server each pooled connection is broken, so there are as many repeats as connections.
        """
        answer_timeout_s = self.answer_timeout_s if timeout_s is None else timeout_s
        began = monotonic()
        give_up_at = began + max(answer_timeout_s, CONNECT_TIMEOUT_S)
        repeats = self._max_connections + 1
        while True:
            conn = self._checkout()
            conn.answer_timeout_s = answer_timeout_s
            try:
                return operation(conn, *args)
            except psycopg.Error as error:
                timed_out = conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
                if timed_out:
                    # A short attempt to cancel the statement on a server that didn't answer in time.
                    with suppress(psycopg.Error):
                        conn.cancel_safe(timeout=1.0)
                    conn.close()
                elif isinstance(error, (errors.ReadOnlySqlTransaction, *_PREPARED_STATEMENT_LOST)):
                    # Another server is the primary now, or has our statements; a new connection reaches it.
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
        """Get a connection of the pool, which the caller puts back."""
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
        """Let a new connection prepare statements, unless it reports a proxy's process id instead of the server's."""
        ((server_process,),) = conn.execute("SELECT pg_backend_pid()").fetchall()
        conn.prepares = server_process == conn.info.backend_pid
        if not conn.prepares:
            return
        conn.prepare_threshold = sys.maxsize  # With None, psycopg ignores `prepare=True`.
        # A table that is missing or locked must not make the connection useless.
        with suppress(psycopg.Error):
            with conn.pipeline():
                conn.execute(_WAIT_BRIEFLY)
                conn.execute(*self._large_query, prepare=True)
            conn.has_large_query = True

    def _raise(self, error: psycopg.Error) -> NoReturn:
        """Raise our error for psycopg's. Only the first line is quoted: the next ones may show values."""
        text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
        translated: KeystoreError
        match error:
            case errors.CheckViolation() | errors.NotNullViolation():
                raise InvalidInput(f"{self.name}: the database refused a row: {text}") from None
            case psycopg.IntegrityError() | psycopg.DataError():
                raise KeystoreError(f"{self.name}: the database refused the data: {text}") from None
            case errors.UndefinedTable() | errors.UndefinedColumn() | errors.DatatypeMismatch():
                translated = SchemaMismatch(f"{self.name}: {text}; run `python run.py migrate`")
            case errors.InsufficientPrivilege():
                translated = SchemaMismatch(f"{self.name}: {text}; use the role that owns the tables")
            case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
                translated = StoreUnavailable(f"{self.name}: the server refused the login: {text}")
            case errors.LockNotAvailable():
                translated = RowLocked(f"{self.name}: {text}")
            case errors.FeatureNotSupported() | errors.SyntaxError():
                translated = KeystoreError(f"{self.name}: {text}")
            case _ if "authentication failed" in text or "no password supplied" in text:
                translated = StoreUnavailable(f"{self.name}: the server refused the login; check user and password")
            case _:
                translated = StoreUnavailable(f"{self.name}: {text}")
        raise translated from error


def database_name(url: str) -> str:
    """Return the host, port and database of a Postgres address without secrets: `postgresql://db.example:5432/bots`.

    Raises InvalidInput, without showing the address, when the password can't be told from the rest.
    """
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidInput(NOT_AN_ADDRESS) from None
    behind_host = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
    if not readable or parts.netloc.count("@") > 1 or "@" in behind_host:
        raise InvalidInput(NOT_AN_ADDRESS)
    host = parts.netloc.rpartition("@")[2] or "local socket"
    return f"postgresql://{host}/{unquote(parts.path.lstrip('/'))}"


def _execute(
    conn: _BoundedConnection, statement: str, params: Params, *, prepare: bool = False, pipelined: bool = False
) -> list[Row]:
    with conn.cursor(binary=True) as cursor:
        with conn.pipeline() if pipelined else nullcontext():
            cursor.execute(statement, params, prepare=prepare)
        has_rows = cursor.pgresult is not None and cursor.pgresult.status == psycopg.pq.ExecStatus.TUPLES_OK
        return cursor.fetchall() if has_rows else []


def _execute_often(conn: _BoundedConnection, statement: str, params: Params) -> list[Row]:
    """Run a statement, and prepare it once it is used often, in the same round trip as that run."""
    if not conn.prepares:
        return _execute(conn, statement, params)
    kind = (statement, tuple([value is None for value in params.values()]))
    uses = conn.uses[kind] = conn.uses[kind] + 1
    return _execute(conn, statement, params, prepare=uses > PREPARE_AFTER, pipelined=uses == PREPARE_AFTER + 1)
