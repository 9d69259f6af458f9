"""Legacy databases, as the original operator's bots made them, and readers of their catalogs."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keystore.opening import open_link
from keystore.schema import MIGRATIONS, DatabaseLink
from rig.fixtures.postgres import PostgresSite

LEGACY_FILES = ("20251007_create_whatsapp_auth_tables", "20251008_optimize_whatsapp_keys")

OUR_FILES = (
    "20261124_01_keystore_tables",
    "20261124_02_one_company_id",
    "20261124_03_opaque_values",
    "20261124_04_closed_tables",
    "20261125_01_watch_memory",
    "20261125_02_access",
    "20261126_01_closed_sequences",
    "20261126_02_rules_in_the_database",
    "20261126_03_bot_logins",
    "20261126_04_longer_lifetimes",
    "20261126_05_trash",
    "20261127_01_sealed_values",
    "20261127_02_tokens_of_several_companies",
    "20261127_03_nonces_of_values",
)

POSTGRES_FILES = (*LEGACY_FILES, *OUR_FILES)

SQLITE_FILES = (
    "20261124_01_keystore",
    "20261125_01_watch_memory",
    "20261125_02_access",
    "20261126_02_policy_and_numbered_writes",
    "20261126_04_longer_lifetimes",
    "20261126_05_trash",
    "20261127_01_sealed_values",
    "20261127_02_tokens_of_several_companies",
    "20261127_03_nonces_of_values",
)

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class LegacyDatabase:
    """A database as the original operator's bots made it, without records of migrations."""

    url: str = field(repr=False)
    site: PostgresSite

    def connect(self) -> Connection:
        """Open a connection as the tables' owner, as a bot does. The caller closes it."""
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def execute(self, statement: str, params: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the owner and return its rows."""
        with closing(self.connect()) as conn:
            return query(conn, statement, params)

    def upsert(self, company: str, key_type: str, key_id: str, document: object) -> None:
        """Write a key as a bot does."""
        self.execute(UPSERT, (company, key_type, key_id, json.dumps(document)))

    def admin(self) -> Connection:
        """Open a superuser's connection to the same database. The caller closes it."""
        return self.site.admin(self.url.rpartition("/")[2])


UPSERT = (
    "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, expires_at) "
    "VALUES (%s, %s, %s, %s, now() + interval '7 days') "
    "ON CONFLICT (company_id, key_type, key_id) DO UPDATE SET value = excluded.value, updated_at = now()"
)


def query(conn: Connection, statement: str, params: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; [] when it returns none."""
    cursor = conn.execute(statement.encode(), params or None)
    return cursor.fetchall() if cursor.description else []


def create_legacy_tables(url: str) -> None:
    """Run the two legacy files, each in a transaction, without recording them."""
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        for name in LEGACY_FILES:
            text = (MIGRATIONS / "postgres" / f"{name}.sql").read_text(encoding="utf-8")
            with conn.transaction():
                query(conn, text)


@pytest.fixture
def legacy(postgres_url: str, postgres_site: PostgresSite) -> LegacyDatabase:
    """An empty database with the legacy tables."""
    create_legacy_tables(postgres_url)
    return LegacyDatabase(postgres_url, postgres_site)


@contextmanager
def opened_link(url: str) -> Iterator[DatabaseLink]:
    """Open a link to this database, and close it after the block."""
    link = open_link(url)
    try:
        yield link
    finally:
        link.close()


OUR_TABLES = (
    "'keystore_leases', 'keystore_sweeps', 'keystore_counters', 'keystore_displaced', 'keystore_notes', "
    "'keystore_history', 'keystore_company_leases', 'keystore_tokens', 'keystore_policy', 'keystore_settings', "
    "'keystore_trash', 'yoyo_lock', '_yoyo_migration', '_yoyo_log', '_yoyo_version'"
)

_CATALOG = {
    "columns": "SELECT c.oid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull, "
    "attidentity, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
    "LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum "
    "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'",
    "tables": "SELECT c.oid::regclass::text, c.reloptions::text, c.relrowsecurity, c.relforcerowsecurity, "
    "c.relacl::text, pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.relkind = 'r'",
    "indexes": "SELECT i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE true",
    "constraints": "SELECT c.oid::regclass::text, k.conname, pg_get_constraintdef(k.oid), k.convalidated "
    "FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE true",
    "triggers": "SELECT c.oid::regclass::text, pg_get_triggerdef(t.oid), t.tgenabled "
    "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal",
    "policies": "SELECT c.oid::regclass::text, p.polname, p.polcmd, p.polroles::text, "
    "pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid) "
    "FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE true",
}


def catalog(url: str, *, without_ours: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """Return the catalog of the database's tables and functions; `without_ours` that of the bot's tables alone."""
    tables = "c.relnamespace = 'public'::regnamespace"
    if without_ours:
        tables += f" AND c.relname NOT IN ({OUR_TABLES})"
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        rows = {kind: sorted(query(conn, f"{sql} AND {tables}"), key=repr) for kind, sql in _CATALOG.items()}
        functions = (
            "SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
        if without_ours:
            functions += r" AND proname NOT LIKE 'keystore\_%'"
        functions += " ORDER BY 1"
        return {**rows, "functions": query(conn, functions)}


@pytest.fixture
def recorded(
    database_rows: Callable[[str, str], list[tuple[Any, ...]]],
) -> Callable[[str], list[str]]:
    """`recorded(url)` returns the ids of that Postgres database's migration records, repeated ones too."""
    return lambda url: [
        row[0] for row in database_rows(url, "SELECT migration_id FROM _yoyo_migration ORDER BY migration_id")
    ]


@pytest.fixture
def new_file(tmp_path: Path) -> Path:
    """The path of a SQLite file that doesn't exist yet, in a folder of its own."""
    folder = tmp_path / "sqlite"
    folder.mkdir()
    return folder / "keystore.db"
