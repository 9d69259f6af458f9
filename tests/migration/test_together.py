"""Processes that start, migrate, die and are cut off at the same time; and what each of that leaves behind."""

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
from keystore.migrate import UPKEEP_TABLES, attach_upkeep, migrate, schema_of
from rig.fixtures.clock import eventually
from rig.fixtures.pgbouncer import Pooler
from rig.fixtures.postgres import OwnServer, PostgresSite
from rig.paths import PROJECT
from tests.conformance.worker_process import Worker, rewrite, workers
from tests.migration.conftest import (
    POSTGRES_FILES,
    SQLITE_FILES,
    UPSERT,
    Diary,
    as_the_diary_did,
    catalog,
    fetched,
    linked,
)

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
    """Opens a store in so many processes at once; every one of them must succeed."""
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
    """A process that migrates; killed after the block if it still runs."""
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
def bot_in_a_transaction(diary: Diary, *tables: str) -> Iterator[None]:
    """A bot that has written and not committed yet."""
    with closing(diary.connect()) as conn, conn.transaction():
        for table in tables:
            fetched(conn, f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        conn.execute(UPSERT, ("1", "session", "open", "{}"))
        yield


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_open_one_empty_postgres_together_all_succeed(
    postgres_url: str, recorded: Callable[[str], list[str]], processes: int
) -> None:
    open_together(postgres_url, processes)
    assert_recorded_once(recorded(postgres_url))


@pytest.mark.parametrize("processes", [2, 8])
def test_they_do_through_a_pooler_with_fewer_connections_than_processes(
    postgres_url: str, pooler: Pooler, recorded: Callable[[str], list[str]], processes: int
) -> None:
    open_together(pooler.url(postgres_url.rpartition("/")[2]), processes)
    assert_recorded_once(recorded(postgres_url))


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_open_one_new_file_together_all_succeed(new_file: Path, processes: int) -> None:
    open_together(f"sqlite:///{new_file}", processes)
    with linked(f"sqlite:///{new_file}") as link:
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


def test_operators_who_migrate_a_bots_database_together_convert_it_once(
    diary: Diary, recorded: Callable[[str], list[str]]
) -> None:
    diary.upsert("company_1", "session", "a", {"type": "Buffer", "data": [1, 2]})

    def run(_: int) -> list[str]:
        with linked(diary.url) as link:
            return migrate(link)

    with ThreadPoolExecutor(6) as pool:
        applied = sorted(len(files) for files in pool.map(run, range(6)))
    assert applied == [0, 0, 0, 0, 0, len(POSTGRES_FILES)]
    assert_recorded_once(recorded(diary.url))
    with open_store(diary.url) as store:
        assert store.load("1").keys == {"session": {"a": b'{"data": "AQI=", "type": "Buffer"}'}}


def test_migrating_leaves_a_file_as_the_store_keeps_it(new_file: Path) -> None:
    with open_store(f"sqlite:///{new_file}") as store:
        store.set("1", {"session": {"a": b"A"}})
        with linked(f"sqlite:///{new_file}") as link:
            assert link.rows("SELECT * FROM pragma_journal_mode", {}) == [("wal",)]
            assert link.rows("SELECT count(*) FROM yoyo_lock", {}) == [(0,)]
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(new_file.parent))] == []


@pytest.mark.parametrize("table", ["whatsapp_keys", "whatsapp_auth"])
def test_a_process_killed_while_it_migrates_leaves_the_bots_tables_as_they_were(diary: Diary, table: str) -> None:
    diary.upsert("company_1", "session", "a", {"type": "Buffer", "data": [1, 2]})
    rows, before = diary.execute("SELECT * FROM whatsapp_keys"), catalog(diary.url)
    with migrating(diary.url) as process, closing(diary.admin()) as admin:
        with bot_in_a_transaction(diary, table):
            eventually(lambda: fetched(admin, WAITING) == [(1,)], "the migration waits for the bot")
            process.kill()
            process.wait()
        # Until it tries to answer, its server process doesn't know that nobody is there any more.
        eventually(lambda: fetched(admin, WAITING) == [(0,)], "the dead process's session ends")
    assert diary.execute("SELECT * FROM whatsapp_keys WHERE key_id = 'a'") == rows
    assert catalog(diary.url, without_ours=True) == before
    diary.upsert("company_1", "session", "b", {})
    with linked(diary.url) as link:
        assert len(migrate(link)) == len(POSTGRES_FILES)
    with open_store(diary.url) as store:
        assert store.load("1").total == 3


