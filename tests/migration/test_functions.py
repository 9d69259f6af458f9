"""The functions in the database: those of this version, for nobody but their owner, on the tables beside them."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from keystore import SchemaMismatch, open_store
from keystore.migrate import FUNCTIONS, attach_upkeep, migrate
from keystore.postgres.function_files import function_names, function_text
from keystore.schema import schema_of
from keystore.tally import BURST_FROM_KEYS
from tests.migration.conftest import LegacyDatabase, opened_link

Rows = Callable[[str, str], list[tuple[Any, ...]]]

FUNCTION_NAMES = r"SELECT proname FROM pg_proc WHERE proname LIKE 'keystore\_%' ORDER BY 1"


def execute(url: str, statement: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        conn.execute(statement.encode())


def test_a_migrated_database_has_the_functions_of_this_version(migrated_postgres_url: str, database_rows: Rows) -> None:
    names = function_names(function_text(attached=False))
    assert [name for (name,) in database_rows(migrated_postgres_url, FUNCTION_NAMES)] == sorted(names)
    with opened_link(migrated_postgres_url) as link:
        assert migrate(link) == []


def test_a_burst_is_the_same_for_a_bots_own_login(migrated_postgres_url: str, database_rows: Rows) -> None:
    assert database_rows(migrated_postgres_url, "SELECT keystore_burst_from()") == [(BURST_FROM_KEYS,)]


@pytest.mark.parametrize(
    "change",
    [
        "COMMENT ON FUNCTION keystore_rounded_expiry IS 'Signal Keystore, functions 0123456789abcdef'",
        "DROP FUNCTION keystore_rounded_expiry CASCADE",
        "DROP FUNCTION keystore_write",
    ],
)
def test_other_functions_are_noticed_at_opening_and_replaced_by_migrate(
    migrated_postgres_url: str, database_rows: Rows, change: str
) -> None:
    if change == "DROP FUNCTION keystore_write":
        execute(migrated_postgres_url, "COMMENT ON FUNCTION keystore_rounded_expiry IS NULL")
    execute(migrated_postgres_url, change)
    execute(migrated_postgres_url, "CREATE FUNCTION keystore_of_old() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    execute(migrated_postgres_url, "CREATE FUNCTION keystore_load(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(SchemaMismatch, match=r"functions in the database.*run `python run.py migrate`"):
        open_store(migrated_postgres_url)
    with opened_link(migrated_postgres_url) as link:
        assert schema_of(link).functions_outdated
        assert migrate(link) == [FUNCTIONS]
        assert migrate(link) == []
    names = [name for (name,) in database_rows(migrated_postgres_url, FUNCTION_NAMES)]
    assert "keystore_of_old" not in names
    assert len(set(names)) == len(names), "two functions of one name"
    with open_store(migrated_postgres_url) as store:
        store.set("1", {"session": {"a": b"A"}})


def test_a_session_goes_on_while_the_functions_are_replaced(migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url, max_connections=1) as store:
        for _ in range(8):
            store.set("1", {"session": {"a": b"A"}})
        execute(migrated_postgres_url, "COMMENT ON FUNCTION keystore_rounded_expiry IS NULL")
        with opened_link(migrated_postgres_url) as link:
            assert migrate(link) == [FUNCTIONS]
        store.set("1", {"session": {"a": b"B"}})
        assert store.get("1", "session", ["a"]) == {"a": b"B"}


def test_nobody_but_the_owner_may_call_them(legacy: LegacyDatabase) -> None:
    with closing(legacy.admin()) as conn:
        conn.execute("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")
    with opened_link(legacy.url) as link:
        migrate(link)
    grants = legacy.execute(
        r"SELECT DISTINCT proacl::text, pg_get_userbyid(proowner) FROM pg_proc WHERE proname LIKE 'keystore\_%'"
    )
    role = legacy.site.role
    assert grants == [(f"{{{role}=X/{role}}}", role)]


def test_a_temporary_table_shadows_none_of_the_store(migrated_postgres_url: str, database_rows: Rows) -> None:
    with open_store(migrated_postgres_url):
        pass
    with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:
        for table in ("whatsapp_keys", "keystore_company_leases", "keystore_policy"):
            conn.execute(f"CREATE TEMPORARY TABLE {table} (LIKE public.{table} INCLUDING ALL)".encode())
        conn.execute(
            "SELECT keystore_write('1', '{session}', '{a}', ARRAY['A'::bytea], '{}', '{}', "
            "null, null, null, null, null, null, null)"
        )
        assert conn.execute("SELECT count(*) FROM whatsapp_keys").fetchone() == (0,)
    assert database_rows(migrated_postgres_url, "SELECT key_id FROM whatsapp_keys") == [("a",)]


def test_a_database_beside_a_bot_has_no_functions_for_keys(legacy: LegacyDatabase) -> None:
    with opened_link(legacy.url) as link:
        attach_upkeep(link)
        assert not schema_of(link).functions_outdated
    names = [name for (name,) in legacy.execute(FUNCTION_NAMES)]
    assert sorted(names) == sorted(function_names(function_text(attached=True)))
    assert "keystore_write" not in names
    with opened_link(legacy.url) as link:
        migrate(link)
        assert not schema_of(link).functions_outdated
    assert ("keystore_write",) in legacy.execute(FUNCTION_NAMES)
