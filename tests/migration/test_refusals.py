"""Refusals, in one line with a remedy: tables of another version, files that fail, bad addresses; and no secrets."""

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from keystore import InvalidInput, KeystoreError, SchemaMismatch, StoreUnavailable, open_store
from keystore.migrate import migrate
from keystore.schema import Shape, schema_of
from rig.fixtures.postgres import PASSWORD, OwnServer, PostgresSite
from rig.postgres_server import server_home
from rig.relay import free_port
from tests.migration.conftest import POSTGRES_FILES, SQLITE_FILES, LegacyDatabase, catalog, opened_link, query

pytestmark = pytest.mark.slow

SECRETS = (PASSWORD, quote(PASSWORD, safe=""), "ss/w:rd", "ss%2Fw")


def refusal(call: Callable[[], object], kind: type[KeystoreError]) -> str:
    """The one line of the call's error; no password in it, in its causes or in their tracebacks."""
    with pytest.raises(kind) as refused:
        call()
    line = str(refused.value)
    assert "\n" not in line
    everything = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert [secret for secret in SECRETS if secret in everything] == []
    return line


def run_migrate(url: str) -> list[str]:
    with opened_link(url) as link:
        return migrate(link)


# A migration that fails.


def test_a_failed_file_changes_nothing_and_works_once_its_cause_is_gone(legacy: LegacyDatabase) -> None:
    legacy.upsert("company_1", "mine", "a", "S3CRET")
    legacy.execute("CREATE VIEW mine AS SELECT company_id, value FROM whatsapp_keys")
    rows, before = legacy.execute("SELECT * FROM whatsapp_keys"), catalog(legacy.url)
    with pytest.raises(SchemaMismatch) as refused:
        run_migrate(legacy.url)
    line = str(refused.value)
    assert "migration 20261124_03_opaque_values failed and changed nothing" in line
    assert "cannot alter type of a column used by a view or rule" in line
    assert "\n" not in line
    assert "S3CRET" not in "".join(traceback.format_exception(refused.value))
    assert (legacy.execute("SELECT * FROM whatsapp_keys"), catalog(legacy.url)) == (rows, before)
    legacy.execute("DROP VIEW mine")
    assert len(run_migrate(legacy.url)) == len(POSTGRES_FILES)


def test_a_failed_file_on_sqlite_changes_nothing(new_file: Path) -> None:
    url = f"sqlite:///{new_file}"
    with opened_link(url) as link:
        link.rows("CREATE TABLE whatsapp_auth (company_id TEXT)", {})
        link.rows("CREATE TABLE whatsapp_keys (mine TEXT)", {})
        line = refusal(lambda: migrate(link), SchemaMismatch)
        assert "20261124_01_keystore failed and changed nothing" in line
        tables = {row[0] for row in link.rows("SELECT name FROM sqlite_master WHERE type = 'table'", {})}
        assert tables == {"whatsapp_auth", "whatsapp_keys"}
        link.rows("DROP TABLE whatsapp_keys", {})
        link.rows("DROP TABLE whatsapp_auth", {})
        assert len(migrate(link)) == len(SQLITE_FILES)


