"""Who may read the tables: their owner, and nobody else, whatever had been granted before."""

import secrets
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from keystore import SchemaMismatch, open_store
from keystore.migrate import attach_upkeep, migrate
from rig.fixtures.postgres import OwnServer
from tests.migration.conftest import Diary, as_the_diary_did, catalog, fetched, linked

STRANGER_PASSWORD = secrets.token_hex(8)


@pytest.fixture
def stranger(diary: Diary) -> Iterator[str]:
    """The address that another ordinary role, which owns nothing, logs in with."""
    role = f"{diary.site.role}_stranger"
    with closing(diary.admin()) as conn:
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(STRANGER_PASSWORD))
        )
        try:
            yield f"postgresql://{role}:{STRANGER_PASSWORD}@{diary.site.host}:{diary.site.port}/{diary.url.rpartition('/')[2]}"
        finally:
            conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def run_migrate(url: str) -> None:
    with linked(url) as link:
        migrate(link)


def seen_by(url: str, table: str) -> list[tuple[object, ...]] | str:
    """The rows that this login reads, or that it may not."""
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        try:
            return fetched(conn, f"SELECT company_id FROM {table}")
        except psycopg.errors.InsufficientPrivilege:
            return "denied"


@pytest.mark.parametrize("what", ["ALL", "SELECT", "SELECT (company_id, value)"])
def test_what_public_was_granted_ends(diary: Diary, stranger: str, what: str) -> None:
    diary.upsert("1", "session", "a", {"secret": 1})
    diary.execute(f"GRANT {what} ON whatsapp_keys TO PUBLIC")
    assert seen_by(stranger, "whatsapp_keys") == [("1",)]
    run_migrate(diary.url)
    assert seen_by(stranger, "whatsapp_keys") == "denied"
    with open_store(diary.url) as store:
        assert store.load("1").total == 1


def test_a_role_granted_by_name_sees_no_row(diary: Diary, stranger: str) -> None:
    diary.upsert("1", "session", "a", {"secret": 1})
    diary.execute(f'GRANT SELECT ON whatsapp_keys TO "{diary.site.role}_stranger"')
    assert seen_by(stranger, "whatsapp_keys") == [("1",)]
    run_migrate(diary.url)
    assert seen_by(stranger, "whatsapp_keys") == []


def test_security_that_was_off_is_on_afterwards(diary: Diary) -> None:
    diary.upsert("1", "session", "a", {"secret": 1})
    diary.execute("ALTER TABLE whatsapp_keys DISABLE ROW LEVEL SECURITY")
    run_migrate(diary.url)
    secured = {row[0]: row[2:4] for row in catalog(diary.url)["tables"]}
    assert set(secured.values()) == {(True, False)}
    assert catalog(diary.url)["policies"] == []
    with open_store(diary.url) as store:
        assert store.load("1").total == 1


def test_security_forced_on_the_owner_is_named_as_what_hides_the_rows(diary: Diary) -> None:
    diary.execute("ALTER TABLE whatsapp_keys FORCE ROW LEVEL SECURITY")
    with pytest.raises(SchemaMismatch, match="NO FORCE ROW LEVEL SECURITY"):
        run_migrate(diary.url)
    superuser = make_url(diary.site.admin_url, diary.url.rpartition("/")[2])
    for table in ("whatsapp_auth", "whatsapp_keys"):
        diary.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    run_migrate(superuser)
    forced = {row[0]: row[3] for row in catalog(diary.url)["tables"]}
    assert not any(forced.values())


def make_url(admin_url: str, database: str) -> str:
    """The superuser's address of another database."""
    return f"{admin_url.rpartition('/')[0]}/{database}"


def test_a_store_opened_by_another_role_says_so_and_reads_nothing_as_empty(diary: Diary, stranger: str) -> None:
    diary.upsert("1", "session", "a", {"secret": 1})
    run_migrate(diary.url)
    with pytest.raises(SchemaMismatch, match="row-level security hides the tables from this role"):
        open_store(stranger)
    with closing(diary.admin()) as conn:
        fetched(conn, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{diary.site.role}_stranger"')
    with pytest.raises(SchemaMismatch, match="use the role that owns them"):
        open_store(stranger)


def test_a_role_above_row_security_but_without_rights_is_told_which_role_to_use(diary: Diary, stranger: str) -> None:
    run_migrate(diary.url)
    with closing(diary.admin()) as conn:
        fetched(conn, f'ALTER ROLE "{diary.site.role}_stranger" BYPASSRLS')
    with pytest.raises(SchemaMismatch, match="use the role that owns the tables"):
        open_store(stranger)


def test_a_role_that_may_not_look_into_the_schema_makes_no_second_set_of_tables(diary: Diary, stranger: str) -> None:
    run_migrate(diary.url)
    with closing(diary.admin()) as conn:
        fetched(conn, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    before = catalog(diary.url)
    with pytest.raises(SchemaMismatch, match="nothing was changed"):
        open_store(stranger)
    assert catalog(diary.url) == before


@pytest.mark.parametrize("attached", [False, True])
def test_the_roles_that_a_service_grants_every_new_table_get_none_of_ours(
    own_server: OwnServer, *, attached: bool
) -> None:
    owner = own_server.site.role
    with closing(own_server.site.admin("bots")) as conn:
        for name in ("anon", "authenticated"):
            fetched(conn, f"CREATE ROLE {name} LOGIN PASSWORD '{STRANGER_PASSWORD}'")
            fetched(conn, f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT ALL ON TABLES TO {name}')
    as_the_diary_did(own_server.url)
    with linked(own_server.url) as link:
        if attached:
            attach_upkeep(link)
        else:
            migrate(link)
    rights = {row[0]: row[4] for row in catalog(own_server.url, without_ours=False)["tables"]}
    granted = {table for table, acl in rights.items() if "anon" in (acl or "") or "authenticated" in (acl or "")}
    assert granted == ({"whatsapp_auth", "whatsapp_keys"} if attached else set())
    anon = make_conninfo(own_server.url, user="anon", password=STRANGER_PASSWORD)
    assert seen_by(anon, "keystore_counters") == "denied"
