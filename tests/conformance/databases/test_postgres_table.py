"""Postgres only: pages and indexes under rewrites, and rows that another session has locked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from itertools import cycle, islice
from typing import Any

import psycopg
import pytest

from keystore import open_store
from rig.baileys_state import real_keys
from rig.fixtures.citus import not_on_citus
from rig.fixtures.clock import Clock
from rig.waiting import eventually
from tests.conformance.full_sweep import sweep
from tests.conformance.links import postgres_link

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
REWRITES = 10_000


@pytest.fixture
def quick_url(migrated_postgres_url: str) -> str:
    """The test's database without waiting for the disk, since these 10,000 commits measure pages only."""
    return f"{migrated_postgres_url}?options=-c%20synchronous_commit%3Doff"


@not_on_citus("the counts of updates are on the workers")
def test_session_rewrites_are_heap_only(
    quick_url: str, migrated_postgres_url: str, clock: Clock, database_rows: Callable[[str, str], list[tuple[Any, ...]]]
) -> None:
    sessions = real_keys()["session"]
    with open_store(quick_url, clock=clock) as store:
        store.set("bot", real_keys())
        for session_id in islice(cycle(sessions), REWRITES):
            clock.advance(timedelta(seconds=1))
            store.set("bot", {"session": {session_id: sessions[session_id][::-1]}})
        store.set("bot", {"session": {"last": b"flush"}})
    database_rows(migrated_postgres_url, "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    ((updated, heap_only),) = database_rows(
        migrated_postgres_url,
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'whatsapp_keys'",
    )
    assert updated >= REWRITES
    assert heap_only / updated >= 0.99


@pytest.mark.parametrize(("held", "swept"), [("'a', 'g@g.us'", 1), ("'g@g.us'", 2), ("'g@g.us::me::0'", 2)])
def test_a_sweep_skips_a_locked_row_and_its_group_without_waiting(
    migrated_postgres_url: str, clock: Clock, held: str, swept: int
) -> None:
    group = "g@g.us"
    with open_store(migrated_postgres_url, clock=clock) as store:
        store.set("1", {"session": {"a": b"A", "b": b"B"}})
        store.set("1", {"sender-key": {f"{group}::me::0": b"S"}, "sender-key-memory": {group: b"{}"}})
        clock.advance(30 * DAY)
        with locked(migrated_postgres_url, "1", f"key_id IN ({held})"):
            assert sweep(store).by_type == {"session": swept}
        left = store.load("1").keys
        assert (len(left.get("session", {})), len(left["sender-key"]), len(left["sender-key-memory"])) == (
            2 - swept,
            1,
            1,
        )
        sweep(store)
        assert store.load("1").total == 0


def test_a_backfill_leaves_a_locked_row_for_later(
    migrated_postgres_url: str, clock: Clock, database_rows: Callable[[str, str], list[tuple[Any, ...]]]
) -> None:
    with open_store(migrated_postgres_url, clock=clock) as store:
        store.set("1", {"session": {"a": b"A", "b": b"B", "c": b"C"}})
        database_rows(migrated_postgres_url, "UPDATE whatsapp_keys SET expires_at = NULL RETURNING 1")
        with locked(migrated_postgres_url, "1", "key_id = 'a'"):
            assert store.backfill(10) == {"session": 2}
        assert store.backfill(10) == {"session": 1}
        assert store.backfill(10) == {}


def test_a_backfill_waits_for_the_last_row(
    migrated_postgres_url: str,
    clock: Clock,
    database_rows: Callable[[str, str], list[tuple[Any, ...]]],
    lock_waits: Callable[[], int],
) -> None:
    with open_store(migrated_postgres_url, clock=clock) as store, ThreadPoolExecutor(1) as threads:
        store.set("1", {"session": {"a": b"A"}})
        database_rows(migrated_postgres_url, "UPDATE whatsapp_keys SET expires_at = NULL RETURNING 1")
        with locked(migrated_postgres_url, "1", "key_id = 'a'"):
            filled = threads.submit(store.backfill, 10)
            eventually(lambda: lock_waits() == 1, "the backfill waits")
        assert filled.result(20) == {"session": 1}


