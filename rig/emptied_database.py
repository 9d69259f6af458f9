"""One migrated database for many tests, emptied after each: creating and dropping one takes several times as long.

A test may change anything in its database. So a fingerprint of the catalog is compared after each test, and a
database that has changed is dropped. The next test gets a new one.

A superuser's connection stays open from one test to the next: a new one has the catalog to read, which takes the
server five times as long as the fingerprint itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from keystore.sql.statements import read_statements

STATEMENTS = {name: text.encode() for name, text in read_statements(Path(__file__).with_suffix(".sql")).items()}

LOCK_TIMEOUT_MS = 2000
"""Limit of the wait for a lock that a test left behind; then the database is dropped."""


class Site(Protocol):
    """The server, as `rig.fixtures.postgres.PostgresSite`."""

    def admin(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a superuser's connection."""

    def database(self, template: str) -> AbstractContextManager[str]:
        """Make a database, and drop it after the block."""


class EmptiedDatabase:
    """A copy of a template, lent to one test after another."""

    def __init__(self, site: Site, template: str) -> None:
        """Prepare to copy the database `template`. The first test makes the copy."""
        self._site = site
        self._template = template
        self._copy: AbstractContextManager[str] | None = None
        self._name = ""
        self._admin: psycopg.Connection[tuple[Any, ...]] | None = None
        self._fingerprint: object = None
        self._policy: list[tuple[object, ...]] = []

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Yield the name of a migrated database without keys, and empty it after the block."""
        if self._copy is None:
            self._copy = self._site.database(self._template)
            self._name = self._copy.__enter__()
            self._fingerprint = self._connection().execute(STATEMENTS["fingerprint"]).fetchone()
            self._policy = list(self._connection().execute(STATEMENTS["policy"]).fetchall())
        try:
            yield self._name
        finally:
            if not self._emptied():
                self.drop()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows that the superuser reads in the database that is lent."""
        try:
            return self._connection().execute(statement.encode()).fetchall()
        except psycopg.OperationalError:  # A test may end every connection to its database.
            return self._connection().execute(statement.encode()).fetchall()

    def drop(self) -> None:
        """Drop the copy, if there is one."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.__exit__(None, None, None)

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._admin is None or self._admin.closed:
            self._admin = self._site.admin(self._name)
        return self._admin

    def _emptied(self) -> bool:
        """Remove rows and statistics; return False if the catalog has changed or the database can't be emptied."""
        try:
            conn = self._connection()
            conn.execute(STATEMENTS["end_other_connections"])
            if conn.execute(STATEMENTS["fingerprint"]).fetchone() != self._fingerprint:
                return False
            tables = [sql.Identifier(*row) for row in conn.execute(STATEMENTS["used_tables"]).fetchall()]
            conn.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            if tables:
                conn.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(", ").join(tables)))
            if conn.execute(STATEMENTS["policy"]).fetchall() != self._policy:
                conn.execute(STATEMENTS["forget_policy"])
                for row in self._policy:
                    conn.execute(STATEMENTS["add_lifetime"], row)
            conn.execute("SET allow_system_table_mods = on")
            conn.execute(STATEMENTS["forget_statistics"])
            conn.execute("SELECT pg_stat_reset()")
            return True
        except psycopg.Error:
            return False
