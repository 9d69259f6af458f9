"""A write probe takes what a bot's write takes, names the obstacle, and leaves nothing behind."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from keystore import SchemaMismatch, Store, StoreUnavailable, open_store
from keystore.sql.store import SqlStore
from keystore.sqlite.link import SqliteLink
from keystore.ttl import DIARY
from monitor.reports.doctor import examine
from monitor.reports.load_time import db_health
from monitor.telegram import texts
from monitor.watch_settings import WatchSettings
from rig.fixtures.postgres import PostgresSite
from rig.paths import PROJECT

PROBE_WITHOUT_ROOM = """
import resource, sys
from keystore import open_store
from keystore.errors import StoreUnavailable
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    store.probe_write()
except StoreUnavailable as error:
    print(error)
"""


def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    store.probe_write()
    store.probe_write()
    assert store.notes("") == {}
    assert store.census().total == 0
    assert store.companies() == []


def test_a_read_only_database_is_named(store: Store, store_url: str, postgres_site: PostgresSite) -> None:
    _make_read_only(store, store_url, postgres_site)
    with pytest.raises(StoreUnavailable, match=r"read-only|can't be written") as probed:
        store.probe_write()
    with pytest.raises(StoreUnavailable) as written:
        store.set("1", {"session": {"a": b"A"}})
    assert str(probed.value).partition("execute")[0] == str(written.value).partition("execute")[0]


def test_without_the_privilege_to_write_a_table_the_probe_fails(
    postgres_site: PostgresSite, migrated_postgres_url: str
) -> None:
    database = migrated_postgres_url.rpartition("/")[2]
    role = sql.Identifier(postgres_site.role)
    with open_store(migrated_postgres_url) as store, closing(postgres_site.admin(database)) as admin:
        store.probe_write()
        for table, privilege in (
            ("whatsapp_keys", "DELETE"),
            ("whatsapp_auth", "UPDATE"),
            ("keystore_notes", "INSERT"),
        ):
            change = sql.SQL(" {} ON {} ").format(sql.SQL(privilege), sql.Identifier(table))
            admin.execute(sql.SQL("REVOKE") + change + sql.SQL("FROM {}").format(role))
            with pytest.raises(SchemaMismatch, match=table):
                store.probe_write()
            admin.execute(sql.SQL("GRANT") + change + sql.SQL("TO {}").format(role))
        store.probe_write()


def test_a_column_that_no_write_fills_is_named(migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url) as store, closing(psycopg.connect(migrated_postgres_url)) as conn:
        conn.execute("ALTER TABLE whatsapp_keys ADD tenant_id int NOT NULL, ADD n int NOT NULL DEFAULT 1")
        conn.commit()
        with pytest.raises(SchemaMismatch, match=r"whatsapp_keys\.tenant_id must not be null"):
            store.probe_write()
        conn.execute("ALTER TABLE whatsapp_keys ALTER tenant_id DROP NOT NULL")
        conn.commit()
        store.probe_write()


def test_a_table_without_its_primary_key_takes_no_write(migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url) as store, closing(psycopg.connect(migrated_postgres_url)) as conn:
        conn.execute("ALTER TABLE whatsapp_keys DROP CONSTRAINT whatsapp_keys_pkey")
        conn.commit()
        with pytest.raises(SchemaMismatch, match="ON CONFLICT"):
            store.probe_write()


def test_a_full_disk_fails_a_probe_although_the_file_can_be_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keystore.db'}"
    open_store(url).close()
    done = subprocess.run(
        [sys.executable, "-c", PROBE_WITHOUT_ROOM, url], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "the disk" in done.stdout, done.stdout + done.stderr


def test_doctor_and_db_health_try_a_write(store: Store, store_url: str, postgres_site: PostgresSite) -> None:
    settings = WatchSettings(3_600.0, 750.0, version="1.2.3")

    def doctor() -> dict[str, tuple[str, str]]:
        report = examine(lambda: open_store(store_url), DIARY, guard=True, telegram=("ok", ""))
        return {check.name: (check.status, check.detail) for check in report.checks}

    assert doctor()["writes"][0] == "ok"
    assert db_health(store, settings).write_error is None
    _make_read_only(store, store_url, postgres_site)
    health = db_health(store, settings)
    assert health.verdict == "critical"
    assert health.write_error
    answer = "".join(line.text for line in texts.db_health(health, settings))
    assert f"no bot can save a key: {health.write_error}" in answer
    assert isinstance(store, SqlStore)
    if not isinstance(store.link, SqliteLink):  # A file's new connection may write again.
        assert doctor()["writes"] == ("failed", f"no bot can save a key: {health.write_error}")


def _make_read_only(store: Store, url: str, site: PostgresSite) -> None:
    assert isinstance(store, SqlStore)
    if isinstance(store.link, SqliteLink):
        link = store.link
        link.rows("PRAGMA query_only = on", {})
        return
    database = url.rpartition("/")[2]
    for server in site.servers:
        with closing(server.admin(database)) as conn:  # Not through a pooler, which would keep this connection.
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(database))
            )
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
