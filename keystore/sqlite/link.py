"""The only module that uses SQLite: a few connections, statements, and SQLite's errors translated into ours.

Its rules:
* WAL with `synchronous=FULL`: readers never wait for a writer, and acknowledged writes survive a power cut.
* A transaction that writes begins as a writer (`BEGIN IMMEDIATE`), so that it can't fail to become one half-way.
  Threads take turns on a lock and processes on SQLite's busy timeout, so that no `database is locked` reaches a caller.
  (Elsewhere in this field, such an error silently drops messages.)
* A connection belongs to no thread, and is used by one at a time.
* A connection goes on writing to a file that was deleted or replaced, and those writes end with the process. So a call
  compares the file at the path with the one that was opened, and a write does so before it is acknowledged.

A connection is sqlite-utils' `Database`. Its `atomic()` isn't used, because it begins deferred.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Literal, NoReturn, Self
from urllib.parse import quote

from sqlite_utils import Database

from keystore.errors import InvalidInput, KeystoreError, SchemaMismatch, StoreClosed, StoreUnavailable
from keystore.invocation import command
from keystore.sql.link import BOT_DEADLINE_S, UPKEEP_TIMEOUT_S, Row, Run, T, require_own_process
from keystore.sqlite.rules import FUNCTIONS

Params = Mapping[str, Any] | Sequence[Row]
"""The named parameters of a statement, or a row of parameters for each time that it is run."""

UPKEEP_WAIT_S = 60.0
"""Limit of what upkeep waits for: a turn to write, a connection, and other processes' writes. (A bot's call has its own
deadline. 8 processes that write without a pause get their turns well within both.)"""

ROOM_FOR_A_LOG_BYTES = 65_536
"""Free space below which SQLite's files beside the database find no room: the smallest ones are 32 KiB."""

_creating = threading.Lock()
"""Held while a file is created, so that no other thread has locks on it when the descriptor is closed."""

FAILURES = sqlite3.Error, UnicodeDecodeError
"""The failures of SQLite's module. The latter is for a message that quotes a damaged name."""

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; repeating is safe",
    sqlite3.SQLITE_READONLY: "it can't be written; check owner and permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check that its folder exists and that both may be written",
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this call was written",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
}


