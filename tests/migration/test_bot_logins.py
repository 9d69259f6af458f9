"""A bot's own login: its company works, and everything else of the database is refused."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql

from api.access.tokens import create_token
from keystore import open_store
from keystore.errors import InvalidInput
from keystore.postgres.address import address_for_login
from keystore.postgres.logins import checked_login, login_of
from keystore.ttl import CAREFUL
from monitor.sweeper import sweep
from rig.fixtures.postgres import PostgresSite
from tests.acceptance.in_process import run, run_json, run_refused
from tests.conformance.conftest import SECRET_KEY

Connection = psycopg.Connection[tuple[Any, ...]]

VALUE = b"\x00V"
"""A value as it is stored: with the byte of its format."""

SET = "SELECT keystore_bot_write(%s, %s, %s, %s, %s, %s, %s, %s, %s, NULL)"


def bot_set(company: str, types: str, ids: str, values: str, creds: str = "NULL") -> str:
    """A write by a bot, with SQL expressions for its lists."""
    return (
        f"SELECT keystore_bot_write('{company}', {types}, {ids}, {values}, '{{}}', '{{}}', {creds}, NULL, NULL, NULL)"
    )


STORED = "ARRAY['\\x0056'::bytea]"
EMPTY = "ARRAY['\\x00'::bytea]"


@pytest.fixture
def makes_logins(postgres_site: PostgresSite, migrated_postgres_url: str) -> Iterator[str]:
    """The address of a database whose owner may make logins; those that it made are dropped."""
    database = migrated_postgres_url.rpartition("/")[2]
    owner = sql.Identifier(postgres_site.role)
    with closing(postgres_site.admin(database)) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(owner))
        try:
            yield migrated_postgres_url
        finally:
            for (login,) in admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'bot\\_%'").fetchall():
                admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(login)))
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
            admin.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(owner))


@pytest.fixture
def bot(makes_logins: str) -> Iterator[Connection]:
    """A connection of the bot of company 1; company 2 has a key as well."""
    with open_store(makes_logins) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"C")
        store.set("2", {"session": {"b": b"B"}})
    made = run_json("role", "create", "--company", "company_1", url=makes_logins)
    assert (made["login"], made["companies"]) == ("bot_1", ["1"])
    with closing(psycopg.connect(made["address"], autocommit=True)) as conn:
        yield conn


def refusal(conn: Connection, statement: str, *params: object) -> str:
    """The class of the error that ends a statement."""
    with pytest.raises(psycopg.Error) as refused:
        conn.execute(statement.encode(), params or None)
    return type(refused.value).__name__


def test_the_bot_of_a_company_reads_and_writes_it(bot: Connection, makes_logins: str) -> None:
    rows = bot.execute("SELECT * FROM keystore_bot_load('1')").fetchall()
    assert sorted(rows, key=str) == sorted([("session", "a", b"\x00A"), (None, None, b"\x00C")], key=str)
    ((holder, epoch, _, seq),) = bot.execute("SELECT * FROM keystore_bot_take_lease('1', 'h', 60, false)").fetchall()
    assert (holder, epoch, seq) == ("h", 1, 0)
    written = ["1", ["pre-key", "session"], ["7", "a"], [VALUE, VALUE], ["session"], ["gone"], None, 1, 1]
    bot.execute(SET, written)
    bot.execute(SET, written)
    assert bot.execute("SELECT key_id, value FROM keystore_bot_get('1', 'session', '{a}')").fetchall() == [("a", VALUE)]
    bot.execute("SELECT * FROM keystore_bot_use('1', '{session}', '{a}')")
    assert bot.execute("SELECT seq FROM keystore_bot_renew_lease('1', 'h', 1, 60)").fetchall() == [(1,)]
    with open_store(makes_logins) as store:
        assert store.load("1").keys == {"session": {"a": b"V"}, "pre-key": {"7": b"V"}}
        assert {row.expires_at is not None for row in store.export_rows("1")} == {True}, "the policy holds for it too"
    bot.execute("SELECT * FROM keystore_bot_clear('1', false, 1, 2, 1)")
    assert bot.execute("SELECT keystore_bot_release_lease('1', 'h', 1)").fetchall() == [(True,)]
    assert [row[0] for row in bot.execute("SELECT key_type FROM keystore_bot_load('1') WHERE value IS NOT NULL")] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM keystore_bot_load('2')",
        "SELECT * FROM keystore_bot_get('2', 'session', '{b}')",
        bot_set("2", "'{session}'", "'{b}'", STORED),
        "SELECT * FROM keystore_bot_use('2', '{session}', '{b}')",
        "SELECT * FROM keystore_bot_clear('2', false, NULL, NULL, NULL)",
        "SELECT * FROM keystore_bot_take_lease('2', 'h', 60, true)",
        "SELECT * FROM keystore_bot_renew_lease('2', 'h', 1, 60)",
        "SELECT keystore_bot_release_lease('2', 'h', 1)",
        "SELECT * FROM keystore_load('1')",
        "SELECT keystore_write('1', '{}', '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "SELECT * FROM keystore_sweep('1', true, false, NULL)",
        "SELECT * FROM keystore_backfill(10, NULL)",
        "SELECT keystore_add_login('bot_1', NULL, '2', 1, 1)",
        "SELECT keystore_open_to_login('bot_1')",
        "SELECT company_id FROM whatsapp_keys",
        "SELECT company_id FROM whatsapp_auth",
        "SELECT * FROM keystore_policy",
        "SELECT * FROM keystore_logins",
        "SELECT * FROM keystore_tokens",
        "SELECT * FROM keystore_company_leases",
        "INSERT INTO keystore_logins VALUES ('bot_1', '2', 1, 1)",
        "DELETE FROM keystore_policy",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE TABLE public.t (x int)",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE bot_9",
    ],
)
def test_everything_else_is_refused(bot: Connection, makes_logins: str, statement: str) -> None:
    with open_store(makes_logins) as store:
        before = store.load("1"), store.load("2")
        assert refusal(bot, statement) == "InsufficientPrivilege"
        assert (store.load("1"), store.load("2")) == before


def test_a_table_of_its_own_shadows_none_of_ours(bot: Connection) -> None:
    bot.execute("CREATE TEMP TABLE keystore_logins (login text, company_id text, most_keys bigint, most_bytes bigint)")
    bot.execute("INSERT INTO pg_temp.keystore_logins VALUES ('bot_1', '2', 1, 1)")
    bot.execute("CREATE TEMP TABLE whatsapp_keys (company_id text, key_type text, key_id text, value bytea)")
    bot.execute("SET search_path = pg_temp, public")
    assert refusal(bot, "SELECT * FROM public.keystore_bot_load('2')") == "InsufficientPrivilege"
    assert len(bot.execute("SELECT * FROM public.keystore_bot_load('1')").fetchall()) == 2


@pytest.mark.parametrize(
    "statement",
    [
        bot_set("1", "'{a,b}'", "'{a}'", STORED),
        bot_set("1", "'{session}'", "'{a}'", "'{}'"),
        bot_set("1", "'{session}'", "'{NULL}'", STORED),
        bot_set("1", "'{session}'", "ARRAY[repeat('x', 256)]", STORED),
        bot_set("1", "'{session}'", "'{a}'", EMPTY),
        bot_set("1", "'{}'", "'{}'", "'{}'", creds="'\\x'"),
        "SELECT * FROM keystore_bot_use('1', NULL, '{a}')",
        "SELECT * FROM keystore_bot_take_lease('1', 'h', 'NaN', false)",
        "SELECT * FROM keystore_bot_take_lease('1', 'h', 86401, false)",
        "SELECT * FROM keystore_bot_take_lease('1', '', 60, false)",
    ],
)
def test_what_no_program_of_ours_has_checked_is_checked(bot: Connection, makes_logins: str, statement: str) -> None:
    with open_store(makes_logins) as store:
        before = store.load("1")
        assert refusal(bot, statement) == "InvalidParameterValue"
        assert store.load("1") == before


def test_a_large_write_beyond_the_quota_is_refused(makes_logins: str) -> None:
    made = run_json("role", "create", "--company", "1", url=makes_logins, KEYSTORE_COMPANY_KEYS="150")
    with closing(psycopg.connect(made["address"], autocommit=True)) as conn:
        for keys, refused in ((100, False), (1_000, True)):
            ids = [f"{number}" for number in range(keys)]
            params = ["1", ["session"] * keys, ids, [VALUE] * keys, [], [], None, None, None]
            if refused:
                with pytest.raises(psycopg.Error) as error:
                    conn.execute(SET, params)
                assert error.value.sqlstate == "KS002"
            else:
                conn.execute(SET, params)


def test_a_login_gets_more_companies_and_ends_at_once(bot: Connection, makes_logins: str) -> None:
    more = run_json("role", "create", "--company", "2", "--login", "bot_1", url=makes_logins)
    assert more["address"] is None
    assert len(bot.execute("SELECT * FROM keystore_bot_load('2')").fetchall()) == 1
    (listed,) = run_json("role", "list", url=makes_logins)["logins"]
    assert (listed["login"], listed["companies"], listed["exists"]) == ("bot_1", ["1", "2"], True)
    assert run_json("role", "revoke", "bot_1", url=makes_logins)["role"] == "dropped"
    assert refusal(bot, "SELECT * FROM keystore_bot_load('1')") in ("InsufficientPrivilege", "UndefinedObject")
    assert run_json("role", "list", url=makes_logins)["logins"] == []
    assert "no login bot_1" in run_refused("role", "revoke", "bot_1", url=makes_logins)


def test_an_owner_that_may_make_no_role_gets_the_statements(
    postgres_site: PostgresSite, migrated_postgres_url: str
) -> None:
    refused = run_refused("role", "create", "--company", "1", url=migrated_postgres_url)
    assert "--print" in refused
    printed = run_json("role", "create", "--company", "1", "--print", url=migrated_postgres_url)
    database = migrated_postgres_url.rpartition("/")[2]
    with closing(postgres_site.admin(database)) as admin:
        admin.execute(printed["statements"])
        try:
            with closing(psycopg.connect(printed["address"], autocommit=True)) as conn:
                assert conn.execute("SELECT * FROM keystore_bot_load('1')").fetchall() == []
            assert run_json("role", "revoke", "bot_1", url=migrated_postgres_url)["role"] == "kept"
        finally:
            admin.execute("DROP OWNED BY bot_1")
            admin.execute("DROP ROLE bot_1")


def test_a_schema_in_which_anybody_may_make_functions_gets_no_login(
    postgres_site: PostgresSite, makes_logins: str
) -> None:
    with closing(postgres_site.admin(makes_logins.rpartition("/")[2])) as admin:
        admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    refused = run_refused("role", "create", "--company", "1", url=makes_logins)
    assert "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in refused


def test_another_role_is_never_taken_for_a_bots(postgres_site: PostgresSite, makes_logins: str) -> None:
    refused = run_refused("role", "create", "--company", "1", "--login", postgres_site.role, url=makes_logins)
    assert "is no bot's" in refused


def test_the_password_is_shown_once_and_the_server_never_sees_it(
    postgres_site: PostgresSite, makes_logins: str
) -> None:
    shown = run("role", "create", "--company", "1", url=makes_logins)
    password = shown.stdout.strip().removeprefix("postgresql://bot_1:").partition("@")[0]
    assert len(password) == 32
    assert password not in shown.stderr + run("role", "list", url=makes_logins).stdout
    printed = run_json("role", "create", "--company", "3", "--print", url=makes_logins)
    assert printed["address"].removeprefix("postgresql://bot_3:").partition("@")[0] not in printed["statements"]


@pytest.fixture
def roles(makes_logins: str) -> dict[str, str]:
    """The addresses of the service and the monitor, made by the printed statements, run twice."""
    printed = run_json("role", "print", "--service", "bot_s", "--monitor", "bot_m", url=makes_logins)["statements"]
    with open_store(makes_logins) as store:
        store.set("1", {"session": {"a": b"SECRET"}}, creds=b"C")
    with closing(psycopg.connect(makes_logins, autocommit=True)) as owner:
        for _ in range(2):
            owner.execute(printed)
        for login in ("bot_s", "bot_m"):
            owner.execute(sql.SQL("ALTER ROLE {} PASSWORD 'p'").format(sql.Identifier(login)))
    place = makes_logins.rpartition("@")[2]
    return {login: f"postgresql://{login}:p@{place}" for login in ("bot_s", "bot_m")}


def test_the_service_needs_no_more_than_its_role(roles: dict[str, str]) -> None:
    url = roles["bot_s"]
    with open_store(url, policy=CAREFUL, create=False) as store:
        lease = store.lease_company("1", "h", 60)
        store.set("1", {"session": {"a": b"A", "b": b"B"}}, creds=b"D", epoch=lease.epoch)
        assert store.get("1", "session", ["a"]) == {"a": b"A"}
        store.touch("1", {"session": ["a"]})
        store.clear("1", epoch=lease.epoch)
        store.probe_write()
        sweep(store)
        store.remember("n", "x")
        create_token(store, "1", None)
    for command in ("check", "types", "growth", "perf", "doctor", "backfill"):
        run_json(command, url=url)
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        for statement in ("ALTER TABLE whatsapp_keys ADD x int", "SELECT keystore_add_login('bot_s', NULL, '1', 1, 1)"):
            assert refusal(conn, statement) == "InsufficientPrivilege"


def test_a_monitor_counts_and_reads_no_value(roles: dict[str, str]) -> None:
    url = roles["bot_m"]
    assert run_json("check", url=url)["total"] == 1
    assert run_json("types", url=url)["total"] == 1
    run_json("growth", url=url)
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        for statement in (
            "SELECT value FROM whatsapp_keys",
            "SELECT * FROM whatsapp_keys",
            "SELECT creds FROM whatsapp_auth",
            "SELECT secret_hash FROM keystore_tokens",
            "SELECT * FROM keystore_load('1')",
            "SELECT * FROM keystore_bot_load('1')",
            "DELETE FROM whatsapp_keys",
            "UPDATE keystore_policy SET ttl_s = 1",
            "SELECT * FROM keystore_displaced",
        ):
            assert refusal(conn, statement) == "InsufficientPrivilege"


def test_a_database_file_has_no_logins(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with open_store(url):
        pass
    assert "only PostgreSQL has logins" in run_refused("role", "list", url=url)


def test_names_and_addresses_of_logins() -> None:
    assert login_of(["962302", "1"]) == "bot_962302"
    assert login_of(["Acme-Shop"]) == "bot_acme_shop"
    for wrong in ("", "Bot", "1bot", "pg_bot", "a b", 'a"b', "x" * 64):
        with pytest.raises(InvalidInput):
            checked_login(wrong)
    params = {"host": "a,::1", "port": "5432", "dbname": "my bots", "sslmode": "require", "options": "-csearch_path=x"}
    assert address_for_login(params, "bot_1", "p/w") == (
        "postgresql://bot_1:p%2Fw@a:5432,[::1]:5432/my%20bots?sslmode=require&options=-csearch_path%3Dx"
    )
    assert address_for_login({"host": "/run/pg", "dbname": "b"}, "bot_1", "p") == (
        "postgresql://bot_1:p@/b?host=%2Frun%2Fpg&port=5432"
    )


def test_a_company_with_sealed_values_gets_no_login(makes_logins: str) -> None:
    with open_store(makes_logins, secret_keys=SECRET_KEY) as store:
        store.set("3", {"session": {"a": b"A"}})
    message = run_refused("role", "create", "--company", "3", url=makes_logins, KEYSTORE_SECRET_KEYS=SECRET_KEY)
    assert "the values of 3 are sealed" in message
    assert run_json("role", "list", url=makes_logins, KEYSTORE_SECRET_KEYS=SECRET_KEY)["logins"] == []
