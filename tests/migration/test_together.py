"""Concurrent migrations: processes that start, migrate and die at the same time, and servers that crash meanwhile."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from keystore import SchemaMismatch, StoreUnavailable, open_store
from keystore.migrate import attach_upkeep, migrate
from keystore.schema import UPKEEP_MIGRATIONS, schema_of
from rig.fixtures.pgbouncer import Pooler
from rig.fixtures.postgres import OwnServer, PostgresSite
from rig.paths import PROJECT
from rig.waiting import eventually
from tests.conformance.worker_process import Worker, rewrite, workers
from tests.migration.conftest import (
    POSTGRES_FILES,
    SQLITE_FILES,
    UPSERT,
    LegacyDatabase,
    catalog,
    create_legacy_tables,
    opened_link,
    query,
)

pytestmark = pytest.mark.slow

MIGRATE = """
import sys
from keystore.migrate import migrate
from keystore.opening import open_link
print(migrate(open_link(sys.stdin.readline().strip())))
"""

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND application_name = 'signal-keystore'"
)


def open_together(url: str, processes: int) -> None:
    """Open a store in several processes at once; every one must succeed."""
    started = [Worker(rewrite, url, None, names=[("1", f"{n}")]) for n in range(processes)]
    with workers(*started):
        for worker in started:
            worker.go()
        for worker in started:
            assert worker.result() == 1
    with open_store(url) as store:
        assert store.load("1").total == processes


def assert_recorded_once(recorded: list[str]) -> None:
    assert sorted(recorded) == sorted(POSTGRES_FILES)
    assert set(Counter(recorded).values()) == {1}


@contextmanager
def migrating(url: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that migrates, and kill it after the block if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", MIGRATE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert process.stdin is not None
    process.stdin.write(url + "\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def bot_in_a_transaction(legacy: LegacyDatabase, *tables: str) -> Iterator[None]:
    """Keep a bot's transaction open that has written."""
    with closing(legacy.connect()) as conn, conn.transaction():
        for table in tables:
            query(conn, f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        conn.execute(UPSERT, ("1", "mine", "open", "{}"))
        yield


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_open_one_empty_postgres_together_all_succeed(
    postgres_url: str, recorded: Callable[[str], list[str]], processes: int
) -> None:
    open_together(postgres_url, processes)
    assert_recorded_once(recorded(postgres_url))


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_open_one_empty_postgres_through_a_small_pooler(
    postgres_url: str, pooler: Pooler, recorded: Callable[[str], list[str]], processes: int
) -> None:
    open_together(pooler.url(postgres_url.rpartition("/")[2]), processes)
    assert_recorded_once(recorded(postgres_url))


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_open_one_new_file_together_all_succeed(new_file: Path, processes: int) -> None:
    open_together(f"sqlite:///{new_file}", processes)
    with opened_link(f"sqlite:///{new_file}") as link:
        assert link.rows("SELECT count(*) FROM _yoyo_migration", {}) == [(len(SQLITE_FILES),)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_threads_that_open_one_empty_database_together_all_succeed(
    kind: str, request: pytest.FixtureRequest, new_file: Path
) -> None:
    url = f"sqlite:///{new_file}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    barrier = threading.Barrier(8)

    def use(n: int) -> None:
        barrier.wait()
        with open_store(url) as store:
            store.set("1", {"session": {f"{n}": b"A"}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    with open_store(url) as store:
        assert store.load("1").total == 8


def test_concurrent_migrations_convert_a_legacy_database_once(
    legacy: LegacyDatabase, recorded: Callable[[str], list[str]]
) -> None:
    legacy.upsert("company_1", "mine", "a", {"type": "Buffer", "data": [1, 2]})

    def run(_: int) -> list[str]:
        with opened_link(legacy.url) as link:
            return migrate(link)

    with ThreadPoolExecutor(6) as pool:
        applied = sorted(len(files) for files in pool.map(run, range(6)))
    assert applied == [0, 0, 0, 0, 0, len(POSTGRES_FILES)]
    assert_recorded_once(recorded(legacy.url))
    with open_store(legacy.url) as store:
        assert store.load("1").keys == {"mine": {"a": b'{"data": "AQI=", "type": "Buffer"}'}}


def test_migrating_leaves_a_file_as_the_store_keeps_it(new_file: Path) -> None:
    with open_store(f"sqlite:///{new_file}") as store:
        store.set("1", {"session": {"a": b"A"}})
        with opened_link(f"sqlite:///{new_file}") as link:
            assert link.rows("SELECT * FROM pragma_journal_mode", {}) == [("wal",)]
            assert link.rows("SELECT count(*) FROM yoyo_lock", {}) == [(0,)]
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(new_file.parent))] == []


@pytest.mark.parametrize("table", ["whatsapp_keys", "whatsapp_auth"])
def test_a_migration_that_is_killed_leaves_the_bots_tables_as_they_were(legacy: LegacyDatabase, table: str) -> None:
    legacy.upsert("company_1", "mine", "a", {"type": "Buffer", "data": [1, 2]})
    rows, before = legacy.execute("SELECT * FROM whatsapp_keys"), catalog(legacy.url)
    with migrating(legacy.url) as process, closing(legacy.admin()) as admin:
        with bot_in_a_transaction(legacy, table):
            eventually(lambda: query(admin, WAITING) == [(1,)], "the migration waits for the bot")
            process.kill()
            process.wait()
        # Its server process notices the lost connection only when it tries to answer.
        eventually(lambda: query(admin, WAITING) == [(0,)], "the dead process's session ends")
    assert legacy.execute("SELECT * FROM whatsapp_keys WHERE key_id = 'a'") == rows
    assert catalog(legacy.url, without_ours=True) == before
    legacy.upsert("company_1", "mine", "b", {})
    with opened_link(legacy.url) as link:
        assert len(migrate(link)) == len(POSTGRES_FILES)
    with open_store(legacy.url) as store:
        assert store.load("1").total == 3


def test_a_lock_row_left_behind_by_yoyo_is_removed(legacy: LegacyDatabase, new_file: Path) -> None:
    with opened_link(legacy.url) as link:
        attach_upkeep(link)
        link.rows("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)", {})
        assert len(migrate(link)) == len(POSTGRES_FILES) - len(UPKEEP_MIGRATIONS)
        assert link.rows("SELECT count(*) FROM yoyo_lock", {}) == [(0,)]
    with opened_link(f"sqlite:///{new_file}") as link:
        link.rows(
            "CREATE TABLE yoyo_lock (locked INT DEFAULT 1, ctime TIMESTAMP, pid INT NOT NULL, PRIMARY KEY (locked))", {}
        )
        link.rows("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, '2026-01-01', 4711)", {})
        assert len(migrate(link)) == len(SQLITE_FILES)


def test_the_wait_for_a_bots_open_transaction_ends(legacy: LegacyDatabase) -> None:
    before = catalog(legacy.url)
    with (
        bot_in_a_transaction(legacy, "whatsapp_keys"),
        opened_link(legacy.url) as link,
        pytest.raises(
            SchemaMismatch, match=r"another session has locked the tables.*Stop the bot.*run.py migrate` again"
        ) as refused,
    ):
        migrate(link)
    assert "\n" not in str(refused.value)
    assert catalog(legacy.url) == before
    with opened_link(legacy.url) as link:
        assert len(migrate(link)) == len(POSTGRES_FILES)


def test_a_migration_whose_session_is_terminated_can_be_repeated(legacy: LegacyDatabase) -> None:
    before = catalog(legacy.url)
    with opened_link(legacy.url) as link, closing(legacy.admin()) as admin, ThreadPoolExecutor(1) as pool:
        with bot_in_a_transaction(legacy, "whatsapp_keys"):
            running = pool.submit(migrate, link)
            eventually(lambda: query(admin, WAITING) == [(1,)], "the migration waits for the bot")
            query(
                admin,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()",
            )
            with pytest.raises(StoreUnavailable, match="broke off; it is safe to run this again"):
                running.result()
        assert catalog(legacy.url) == before
        assert len(migrate(link)) == len(POSTGRES_FILES)


def test_a_server_that_crashes_in_a_migration_keeps_the_bots_tables(own_server: OwnServer) -> None:
    create_legacy_tables(own_server.url)
    legacy = LegacyDatabase(own_server.url, own_server.site)
    legacy.upsert("1", "mine", "a", {"type": "Buffer", "data": [1, 2]})
    before = catalog(legacy.url)
    with opened_link(legacy.url) as link, ThreadPoolExecutor(1) as pool:
        conn = legacy.connect()
        conn.execute("BEGIN")
        conn.execute(UPSERT, ("1", "mine", "open", "{}"))
        running = pool.submit(migrate, link)
        with closing(legacy.admin()) as admin:
            eventually(lambda: query(admin, WAITING) == [(1,)], "the migration waits for the bot")
        own_server.server.crash()
        conn.close()
        with pytest.raises(StoreUnavailable):
            running.result()
        own_server.server.start()
        assert catalog(legacy.url) == before
        assert legacy.execute("SELECT key_id FROM whatsapp_keys") == [("a",)]
        assert len(migrate(link)) == len(POSTGRES_FILES)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_wait_for_another_process_that_migrates_ends(
    kind: str, request: pytest.FixtureRequest, new_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystore.migrate.LOCK_TIMEOUT_S", 1)
    url = f"sqlite:///{new_file}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    lock = "CREATE TABLE t (n INT)" if kind == "sqlite" else "SELECT pg_advisory_xact_lock(8317047285)"
    with opened_link(url) as link, opened_link(url) as other:

        def while_locked(run: Callable[..., object]) -> None:
            run(lock, {})
            with pytest.raises(StoreUnavailable, match="migrating"):
                migrate(link)

        other.work(while_locked)
        files = SQLITE_FILES if kind == "sqlite" else POSTGRES_FILES
        assert len(migrate(link)) == len(schema_of(link).pending) + len(files)


def test_a_server_out_of_connections_is_unavailable(postgres_url: str, postgres_site: PostgresSite) -> None:
    with opened_link(postgres_url) as link, closing(postgres_site.admin()) as admin:
        schema_of(link)
        query(admin, f'ALTER ROLE "{postgres_site.role}" CONNECTION LIMIT 1')
        try:
            with pytest.raises(StoreUnavailable, match="too many connections") as refused:
                migrate(link)
        finally:
            query(admin, f'ALTER ROLE "{postgres_site.role}" CONNECTION LIMIT -1')
        assert "\n" not in str(refused.value)
        assert len(migrate(link)) == len(POSTGRES_FILES)
