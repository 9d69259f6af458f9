"""The right to read the tables: the owner has it and no other role, regardless of earlier grants."""

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
from tests.migration.conftest import LegacyDatabase, catalog, create_legacy_tables, opened_link, query

pytestmark = pytest.mark.slow

STRANGER_PASSWORD = secrets.token_hex(8)


@pytest.fixture
def stranger(legacy: LegacyDatabase) -> Iterator[str]:
    """The address with the login of another ordinary role, which owns nothing."""
    role = f"{legacy.site.role}_stranger"
    with closing(legacy.admin()) as conn:
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(STRANGER_PASSWORD))
        )
        try:
            yield f"postgresql://{role}:{STRANGER_PASSWORD}@{legacy.site.host}:{legacy.site.port}/{legacy.url.rpartition('/')[2]}"
        finally:
            conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def run_migrate(url: str) -> None:
    with opened_link(url) as link:
        migrate(link)


def seen_by(url: str, table: str) -> list[tuple[object, ...]] | str:
    """The rows that this login reads, or "denied"."""
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        try:
            return query(conn, f"SELECT company_id FROM {table}")
        except psycopg.errors.InsufficientPrivilege:
            return "denied"


@pytest.mark.parametrize("what", ["ALL", "SELECT", "SELECT (company_id, value)"])
def test_what_public_was_granted_ends(legacy: LegacyDatabase, stranger: str, what: str) -> None:
    legacy.upsert("1", "mine", "a", {"secret": 1})
    legacy.execute(f"GRANT {what} ON whatsapp_keys TO PUBLIC")
    assert seen_by(stranger, "whatsapp_keys") == [("1",)]
    run_migrate(legacy.url)
    assert seen_by(stranger, "whatsapp_keys") == "denied"
    with open_store(legacy.url) as store:
        assert store.load("1").total == 1


def test_a_role_granted_by_name_sees_no_row(legacy: LegacyDatabase, stranger: str) -> None:
    legacy.upsert("1", "mine", "a", {"secret": 1})
    legacy.execute(f'GRANT SELECT ON whatsapp_keys TO "{legacy.site.role}_stranger"')
    assert seen_by(stranger, "whatsapp_keys") == [("1",)]
    run_migrate(legacy.url)
    assert seen_by(stranger, "whatsapp_keys") == []


def test_security_that_was_off_is_on_afterwards(legacy: LegacyDatabase) -> None:
    legacy.upsert("1", "mine", "a", {"secret": 1})
    legacy.execute("ALTER TABLE whatsapp_keys DISABLE ROW LEVEL SECURITY")
    run_migrate(legacy.url)
    secured = {row[0]: row[2:4] for row in catalog(legacy.url)["tables"]}
    assert set(secured.values()) == {(True, False)}
    assert catalog(legacy.url)["policies"] == []
    with open_store(legacy.url) as store:
        assert store.load("1").total == 1


def test_security_forced_on_the_owner_is_named_as_what_hides_the_rows(legacy: LegacyDatabase) -> None:
    legacy.execute("ALTER TABLE whatsapp_keys FORCE ROW LEVEL SECURITY")
    with pytest.raises(SchemaMismatch, match="NO FORCE ROW LEVEL SECURITY"):
        run_migrate(legacy.url)
    superuser = make_url(legacy.site.admin_url, legacy.url.rpartition("/")[2])
    for table in ("whatsapp_auth", "whatsapp_keys"):
        legacy.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    run_migrate(superuser)
    forced = {row[0]: row[3] for row in catalog(legacy.url)["tables"]}
    assert not any(forced.values())


def make_url(admin_url: str, database: str) -> str:
    """The superuser's address of another database."""
    return f"{admin_url.rpartition('/')[0]}/{database}"


def test_another_role_is_refused_and_never_sees_an_empty_store(legacy: LegacyDatabase, stranger: str) -> None:
    legacy.upsert("1", "mine", "a", {"secret": 1})
    run_migrate(legacy.url)
    with pytest.raises(SchemaMismatch, match="row-level security hides the tables from this role"):
        open_store(stranger)
    with closing(legacy.admin()) as conn:
        query(conn, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{legacy.site.role}_stranger"')
    with pytest.raises(SchemaMismatch, match="use the role that owns them"):
        open_store(stranger)


def test_a_role_without_rights_is_told_to_use_the_owner(legacy: LegacyDatabase, stranger: str) -> None:
    run_migrate(legacy.url)
    with closing(legacy.admin()) as conn:
        query(conn, f'ALTER ROLE "{legacy.site.role}_stranger" BYPASSRLS')
    with pytest.raises(SchemaMismatch, match="use the role that owns the tables"):
        open_store(stranger)


def test_a_role_that_may_make_no_tables_is_shown_the_grant(legacy: LegacyDatabase, stranger: str) -> None:
    with closing(legacy.admin()) as conn:
        query(conn, "DROP TABLE whatsapp_keys, whatsapp_auth")
        query(conn, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(
        SchemaMismatch, match=r"permission denied for schema public; .*GRANT USAGE, CREATE ON SCHEMA public TO "
    ):
        open_store(stranger)


def test_a_role_without_access_to_the_schema_creates_no_second_tables(legacy: LegacyDatabase, stranger: str) -> None:
    run_migrate(legacy.url)
    with closing(legacy.admin()) as conn:
        query(conn, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    before = catalog(legacy.url)
    with pytest.raises(SchemaMismatch, match="changed nothing"):
        open_store(stranger)
    assert catalog(legacy.url) == before


@pytest.mark.parametrize("attached", [False, True])
def test_roles_with_default_grants_get_no_rights_on_our_tables(own_server: OwnServer, *, attached: bool) -> None:
    owner = own_server.site.role
    with closing(own_server.site.admin("bots")) as conn:
        for name in ("anon", "authenticated"):
            query(conn, f"CREATE ROLE {name} LOGIN PASSWORD '{STRANGER_PASSWORD}'")
            query(conn, f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT ALL ON TABLES TO {name}')
    create_legacy_tables(own_server.url)
    with opened_link(own_server.url) as link:
        if attached:
            attach_upkeep(link)
        else:
            migrate(link)
    rights = {row[0]: row[4] for row in catalog(own_server.url, without_ours=False)["tables"]}
    granted = {table for table, acl in rights.items() if "anon" in (acl or "") or "authenticated" in (acl or "")}
    assert granted == ({"whatsapp_auth", "whatsapp_keys"} if attached else set())
    anon = make_conninfo(own_server.url, user="anon", password=STRANGER_PASSWORD)
    assert seen_by(anon, "keystore_counters") == "denied"


def test_a_stranger_cannot_set_the_sequence_of_the_sweeps(legacy: LegacyDatabase, stranger: str) -> None:
    legacy.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC")
    run_migrate(legacy.url)
    with (
        closing(psycopg.connect(stranger, autocommit=True)) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("SELECT setval('keystore_sweeps_run_id_seq', 1)")
