"""Addresses and servers as people have them: several hosts, Prisma's parameters, schemas, old settings, few rights."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from keystore import InvalidInput, SchemaMismatch, open_store
from keystore.migrate import migrate
from keystore.opening import open_link
from keystore.postgres.logins import BotLogins
from keystore.records import KeyName
from rig.fixtures.citus import not_on_citus
from rig.fixtures.postgres import PostgresSite
from rig.relay import free_port
from tests.conformance.links import postgres_link

Rows = Callable[[str, str], list[tuple[Any, ...]]]


def works(url: str) -> None:
    """Write through a new store at this address, and read through another."""
    with open_store(url) as store:
        store.set("1", {"session": {"a": b"\\x00' \\"}}, creds=b"C")
        store.probe_write()
    with open_store(url) as store:
        assert store.load("1").keys == {"session": {"a": b"\\x00' \\"}}
        store.clear("1")


def execute(url: str, statement: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        conn.execute(statement.encode())


def test_the_next_host_is_asked_where_the_first_is_down(migrated_postgres_url: str) -> None:
    address, _, database = migrated_postgres_url.rpartition("/")
    login, _, host = address.rpartition("@")
    url = f"{login}@127.0.0.1:{free_port()},{host}/{database}?target_session_attrs=read-write"
    works(url)


@pytest.mark.parametrize("rest", ["?schema=public", "?pgbouncer=true&connection_limit=1", "\r\n", " "], ids=repr)
def test_parameters_and_white_space_of_other_programs_do_no_harm(migrated_postgres_url: str, rest: str) -> None:
    works(migrated_postgres_url + rest)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ('"{}"', "quotes"),
        ("{}?sslmode=nonsense", "sslmode"),
        ("{}?connect_timeout=soon", "connect_timeout"),
        ("{}?\rsslmode=disable", "line break"),
    ],
)
def test_an_address_that_can_never_work_is_no_outage(migrated_postgres_url: str, url: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        open_store(url.format(migrated_postgres_url))


def test_a_driver_of_sqlalchemy_is_named() -> None:
    with pytest.raises(InvalidInput, match="write postgresql://"):
        open_store("postgresql+psycopg2://u:p@a/d")


CITUS_QUOTES_NO_SCHEMA = "it passes REVOKE on to the workers without quotes around the schema"


@pytest.mark.parametrize("schema", ["bots", pytest.param("My bots", marks=not_on_citus(CITUS_QUOTES_NO_SCHEMA))])
def test_the_tables_are_made_and_read_in_the_schema_of_the_address(
    postgres_url: str, database_rows: Rows, schema: str
) -> None:
    execute(postgres_url, f'CREATE SCHEMA "{schema}"')
    works(f"{postgres_url}?schema={schema.replace(' ', '%20')}")
    made_in = database_rows(postgres_url, "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename ~ '^(what|key)'")
    assert made_in == [(schema,)]


def test_a_schema_that_does_not_exist_is_an_error_of_the_migration(postgres_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="no schema has been selected"):
        open_store(f"{postgres_url}?schema=nonsense")


def test_no_second_half_of_the_tables_is_made_in_another_schema(postgres_url: str, database_rows: Rows) -> None:
    open_store(postgres_url).close()
    execute(postgres_url, "DROP TABLE keystore_tokens, keystore_company_leases")
    execute(postgres_url, "DELETE FROM _yoyo_migration WHERE migration_id ~ 'access$|rules_in_the_database$'")
    execute(postgres_url, "CREATE SCHEMA bots")
    both = f"{postgres_url}?options=-csearch_path%3Dbots,public"
    with pytest.raises(SchemaMismatch, match="in the schema public, and new ones would be made in bots"):
        _migrate(both)
    assert database_rows(postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'bots'") == [(0,)]
    _migrate(f"{postgres_url}?schema=public")
    works(both)


def _migrate(url: str) -> None:
    with closing(open_link(url)) as link:
        migrate(link)


@pytest.fixture
def old_strings(postgres_site: PostgresSite) -> Iterator[None]:
    """Let the stores' role read backslashes in strings as escapes."""
    role = sql.Identifier(postgres_site.role)
    postgres_site.run_on_every_server(sql.SQL("ALTER ROLE {} SET standard_conforming_strings = off").format(role))
    yield
    postgres_site.run_on_every_server(sql.SQL("ALTER ROLE {} RESET standard_conforming_strings").format(role))


@pytest.mark.usefixtures("old_strings")
def test_backslashes_that_are_escapes_change_nothing(postgres_url: str) -> None:
    works(postgres_url)
    with open_store(postgres_url) as store:
        assert postgres_link(store).rows("SHOW standard_conforming_strings", {}) == [("off",)]
        store.set("2", {"session": {"a": b"S"}}, creds=b"C")
        assert store.unsealed_values("2") == 2
        assert store.companies_sealed_by_bots() == []
        assert store.move_key(KeyName("2", "session", "a", store.now()), "session", "b")


def test_a_role_that_may_make_no_tables_reads_the_grant_to_run(postgres_site: PostgresSite, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    with closing(postgres_site.admin(database)) as admin:
        owner = sql.Identifier(str(admin.execute("SELECT current_user").fetchall()[0][0]))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), owner))
        with pytest.raises(SchemaMismatch, match="permission denied for schema public") as refused:
            open_store(postgres_url)
        _, _, grant = str(refused.value).partition("tables run ")
        assert grant.startswith("GRANT USAGE, CREATE ON SCHEMA public TO ")
        admin.execute(grant.encode())
        works(postgres_url)
        admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(postgres_site.role)))


def test_the_owner_makes_the_functions_of_an_older_version_again(migrated_postgres_url: str) -> None:
    execute(migrated_postgres_url, "INSERT INTO keystore_logins VALUES ('dropped', '1', 1, 1)")
    marked = "keystore_rounded_expiry(double precision, double precision, timestamptz)"
    execute(migrated_postgres_url, f"COMMENT ON FUNCTION {marked} IS 'older'")
    with closing(open_link(migrated_postgres_url)) as link:
        assert migrate(link) == ["functions"]
    with open_store(migrated_postgres_url) as store:
        assert [(login.login, login.exists) for login in BotLogins(postgres_link(store)).all()] == [("dropped", False)]
