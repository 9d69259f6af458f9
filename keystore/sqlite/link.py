"""The one module that talks to SQLite: a few connections, one way to run a statement, and errors in our words.

What it holds to:
* WAL with `synchronous=FULL`: readers never wait for a writer, and what is acknowledged survives a power cut;
* a transaction that writes begins as a writer (`BEGIN IMMEDIATE`), so that it can't find out half-way that it may
  not become one. Threads take turns on a lock, and SQLite's busy timeout makes processes take turns, so that no
  `database is locked` reaches a caller (elsewhere in this field such a lock silently drops messages);
* a connection belongs to no thread, and is used by one at a time.

The connection itself is sqlite-utils' `Database`. Its `atomic()` isn't used: that begins deferred.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from sqlite_utils import Database

from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch, StoreClosed, StoreUnavailable
from keystore.sql.link import Row, Run, T, require_own_process

Params = Mapping[str, Any] | Sequence[Row]
"""One statement's named parameters, or one row of parameters for each time it is run."""

BUSY_TIMEOUT_S = 60.0
"""For another process to finish its writes. 8 processes that write without a pause get their turns well within it."""

TURN_TIMEOUT_S = 60.0
"""For a connection, or for a turn to write, while other threads of this process have them."""

OLDEST_SQLITE = (3, 35)

_WAL_POLL_S = 0.01

_making = threading.Lock()
"""Held while a file is made, so that no other thread has locks on it yet when the descriptor is closed."""

_READS = ("SELECT", "WITH")

_WHAT_TO_DO = {
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {BUSY_TIMEOUT_S:.0f} s; repeating is safe",
    sqlite3.SQLITE_READONLY: "it can't be written; check owner and permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check that its folder exists and that both may be written",
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this call was written",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
}


class SqliteLink:
    """Up to `max_connections` connections to one SQLite file; thread-safe."""

    def __init__(self, path: Path, max_connections: int) -> None:
        """Opens the file, making it for its owner alone where there is none; raises KeystoreError."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise KeystoreError(
                f"this Python's SQLite is {sqlite3.sqlite_version}; 3.35 or newer is needed (RETURNING)"
            )
        self.path = path.absolute()
        self.name = f"sqlite:///{self.path}"
        self._slots = threading.BoundedSemaphore(max_connections)
        self._writing = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[Database] = []
        self._closed = False
        self._process = os.getpid()
        try:
            _make(self.path)
        except OSError as error:
            raise StoreUnavailable(f"{self.name}: can't open the file for writing: {error.strerror}") from error
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise StoreUnavailable(f"{self.name}: {_WHAT_TO_DO[sqlite3.SQLITE_READONLY]}")
        try:
            self._idle.append(self._connect())
        except sqlite3.Error as error:
            self._raise(error)

    @property
    def usable(self) -> bool:
        """Whether it is open, and in the process that opened it."""
        return not self._closed and os.getpid() == self._process

    def rows(self, statement: str, params: Params, timeout_s: float | None = None, *, large: bool = False) -> list[Row]:
        """Runs one statement on its own and returns its rows; the busy timeout is what bounds it."""
        if statement.startswith(_READS):
            return self._used(lambda db: _run(db, statement, params))
        return self.work(lambda run: run(statement, params))

    def work(self, unit: Callable[[Run], T], timeout_s: float = BUSY_TIMEOUT_S, *, snapshot: bool = False) -> T:
        """Runs `unit(run)` in one transaction; with `snapshot` read-only, all of it as of one moment."""

        def in_transaction(db: Database) -> T:
            try:
                # Inside: an interrupt while it waits must not leave the connection in a transaction nobody ends.
                db.conn.execute("BEGIN" if snapshot else "BEGIN IMMEDIATE")
                result = unit(lambda statement, params: _run(db, statement, params))
                db.conn.execute("COMMIT")
            finally:
                if db.conn.in_transaction:
                    db.conn.execute("ROLLBACK")
            return result

        if snapshot:
            return self._used(in_transaction)
        if not self._writing.acquire(timeout=TURN_TIMEOUT_S):
            raise StoreUnavailable(f"{self.name}: other threads' writes took {TURN_TIMEOUT_S:.0f} s; repeating is safe")
        try:
            return self._used(in_transaction)
        finally:
            self._writing.release()

    def require_open(self) -> None:
        """Raises StoreClosed after `close`, and in a forked process: a connection shared with it mixes up answers."""
        require_own_process(self._process)
        if self._closed:
            raise StoreClosed("the store is closed; open a new one")

    def close(self) -> None:
        """Closes every connection; one that is in use is closed when its call ends."""
        with self._idle_lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    def _connect(self) -> Database:
        conn = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db = Database(conn, execute_plugins=False)
        try:
            _use_wal(db)
            conn.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            db.close()
            raise
        return db

    @contextmanager
    def _connection(self) -> Iterator[Database]:
        self.require_open()
        if not self._slots.acquire(timeout=TURN_TIMEOUT_S):
            raise StoreUnavailable(f"{self.name}: all connections were busy for {TURN_TIMEOUT_S:.0f} s")
        try:
            with self._idle_lock:
                db = self._idle.pop() if self._idle else None
            db = db or self._connect()
            try:
                yield db
            finally:
                with self._idle_lock:
                    if not self._closed:
                        self._idle.append(db)
                if self._closed:
                    db.close()
        finally:
            self._slots.release()

    def _used(self, operation: Callable[[Database], T]) -> T:
        try:
            with self._connection() as db:
                return operation(db)
        except sqlite3.Error as error:
            self._raise(error)

    def _raise(self, error: sqlite3.Error) -> NoReturn:
        """Our error for SQLite's. (Its messages name tables and columns, never values.)"""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise InvalidInput(f"{self.name}: this file is not a SQLite database; check KEYSTORE_URL") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise KeystoreError(
                f"{self.name}: the file is damaged ({error}); stop everything that uses it, keep a copy, and restore "
                "a backup or run `sqlite3 FILE .recover`"
            ) from error
        if code == sqlite3.SQLITE_CONSTRAINT:
            raise InvalidInput(f"{self.name}: the database refused a row: {error}") from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise SchemaMismatch(f"{self.name}: {error}; run `python run.py migrate`") from error
        raise StoreUnavailable(f"{self.name}: {_WHAT_TO_DO.get(code, error)}") from error


def _run(db: Database, statement: str, params: Params) -> list[Row]:
    if isinstance(params, Mapping):
        return db.conn.execute(statement, params).fetchall()
    db.conn.executemany(statement, params)
    return []


def _make(path: Path) -> None:
    """Makes the file, for its owner alone, where there is none.

    A file that is there isn't opened: closing any descriptor of it would end the locks that this process's other
    connections have on it. Another process that closes would then take itself for the last, remove the log that we
    still write to, and what was acknowledged would be gone.
    """
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _use_wal(db: Database) -> None:
    """Turns the log on. A new file is taken for that by one process alone, and no busy timeout waits for it."""
    give_up_at = monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.enable_wal()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up_at:
                raise
        threading.Event().wait(_WAL_POLL_S)
