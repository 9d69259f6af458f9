"""The only module that uses SQLite: a few connections, statements, and SQLite's errors translated into ours.

Its rules:
* WAL with `synchronous=FULL`: readers never wait for a writer, and acknowledged writes survive a power cut.
* A transaction that writes begins as a writer (`BEGIN IMMEDIATE`), so that it can't fail to become one half-way.
  Threads take turns on a lock and processes on SQLite's busy timeout, so that no `database is locked` reaches a caller.
  (Elsewhere in this field, such an error silently drops messages.)
* A connection belongs to no thread, and is used by one at a time.

A connection is sqlite-utils' `Database`. Its `atomic()` isn't used, because it begins deferred.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from sqlite_utils import Database

from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch, StoreClosed, StoreUnavailable
from keystore.sql.link import Row, Run, T, require_own_process

Params = Mapping[str, Any] | Sequence[Row]
"""The named parameters of a statement, or a row of parameters for each time that it is run."""

BUSY_TIMEOUT_S = 60.0
"""Wait for other processes' writes. 8 processes that write without a pause get their turns well within it."""

TURN_TIMEOUT_S = 60.0
"""Wait for a connection, or for a turn to write, while other threads of this process have them."""

_creating = threading.Lock()
"""Held while a file is created, so that no other thread has locks on it when the descriptor is closed."""

_REMEDIES = {
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {BUSY_TIMEOUT_S:.0f} s; repeating is safe",
    sqlite3.SQLITE_READONLY: "it can't be written; check owner and permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check that its folder exists and that both may be written",
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this call was written",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
}


class SqliteLink:
    """Up to `max_connections` connections to one SQLite file; thread-safe."""

    def __init__(self, path: Path, max_connections: int) -> None:
        """Open the file, or create it for its owner alone. Raises KeystoreError."""
        if sqlite3.sqlite_version_info < (3, 35):
            raise KeystoreError(
                f"this Python's SQLite is {sqlite3.sqlite_version}; 3.35 or newer is needed (RETURNING)"
            )
        self.path = path.absolute()
        self.name = f"sqlite:///{self.path}"
        self._slots = threading.BoundedSemaphore(max_connections)
        self._write_lock = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[Database] = []
        self._closed = False
        self._process = os.getpid()
        try:
            _create(self.path)
        except OSError as error:
            raise StoreUnavailable(f"{self.name}: can't open the file for writing: {error.strerror}") from error
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise StoreUnavailable(f"{self.name}: {_REMEDIES[sqlite3.SQLITE_READONLY]}")
        try:
            self._idle.append(self._connect())
        except sqlite3.Error as error:
            self._raise(error)

    @property
    def usable(self) -> bool:
        return not self._closed and os.getpid() == self._process

    def rows(self, statement: str, params: Params, timeout_s: float | None = None) -> list[Row]:
        """Run one statement by itself and return its rows. The busy timeout bounds it, and `timeout_s` is ignored."""
        if statement.startswith(("SELECT", "WITH")):
            return self._with_connection(lambda db: _execute(db, statement, params))
        return self.work(lambda run: run(statement, params))

    def work(self, unit: Callable[[Run], T], *, snapshot: bool = False) -> T:
        """Run `unit(run)` in one transaction; with `snapshot` in one that reads the data of one moment."""

        def in_transaction(db: Database) -> T:
            try:
                # Inside `try`, because an interrupted wait must not leave the connection in a transaction.
                db.conn.execute("BEGIN" if snapshot else "BEGIN IMMEDIATE")
                result = unit(lambda statement, params: _execute(db, statement, params))
                db.conn.execute("COMMIT")
            finally:
                if db.conn.in_transaction:
                    db.conn.execute("ROLLBACK")
            return result

        if snapshot:
            return self._with_connection(in_transaction)
        if not self._write_lock.acquire(timeout=TURN_TIMEOUT_S):
            raise StoreUnavailable(f"{self.name}: other threads' writes took {TURN_TIMEOUT_S:.0f} s; repeating is safe")
        try:
            return self._with_connection(in_transaction)
        finally:
            self._write_lock.release()

    def require_open(self) -> None:
        """Raise StoreClosed after `close`, and in a forked process."""
        require_own_process(self._process)
        if self._closed:
            raise StoreClosed("the store is closed; open a new one")

    def close(self) -> None:
        """Close every connection; one in use is closed when its call ends."""
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

    def _with_connection(self, operation: Callable[[Database], T]) -> T:
        """Run an operation on a pooled connection."""
        self.require_open()
        if not self._slots.acquire(timeout=TURN_TIMEOUT_S):
            raise StoreUnavailable(f"{self.name}: all connections were busy for {TURN_TIMEOUT_S:.0f} s")
        try:
            with self._idle_lock:
                db = self._idle.pop() if self._idle else None
            db = db or self._connect()
            try:
                return operation(db)
            finally:
                with self._idle_lock:
                    if not self._closed:
                        self._idle.append(db)
                if self._closed:
                    db.close()
        except sqlite3.Error as error:
            self._raise(error)
        finally:
            self._slots.release()

    def _raise(self, error: sqlite3.Error) -> NoReturn:
        """Raise our error for SQLite's. (Its messages name tables and columns, never values.)"""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise InvalidInput(f"{self.name}: this file is not a SQLite database; check KEYSTORE_URL") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise KeystoreError(
                f"{self.name}: the file is damaged ({error}); stop everything that uses it, keep a copy, and restore "
                "a backup or run `sqlite3 FILE .recover`"
            ) from error
        if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
            raise InvalidInput(f"{self.name}: the database refused a row: {error}") from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise SchemaMismatch(f"{self.name}: {error}; run `python run.py migrate`") from error
        raise StoreUnavailable(f"{self.name}: {_REMEDIES.get(code, error)}") from error


def _execute(db: Database, statement: str, params: Params) -> list[Row]:
    if isinstance(params, Mapping):
        return db.conn.execute(statement, params).fetchall()
    db.conn.executemany(statement, params)
    return []


def _create(path: Path) -> None:
    """Create the file for its owner alone, unless it exists.

    An existing file isn't opened here: closing any descriptor of it would end the locks that other connections of this
    process have on it. Another process could then take itself for the last one when it closes, and remove the log to
    which this process still writes. Acknowledged writes would be lost.
    """
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _use_wal(db: Database) -> None:
    """Turn on the write-ahead log. On a new file only one process can, and no busy timeout makes others wait for it."""
    give_up_at = monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.enable_wal()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up_at:
                raise
        threading.Event().wait(0.01)