def test_a_lock_row_left_behind_by_yoyo_is_no_obstacle(diary: Diary, new_file: Path) -> None:
    with linked(diary.url) as link:
        attach_upkeep(link)
        link.rows("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)", {})
        assert len(migrate(link)) == len(POSTGRES_FILES) - len(UPKEEP_TABLES)
        assert link.rows("SELECT count(*) FROM yoyo_lock", {}) == [(0,)]
    with linked(f"sqlite:///{new_file}") as link:
        link.rows(
            "CREATE TABLE yoyo_lock (locked INT DEFAULT 1, ctime TIMESTAMP, pid INT NOT NULL, PRIMARY KEY (locked))", {}
        )
        link.rows("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, '2026-01-01', 4711)", {})
        assert len(migrate(link)) == len(SQLITE_FILES)


def test_a_bots_open_transaction_is_not_waited_for_for_ever(diary: Diary) -> None:
    before = catalog(diary.url)
    with (
        bot_in_a_transaction(diary, "whatsapp_keys"),
        linked(diary.url) as link,
        pytest.raises(
            SchemaMismatch, match=r"another session holds the tables.*stop the bot.*run.py migrate` again"
        ) as told,
    ):
        migrate(link)
    assert "\n" not in str(told.value)
    assert catalog(diary.url) == before
    with linked(diary.url) as link:
        assert len(migrate(link)) == len(POSTGRES_FILES)


def test_a_session_that_is_ended_while_it_migrates_is_unavailable_and_can_be_repeated(diary: Diary) -> None:
    before = catalog(diary.url)
    with linked(diary.url) as link, closing(diary.admin()) as admin, ThreadPoolExecutor(1) as pool:
        with bot_in_a_transaction(diary, "whatsapp_keys"):
            running = pool.submit(migrate, link)
            eventually(lambda: fetched(admin, WAITING) == [(1,)], "the migration waits for the bot")
            fetched(
                admin,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND datname = current_database()",
            )
            with pytest.raises(StoreUnavailable, match="broke off, repeating is safe"):
                running.result()
        assert catalog(diary.url) == before
        assert len(migrate(link)) == len(POSTGRES_FILES)


def test_a_server_that_crashes_while_it_migrates_comes_back_with_the_bots_tables(own_server: OwnServer) -> None:
    as_the_diary_did(own_server.url)
    diary = Diary(own_server.url, own_server.site)
    diary.upsert("1", "session", "a", {"type": "Buffer", "data": [1, 2]})
    before = catalog(diary.url)
    with linked(diary.url) as link, ThreadPoolExecutor(1) as pool:
        conn = diary.connect()
        conn.execute("BEGIN")
        conn.execute(UPSERT, ("1", "session", "open", "{}"))
        running = pool.submit(migrate, link)
        with closing(diary.admin()) as admin:
            eventually(lambda: fetched(admin, WAITING) == [(1,)], "the migration waits for the bot")
        own_server.server.crash()
        conn.close()
        with pytest.raises(StoreUnavailable):
            running.result()
        own_server.server.start()
        assert catalog(diary.url) == before
        assert diary.execute("SELECT key_id FROM whatsapp_keys") == [("a",)]
        assert len(migrate(link)) == len(POSTGRES_FILES)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_another_process_that_migrates_for_ever_is_not_waited_for_for_ever(
    kind: str, request: pytest.FixtureRequest, new_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystore.migrate.LOCK_TIMEOUT_S", 1)
    url = f"sqlite:///{new_file}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    lock = "CREATE TABLE t (n INT)" if kind == "sqlite" else "SELECT pg_advisory_xact_lock(8317047285)"
    with linked(url) as link, linked(url) as other:

        def while_locked(run: Callable[..., object]) -> None:
            run(lock, {})
            with pytest.raises(StoreUnavailable, match="migrating"):
                migrate(link)

        other.work(while_locked)
        files = SQLITE_FILES if kind == "sqlite" else POSTGRES_FILES
        assert len(migrate(link)) == len(schema_of(link).pending) + len(files)


def test_a_server_without_room_for_one_more_connection_is_unavailable(
    postgres_url: str, postgres_site: PostgresSite
) -> None:
    with linked(postgres_url) as link, closing(postgres_site.admin()) as admin:
        schema_of(link)
        fetched(admin, f'ALTER ROLE "{postgres_site.role}" CONNECTION LIMIT 1')
        try:
            with pytest.raises(StoreUnavailable, match="too many connections") as told:
                migrate(link)
        finally:
            fetched(admin, f'ALTER ROLE "{postgres_site.role}" CONNECTION LIMIT -1')
        assert "\n" not in str(told.value)
        assert len(migrate(link)) == len(POSTGRES_FILES)