def test_a_read_that_waits_for_a_sweep_does_not_return_what_it_deleted(
    migrated_postgres_url: str, clock: Clock, lock_waits: Callable[[], int]
) -> None:
    with open_store(migrated_postgres_url, clock=clock) as store, ThreadPoolExecutor(1) as pool:
        store.set("1", {"session": {"a": b"A", "b": b"B"}})
        clock.advance(5 * DAY)
        with closing(psycopg.connect(migrated_postgres_url)) as sweeper:
            sweeper.execute("DELETE FROM whatsapp_keys WHERE company_id = '1' AND key_id = 'a'")
            reading = pool.submit(store.get, "1", "session", ["a", "b"])
            eventually(lambda: lock_waits() == 1, "the read waits to renew the key")
            sweeper.commit()
        assert reading.result(20) == {"b": b"B"}
        assert store.counts(clock())[-1].keys == 1, "the renewal of the other key"


def test_a_clear_that_waits_for_a_set_leaves_all_of_it_or_nothing(
    migrated_postgres_url: str, clock: Clock, lock_waits: Callable[[], int]
) -> None:
    with open_store(migrated_postgres_url, clock=clock) as store, ThreadPoolExecutor(2) as pool:
        store.set("1", {"session": {"a": b"old", "z": b"old"}}, creds=b"old")
        with locked(migrated_postgres_url, "1", "key_id = 'z'"):
            new = {"session": {"a": b"new", "b": b"new", "z": b"new"}, "pre-key": {"1": b"new"}}
            writing = pool.submit(store.set, "1", new, b"new")
            eventually(lambda: lock_waits() == 1, "the set waits in its middle")
            clearing = pool.submit(store.clear, "1")
            eventually(lambda: lock_waits() == 2, "the clear waits for the set")
        writing.result(30)
        clearing.result(30)
        state = store.load("1")
    assert (state.creds, state.keys) in [(None, {}), (b"new", new)]


def test_a_key_is_moved_over_one_that_another_session_has_just_written(
    migrated_postgres_url: str, clock: Clock, lock_waits: Callable[[], int]
) -> None:
    write = (
        "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at) "
        "VALUES ('1', 'lid-mapping', '7', '\\x0041', %(at)s, %(at)s, 'infinity')"
    )
    with open_store(migrated_postgres_url, clock=clock) as store, ThreadPoolExecutor(1) as pool:
        store.set("1", {"lid": {"mapping-7": b"moved"}})
        (key,) = store.key_names(["lid"])
        with closing(psycopg.connect(migrated_postgres_url)) as other:
            other.execute(write, {"at": clock() - DAY})
            moving = pool.submit(store.move_key, key, "lid-mapping", "7")
            eventually(lambda: lock_waits() == 1, "the move waits for the row of the same name")
            other.commit()
        assert moving.result(30)
        assert store.load("1").keys == {"lid-mapping": {"7": b"moved"}}


@not_on_citus("a worker has the rows")
def test_a_sweep_deletes_nothing_at_a_place_where_it_saw_another_row(migrated_postgres_url: str, clock: Clock) -> None:
    """A row may be renewed, or replaced by another one in its place, after the sweep has seen it."""
    with open_store(migrated_postgres_url, clock=clock, guard=False) as store:
        link = postgres_link(store)
        store.set("1", {"session": {"4915.0": b"S"}, "device-list": {"4915": b"D"}})
        params = {"now": clock(), "later": clock() + 30 * DAY}
        places = "(SELECT array_agg(ctid) FROM whatsapp_keys)"
        deletions = (
            f"SELECT * FROM keystore_delete_due('1', {places}, NULL, '{{}}', false, %(now)s) "
            f"UNION ALL SELECT * FROM keystore_delete_units('1', {places}, '{{}}', %(now)s)"
        )
        assert link.rows(deletions, params) == []
        assert link.rows(deletions.replace("'1'", "'2'").replace("now", "later"), params) == []
        assert sorted(link.rows(deletions.replace("now", "later"), params)) == [
            ("device-list", 1),
            ("session", 1),
        ]


def locked(
    url: str, company: str, which: str = "true", table: str = "whatsapp_keys"
) -> closing[psycopg.Connection[Any]]:
    """Lock rows of a company for the block, as a writer in another process does before it commits."""
    connection = psycopg.connect(url)
    connection.execute(f"SELECT 1 FROM {table} WHERE company_id = '{company}' AND {which} FOR UPDATE".encode())
    return closing(connection)