def test_migrating_needs_no_user_name_and_no_name_server(
    postgres_url: str, new_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", fail)
    monkeypatch.setattr("socket.getfqdn", fail)
    for url in (postgres_url, f"sqlite:///{new_file}"):
        open_store(url).close()


def test_a_short_statement_timeout_of_the_server_lets_a_migration_finish(legacy: LegacyDatabase) -> None:
    legacy.execute(
        "INSERT INTO whatsapp_keys SELECT '1', 'mine', n::text, jsonb_build_object('a', (SELECT "
        "jsonb_agg(jsonb_build_object('type', 'Buffer', 'data', '[1, 2, 3]'::jsonb)) FROM generate_series(1, 20))) "
        "FROM generate_series(1, 3000) AS n"
    )
    options = quote("-c statement_timeout=400ms", safe="")
    with opened_link(f"{legacy.url}?options={options}") as link:
        assert len(migrate(link)) == len(POSTGRES_FILES)


# Other versions.


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_tables_of_a_newer_version_need_an_upgrade(kind: str, request: pytest.FixtureRequest, new_file: Path) -> None:
    url = f"sqlite:///{new_file}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    open_store(url).close()
    with opened_link(url) as link:
        link.rows("INSERT INTO _yoyo_migration (migration_hash, migration_id) VALUES ('x', '20991231_01_future')", {})
        for call in (lambda: migrate(link), lambda: schema_of(link), lambda: open_store(url)):
            assert "newer version (20991231_01_future); upgrade this program" in refusal(call, SchemaMismatch)


def test_an_outdated_schema_needs_migrate(postgres_url: str) -> None:
    open_store(postgres_url).close()
    with opened_link(postgres_url) as link:
        link.rows("DELETE FROM _yoyo_migration WHERE migration_id LIKE '20261124_04%%'", {})
        assert schema_of(link).pending == ("20261124_04_closed_tables",)
        line = refusal(lambda: open_store(postgres_url), SchemaMismatch)
        assert "schema outdated, 1 to apply (20261124_04_closed_tables first); run `python run.py migrate`" in line
        assert migrate(link) == ["20261124_04_closed_tables"]
    open_store(postgres_url).close()


def test_our_tables_without_a_record_are_recorded_again(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    with opened_link(postgres_url) as link:
        for table in ("_yoyo_migration", "_yoyo_log", "_yoyo_version", "yoyo_lock"):
            link.rows(f"DROP TABLE {table}", {})
        assert schema_of(link).shape is Shape.CONVERTED
        assert len(migrate(link)) == len(POSTGRES_FILES)
    with open_store(postgres_url) as store:
        assert store.load("1").keys == {"session": {"a": b"A"}}
        assert store.load("1").creds == b"C"


def test_a_file_that_lost_a_record_is_migrated_again(new_file: Path) -> None:
    url = f"sqlite:///{new_file}"
    with open_store(url) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    with opened_link(url) as link:
        link.rows("DELETE FROM _yoyo_migration", {})
        assert migrate(link) == list(SQLITE_FILES)
    with open_store(url) as store:
        assert store.load("1").keys == {"session": {"a": b"A"}}
        assert store.load("1").creds == b"C"


# Addresses and secrets.


def test_no_password_shows_in_any_log_or_error(
    legacy: LegacyDatabase,
    postgres_site: PostgresSite,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    refusal(lambda: open_store(legacy.url), SchemaMismatch)
    legacy.execute("CREATE VIEW mine AS SELECT value FROM whatsapp_keys")
    refusal(lambda: run_migrate(legacy.url), SchemaMismatch)
    legacy.execute("DROP VIEW mine")
    run_migrate(legacy.url)
    refusal(lambda: open_store(postgres_site.url("postgres", password=PASSWORD + "x")), StoreUnavailable)
    refusal(lambda: open_store(re.sub(r":\d+/", f":{free_port()}/", legacy.url)), StoreUnavailable)
    refusal(lambda: open_store(f"{legacy.url.rpartition('/')[0]}/no_such"), StoreUnavailable)
    refusal(lambda: open_store(f"postgresql://bot:{PASSWORD}@127.0.0.1/bots"), InvalidInput)
    refusal(lambda: open_store(f"mysql://bot:{quote(PASSWORD, safe='')}@127.0.0.1/bots"), InvalidInput)
    assert caplog.records, "nothing was logged: yoyo does log what it applies"
    out, err = capfd.readouterr()
    logged = caplog.text + out + err
    assert [secret for secret in SECRETS if secret in logged] == []


def test_options_in_the_address_reach_the_migration(postgres_url: str, postgres_site: PostgresSite) -> None:
    with closing(postgres_site.admin(postgres_url.rpartition("/")[2])) as conn:
        query(conn, f'CREATE SCHEMA bots AUTHORIZATION "{postgres_site.role}"')
        url = f"{postgres_url}?options={quote('-c search_path=bots', safe='')}&sslmode=prefer&connect_timeout=3"
        with open_store(url) as store:
            store.set("1", {"session": {"a": b"A"}})
        where = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename ~ '^(whatsapp|keystore|_?yoyo)_'"
        assert query(conn, where) == [("bots",)]


def test_a_database_with_an_odd_name_is_the_one_that_is_migrated(postgres_site: PostgresSite) -> None:
    with postgres_site.database(name=f"{postgres_site.role} ö %20 + ? #") as name:
        with open_store(postgres_site.url(quote(name, safe=""))) as store:
            store.set("1", {"session": {"a": b"A"}})
        with closing(postgres_site.admin(name)) as conn:
            assert query(conn, "SELECT key_id FROM whatsapp_keys") == [("a",)]


def test_a_server_on_a_unix_socket_is_migrated_and_opened(own_server: OwnServer) -> None:
    with server_home("socket") as folder:
        with closing(own_server.site.admin()) as conn:
            query(conn, f"ALTER SYSTEM SET unix_socket_directories = '{folder}'")
        own_server.server.stop()
        own_server.server.start()
        login = f"{own_server.site.role}:{quote(PASSWORD, safe='')}"
        port = own_server.server.port
        for n, url in enumerate(
            (
                f"postgresql:///bots?host={folder}&port={port}&user={own_server.site.role}&password={quote(PASSWORD)}",
                f"postgresql://{login}@{quote(str(folder), safe='')}:{port}/bots",
            )
        ):
            with opened_link(url) as link:
                assert len(migrate(link)) == (0 if n else len(POSTGRES_FILES))
            with open_store(url) as store:
                assert PASSWORD not in store.database
                store.set("1", {"session": {f"{n}": b"A"}})
                assert store.load("1").total == n + 1
        own_server.server.stop()
        refusal(lambda: open_store(url), StoreUnavailable)


@pytest.mark.parametrize(
    "name",
    ["with space.db", "what?.db", "a#b.db", "100%.db", "%20.db", "Schlüssel ☎.db", "a&b=c;d'e\"f.db", "file:x.db"],
)
def test_a_file_with_an_odd_name_is_the_one_that_is_migrated(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "Ordner #1 100%"
    folder.mkdir()
    url = f"sqlite:///{quote(str(folder / name))}"
    with open_store(url) as store:
        store.set("1", {"session": {"a": b"A"}})
    assert [path.name for path in folder.iterdir()] == [name]
    with open_store(url) as store:
        assert store.load("1").keys == {"session": {"a": b"A"}}


def test_a_relative_file_name_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///keystore.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["keystore.db"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keystore.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://keystore.db",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db#b",
        "sqlite:///a%00b.db",
        "sqlite:////tmp",
        "postgresql://bot:geheim@h:port/db",
        "postgresql://bot:ge/he#im@h/db",
        "postgresql://bot:geheim@h/db?no_such_option=1",
        "mysql://bot:geheim@h/db",
    ],
)
def test_an_unusable_address_is_refused_without_its_password(url: str) -> None:
    assert "geheim" not in refusal(lambda: open_store(url), InvalidInput)