class SqliteLink:
    """Up to `max_connections` connections to one SQLite file; thread-safe."""

    is_server: Literal[False] = False
    """Tells both kinds of links apart without importing either."""

    def __init__(self, path: Path, max_connections: int, *, create: bool) -> None:
        """Open the file; with `create` make it for its owner alone, and write ahead. Raises KeystoreError."""
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
        self._uses_wal = create
        try:
            if create:
                _create(self.path)
            else:
                self.path.stat()
        except FileNotFoundError as error:
            if create:
                raise StoreUnavailable(f"{self.name}: can't make the file: its folder doesn't exist") from error
            raise StoreUnavailable(
                f"{self.name}: there is no such file; name the file that the service uses, or make this one with "
                f"`{command('migrate')}`"
            ) from error
        except OSError as error:
            raise StoreUnavailable(f"{self.name}: can't open the file for writing: {error.strerror}") from error
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise StoreUnavailable(f"{self.name}: {_REMEDIES[sqlite3.SQLITE_READONLY]}")
        try:
            self._idle.append(self._connect())
            self._file = self._file_at_path()
        except FAILURES as error:
            self._raise(error)

    @property
    def usable(self) -> bool:
        return not self._closed and os.getpid() == self._process

    def rows(self, statement: str, params: Params, timeout_s: float | None = None) -> list[Row]:
        """Run one statement by itself and return its rows. With None as `timeout_s` it has a bot's deadline."""
        if statement.startswith(("SELECT", "WITH")):
            return self._with_connection(lambda db: _execute(db, statement, params), _give_up_at(timeout_s))
        return self.work(lambda run: run(statement, params), timeout_s=timeout_s)

    def work(
        self, unit: Callable[[Run], T], *, snapshot: bool = False, timeout_s: float | None = UPKEEP_TIMEOUT_S
    ) -> T:
        """Run `unit(run)` in one transaction; with `snapshot` in one that reads the data of one moment."""
        give_up_at = _give_up_at(timeout_s)

        def in_transaction(db: Database) -> T:
            try:
                # Inside `try`, because an interrupted wait must not leave the connection in a transaction.
                db.conn.execute("BEGIN" if snapshot else "BEGIN IMMEDIATE")
                result = unit(lambda statement, params: _execute(db, statement, params))
                db.conn.execute("COMMIT")
                if not snapshot:
                    self._require_same_file(written=True)
            finally:
                if db.conn.in_transaction:
                    db.conn.execute("ROLLBACK")
            return result

        if snapshot:
            return self._with_connection(in_transaction, give_up_at)
        if not self._write_lock.acquire(timeout=_left_s(give_up_at)):
            raise StoreUnavailable(f"{self.name}: other threads' writes took too long; repeating is safe")
        try:
            return self._with_connection(in_transaction, give_up_at)
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
        # `mode=rw` makes no file: not one in place of a file that was deleted, either.
        address = f"file:{quote(str(self.path))}?mode=rw"
        conn = sqlite3.connect(address, uri=True, timeout=UPKEEP_WAIT_S, isolation_level=None, check_same_thread=False)
        db = Database(conn, execute_plugins=False)
        try:
            if self._uses_wal:
                _use_wal(db)
            conn.execute("PRAGMA synchronous = FULL")
            conn.execute("PRAGMA secure_delete = ON")  # Deleted keys are overwritten in the file.
            for name, rule in FUNCTIONS.items():
                conn.create_function(name, rule.__code__.co_argcount, rule, deterministic=True)
        except FAILURES:
            db.close()
            raise
        return db

    def _with_connection(self, operation: Callable[[Database], T], give_up_at: float) -> T:
        """Run an operation on a pooled connection; its waits end at `give_up_at`."""
        self.require_open()
        if not self._slots.acquire(timeout=_left_s(give_up_at)):
            raise StoreUnavailable(f"{self.name}: all connections were busy for too long; repeating is safe")
        try:
            with self._idle_lock:
                db = self._idle.pop() if self._idle else None
            db = db or self._connect()
            try:
                self._require_same_file()
                db.conn.execute(f"PRAGMA busy_timeout = {_left_s(give_up_at) * 1_000:.0f}")
                return operation(db)
            finally:
                with self._idle_lock:
                    if not self._closed:
                        self._idle.append(db)
                if self._closed:
                    db.close()
        except FAILURES as error:
            self._raise(error)
        finally:
            self._slots.release()

    def _file_at_path(self) -> tuple[int, int] | None:
        """The file that the path names now; None if it names none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _require_same_file(self, *, written: bool = False) -> None:
        """Raise StoreUnavailable if the path no longer names the file that was opened, or has lost its write log."""
        log_gone = written and self._uses_wal and not Path(f"{self.path}-wal").exists()
        if not log_gone and self._file_at_path() == self._file:
            return
        lost = "its -wal file was" if log_gone else "the file was"
        raise StoreUnavailable(
            f"{self.name}: {lost} deleted or replaced while it was open, so writes would be lost; stop every program "
            "that uses it, put the right file there, and start again"
        )

    def _raise(self, error: sqlite3.Error | UnicodeDecodeError) -> NoReturn:
        """Raise our error for SQLite's. (Its messages name tables and columns, never values.)"""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise InvalidInput(f"{self.name}: this file is not a SQLite database; check KEYSTORE_URL") from error
        if code == sqlite3.SQLITE_CORRUPT or isinstance(error, UnicodeDecodeError):
            raise KeystoreError(self.damaged(error)) from error
        if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
            raise InvalidInput(f"{self.name}: the database refused a row: {error}") from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise SchemaMismatch(f"{self.name}: {error}; run `{command('migrate')}`") from error
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and self._disk_is_full():
            code = sqlite3.SQLITE_FULL  # No room for the files beside the database.
        raise StoreUnavailable(f"{self.name}: {_REMEDIES.get(code, error)}") from error

    def damaged(self, reason: object) -> str:
        """Return what to do about a damaged file."""
        return (
            f"{self.name}: the file is damaged ({reason}); stop everything that uses it, keep a copy, and restore a "
            "backup or run `sqlite3 FILE .recover`"
        )

    def _disk_is_full(self) -> bool:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < ROOM_FOR_A_LOG_BYTES


class MigrationCursor(sqlite3.Cursor):
    """Leaves a column as it is that a statement adds and that is there: SQLite has no ADD COLUMN IF NOT EXISTS."""

    def execute(self, sql: str, params: Any = (), /) -> Self:
        try:
            return super().execute(sql, params)
        except sqlite3.OperationalError as error:
            if str(error).startswith("duplicate column name"):
                return self
            raise


def _give_up_at(timeout_s: float | None) -> float:
    """Return when a call gives up waiting: a bot's at its deadline (`timeout_s` None), upkeep after a minute."""
    return monotonic() + (BOT_DEADLINE_S if timeout_s is None else UPKEEP_WAIT_S)


def _left_s(give_up_at: float) -> float:
    return max(0.0, give_up_at - monotonic())


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
    give_up_at = monotonic() + UPKEEP_WAIT_S
    while True:
        try:
            db.enable_wal()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up_at:
                raise
        threading.Event().wait(0.01)


def read_only_rows(path: Path, statement: str) -> list[Row]:
    """Return a statement's rows from a file that another program made, and change nothing in it or beside it.

    Raises InvalidInput if it can't be read.
    """
    # A file without a log beside it is opened as one that can't change, so that SQLite makes no log either.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    except FAILURES as error:
        raise InvalidInput(f"{path} can't be read: {error}") from error
