"""The one module that talks to psycopg: a pool, one way to run a statement, and errors in our words.

What it holds to:
* a statement is one round trip: autocommit, no checking query before a pooled connection is used. A broken connection
  is found by failing, and the call is repeated on another, since every operation is idempotent;
* a bot's statements are prepared where the connection ends at the server itself (decision 12): planning is most of what
  a small one costs. A transaction-pooling proxy has no session to keep them in, so behind one nothing is prepared.
  Other statements never are: they are planned for what they are asked;
* nobody waits for ever: connecting, waiting for a connection and waiting for an answer are each bounded. psycopg
  bounds the last only inside its own code (`Connection.wait(timeout=…)`, 3.3.9), so a subclass passes the bound in;
* psycopg's errors become ours, with their cause; except where Postgres's message may quote a row's values.
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
from keystore.postgres.arrays import BYTEAS, TEXTS, Blobs, Texts
from keystore.sql.link import UPKEEP_TIMEOUT_S, Row, RowLocked, Run, T, require_own_process

Params = Mapping[str, Any]

CONNECT_TIMEOUT_S = 5
"""For opening one connection, and for waiting for one from the pool."""

ANSWER_TIMEOUT_S = 15.0
"""For a bot's statement to be answered."""

NOT_AN_ADDRESS = (
    "not a Postgres address; expected postgresql://user:password@host:5432/database, "
    "with @ / : # ? in user or password percent-encoded"
)

PREPARE_AFTER = 5
"""Uses of a statement on one connection."""

_WAIT_BRIEFLY = "SELECT set_config('lock_timeout', '200ms', true)"
"""Until the end of the transaction, and so of the pipeline."""

_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement, errors.FeatureNotSupported)
"""What a prepared statement that isn't ours any more is answered with; the last when a column's type has changed."""

_REPEATABLE = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.UniqueViolation,
)


class _TextsDumper(Dumper):
    format, oid = psycopg.pq.Format.BINARY, TEXTS

    def dump(self, obj: Texts) -> bytes:
        return obj.sent()


class _BlobsDumper(Dumper):
    format, oid = psycopg.pq.Format.BINARY, BYTEAS

    def dump(self, obj: Blobs) -> bytes:
        return obj.sent()


psycopg.adapters.register_dumper(Texts, _TextsDumper)
psycopg.adapters.register_dumper(Blobs, _BlobsDumper)


