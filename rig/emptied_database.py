"""One migrated database for many tests, emptied after each: creating and dropping one takes ten times as long.

A test may change anything in its database. So a fingerprint of the catalog is compared after each test, and a
database that differs from its template is dropped. The next test gets a new one.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol

import psycopg
from psycopg import sql

LOCK_TIMEOUT_MS = 2000
"""Limit on the wait for a lock that a test left behind; then the database is dropped."""

_OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg_temp%'"

_PARTS = (
    f"""SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner, c.reloptions, c.relacl::text,
               c.relrowsecurity, c.relforcerowsecurity
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}""",
    f"""SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attacl::text, a.attoptions,
               a.attstorage, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE {_OURS} AND a.attnum > 0 AND NOT a.attisdropped""",
    f"""SELECT c.conname, c.conrelid::regclass::text, c.convalidated, pg_get_constraintdef(c.oid)
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE {_OURS}""",
    f"""SELECT pg_get_indexdef(i.indexrelid), i.indisvalid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS}""",
    "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    f"""SELECT p.oid::regprocedure::text, p.prosrc, p.proacl::text, p.proconfig
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_OURS}""",
    "SELECT schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check FROM pg_policies",
    "SELECT nspname, nspowner, nspacl::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'",
    """SELECT d.datconnlimit, d.datallowconn, d.datacl::text, s.setrole, s.setconfig
       FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid
       WHERE d.datname = current_database()""",
    "SELECT migration_id FROM public._yoyo_migration",
)

_FINGERPRINT = "SELECT md5(string_agg(part, '|' ORDER BY part)) FROM ({}) AS parts (part)".format(
    " UNION ALL ".join(f"SELECT {n} || row_of::text FROM ({part}) AS row_of" for n, part in enumerate(_PARTS))
)

_USED_TABLES = f"""
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {_OURS} AND c.relkind = 'r' AND c.relname NOT LIKE '%yoyo%' AND pg_relation_size(c.oid) > 0
"""

_OTHERS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"

_OLD_STATISTICS = f"""
    DELETE FROM pg_statistic WHERE starelid IN (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}
    )
"""


class Site(Protocol):
    """The server: `rig.fixtures.postgres.PostgresSite`."""

    def admin(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]: ...

    def database(self, template: str = ..., name: str | None = ...) -> AbstractContextManager[str]: ...


class EmptiedDatabase:
    """A copy of a template, lent to one test after another."""

    def __init__(self, site: Site, template: str) -> None:
        """Note the template's fingerprint. The first test makes the copy."""
        self._site = site
        self._template = template
        self._copy: AbstractContextManager[str] | None = None
        self._name = ""
        with closing(site.admin(template)) as conn:
            self._fingerprint = _fingerprint(conn)

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Yield the name of a migrated database without keys. It is emptied after the block."""
        if self._copy is None:
            self._copy = self._site.database(self._template)
            self._name = self._copy.__enter__()
        try:
            yield self._name
        finally:
            if not self._emptied():
                self.drop()

    def drop(self) -> None:
        """Drop the copy, if there is one."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.__exit__(None, None, None)

    def _emptied(self) -> bool:
        """Remove the rows and statistics; False if the database differs from its template or can't be emptied."""
        try:
            with closing(self._site.admin(self._name)) as conn:
                conn.execute(_OTHERS, [self._name])
                if _fingerprint(conn) != self._fingerprint:
                    return False
                tables = [sql.Identifier(*row) for row in conn.execute(_USED_TABLES).fetchall()]
                conn.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
                if tables:
                    conn.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(", ").join(tables)))
                conn.execute("SET allow_system_table_mods = on")
                conn.execute(_OLD_STATISTICS)
                conn.execute("SELECT pg_stat_reset()")
                return True
        except psycopg.Error:
            return False


def _fingerprint(conn: psycopg.Connection[tuple[Any, ...]]) -> str:
    row = conn.execute(_FINGERPRINT).fetchone()
    assert row is not None
    return str(row[0])