class _BoundedConnection(psycopg.Connection[Row]):
    """A connection on which every wait for the server ends."""

    answer_timeout_s = ANSWER_TIMEOUT_S
    prepares = False
    """Whether the server itself answers: no pooler in between that would mix up prepared statements."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.uses: Counter[tuple[str, tuple[bool, ...]]] = Counter()
        self.prepared_at_opening: str | None = None

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        return super().wait(gen, interval, self.answer_timeout_s if timeout is None else timeout)


class PostgresLink:
    """A pool of connections to one Postgres database; thread-safe."""

    def __init__(self, url: str, max_connections: int, large: tuple[str, Params] | None = None) -> None:
        """Connects once, to find out what is wrong with the address; raises StoreUnavailable or InvalidInput.

        `large`: a statement whose answer is large (see `rows`), with parameters for which it answers nothing.
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
        self._large = large
        self._process = os.getpid()
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise InvalidInput(NOT_AN_ADDRESS) from None
        self._options = {key: value for key, value in self._options.items() if key not in given}
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
            configure=self._opened,
            open=True,
            name="keystore",
        )

    @property
    def usable(self) -> bool:
        """Whether it is open, and in the process that opened it."""
        return not self._pool.closed and os.getpid() == self._process

    def rows(self, statement: str, params: Params, timeout_s: float | None = None, *, large: bool = False) -> list[Row]:
        """Runs one statement on its own, in one round trip, and returns its rows. Without `timeout_s` it is a bot's.

        A `large` one is prepared when a connection is opened, or not at all: later its answer would begin before the
        pipeline that prepares it has been sent.
        """
        run: Callable[[_BoundedConnection, str, Params], list[Row]]
        run = _run if timeout_s is not None else _run_large if large else _run_often
        return self._repeated(run, timeout_s, statement, params)

    def run_in_turn(self, statements: list[str], params: Params) -> list[Row]:
        """Runs several statements in one round trip, all or none; each sees what was committed before it began.

        Returns the rows of all of them.
        """

        def run(conn: _BoundedConnection) -> list[Row]:
            # Only a simple query takes several, and it takes no parameters: psycopg quotes them here.
            cursor = psycopg.ClientCursor(conn)
            cursor.execute(";".join(statements), params)
            return [row for result in cursor.results() for row in result.fetchall()]

        return self._repeated(run, None)

    def work(self, unit: Callable[[Run], T], timeout_s: float = UPKEEP_TIMEOUT_S, *, snapshot: bool = False) -> T:
        """Runs `unit(run)` in one transaction, from its start again if the connection breaks.

        With `snapshot`, read-only and all of it as of one moment.
        """

        def in_transaction(conn: _BoundedConnection) -> T:
            with conn.transaction():
                if snapshot:
                    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return unit(lambda statement, params: _run(conn, statement, params))

        return self._repeated(in_transaction, timeout_s)

    def connect(self, answer_timeout_s: float) -> psycopg.Connection[Row]:
        """A connection beside the pool, which the caller closes. Raises StoreUnavailable."""
        try:
            conn = _BoundedConnection.connect(self.url, **self._options)
        except psycopg.Error as error:
            self._raise(error)
        conn.answer_timeout_s = answer_timeout_s
        return conn

    def close(self) -> None:
        """Closes every connection and stops the pool's threads."""
        if os.getpid() == self._process:
            self._pool.close(timeout=CONNECT_TIMEOUT_S)

    def _repeated(self, operation: Callable[..., T], timeout_s: float | None, *args: Any) -> T:
        """Repeats an operation that met a broken connection or lost a deadlock, on another connection each time.

        After a restart each pooled connection is broken in turn, so there are as many repeats as connections.
        """
        answer_timeout_s = self.answer_timeout_s if timeout_s is None else timeout_s
        give_up_at = monotonic() + max(answer_timeout_s, CONNECT_TIMEOUT_S)
        repeats = self._max_connections + 1
        while True:
            conn = self._borrowed()
            conn.answer_timeout_s = answer_timeout_s
            try:
                return operation(conn, *args)
            except psycopg.Error as error:
                timed_out = conn.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE
                if timed_out:
                    _abandon(conn)
                elif isinstance(error, (errors.ReadOnlySqlTransaction, *_NOT_PREPARED)):
                    # Another server is the primary by now, or has our statements; a new connection finds it.
                    conn.close()
                repeatable = conn.closed or isinstance(error, _REPEATABLE)
                if timed_out or not repeatable or not repeats or monotonic() > give_up_at:
                    self._raise(error)
                repeats -= 1
            finally:
                self._pool.putconn(conn)

    def _borrowed(self) -> _BoundedConnection:
        """A connection of the pool, to be put back."""
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

    def _opened(self, conn: _BoundedConnection) -> None:
        """Has a new connection prepare, unless a proxy answers in the server's place: its process ids are its own."""
        ((server_process,),) = conn.execute("SELECT pg_backend_pid()").fetchall()
        conn.prepares = server_process == conn.info.backend_pid
        if not conn.prepares:
            return
        conn.prepare_threshold = sys.maxsize  # With None, psycopg prepares nothing even where it is told to.
        if self._large is not None:
            # A table that isn't there yet, or that somebody keeps locked, must not keep the connection from others.
            with suppress(psycopg.Error):
                with conn.pipeline():
                    conn.execute(_WAIT_BRIEFLY)
                    conn.execute(*self._large, prepare=True)
                conn.prepared_at_opening = self._large[0]

    def _raise(self, error: psycopg.Error) -> NoReturn:
        """Our error for psycopg's. Only its first line is quoted: what follows may show values."""
        text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
        told: KeystoreError
        match error:
            case errors.CheckViolation() | errors.NotNullViolation():
                raise InvalidInput(f"{self.name}: the database refused a row: {text}") from None
            case psycopg.IntegrityError() | psycopg.DataError():
                raise KeystoreError(f"{self.name}: the database refused the data: {text}") from None
            case errors.UndefinedTable() | errors.UndefinedColumn() | errors.DatatypeMismatch():
                told = SchemaMismatch(f"{self.name}: {text}; run `python run.py migrate`")
            case errors.InsufficientPrivilege():
                told = SchemaMismatch(f"{self.name}: {text}; use the role that owns the tables")
            case errors.InvalidPassword() | errors.InvalidAuthorizationSpecification():
                told = StoreUnavailable(f"{self.name}: the server refused the login: {text}")
            case errors.LockNotAvailable():
                told = RowLocked(f"{self.name}: {text}")
            case errors.FeatureNotSupported() | errors.SyntaxError():
                told = KeystoreError(f"{self.name}: {text}")
            case _ if "authentication failed" in text or "no password supplied" in text:
                told = StoreUnavailable(f"{self.name}: the server refused the login; check user and password")
            case _:
                told = StoreUnavailable(f"{self.name}: {text}")
        raise told from error


def database_name(url: str) -> str:
    """Host, port and database of a Postgres address, nothing secret: `postgresql://db.example:5432/bots`.

    Raises InvalidInput for an address in which the password can't be told from the rest: it isn't shown then.
    """
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        raise InvalidInput(NOT_AN_ADDRESS) from None
    beside = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
    if not readable or parts.netloc.count("@") > 1 or "@" in beside:
        raise InvalidInput(NOT_AN_ADDRESS)
    host = parts.netloc.rpartition("@")[2] or "local socket"
    return f"postgresql://{host}/{unquote(parts.path.lstrip('/'))}"


def _run(
    conn: _BoundedConnection, statement: str, params: Params, *, prepare: bool = False, pipelined: bool = False
) -> list[Row]:
    with conn.cursor(binary=True) as cursor:
        with conn.pipeline() if pipelined else nullcontext():
            cursor.execute(statement, params, prepare=prepare)
        answers = cursor.pgresult is not None and cursor.pgresult.status == psycopg.pq.ExecStatus.TUPLES_OK
        return cursor.fetchall() if answers else []


def _run_often(conn: _BoundedConnection, statement: str, params: Params) -> list[Row]:
    """Runs a statement that is prepared once it is used often: then in one round trip with its own running."""
    if not conn.prepares:
        return _run(conn, statement, params)
    kind = (statement, tuple([value is None for value in params.values()]))
    uses = conn.uses[kind] = conn.uses[kind] + 1
    return _run(conn, statement, params, prepare=uses > PREPARE_AFTER, pipelined=uses == PREPARE_AFTER + 1)


def _run_large(conn: _BoundedConnection, statement: str, params: Params) -> list[Row]:
    """Runs a statement that may have been prepared when the connection was opened."""
    return _run(conn, statement, params, prepare=conn.prepared_at_opening == statement)


def _abandon(conn: _BoundedConnection) -> None:
    """Lets go of a connection whose server didn't answer in time; asks the server to stop, without waiting long."""
    with suppress(psycopg.Error):
        conn.cancel_safe(timeout=1.0)
    conn.close()
