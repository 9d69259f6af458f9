"""Opening, sharing and closing stores, which never show a secret or a value."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from keystore import InvalidInput, Store, StoreClosed, open_store
from keystore.records import Deletion, KeyName, KeyRow, Lease, SweepRun, TokenRecord, Write
from rig.fixtures.clock import START, Clock
from rig.fixtures.postgres import PASSWORD
from rig.waiting import eventually
from tests.conformance.conftest import Backend, MakeStore

NAME = KeyName("1", "session", "a", START)
LEASE = Lease("sweep", "me", 1, START)
TOKEN = TokenRecord("a", bytes(32), None, START, None, None)
DELETION = Deletion("1", START, "clear", 1, True, 1)
RUN = SweepRun(1, "me", START, None, 0.0, 0, {}, None)

CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("1", "session", ["a"]),
    "set": lambda store: store.set("1", {"session": {"a": b"A"}}),
    "set_all": lambda store: store.set_all([Write("1", {"session": {"a": b"A"}})]),
    "load": lambda store: store.load("1"),
    "touch": lambda store: store.touch("1", {"session": ["a"]}),
    "get_creds": lambda store: store.get_creds("1"),
    "set_creds": lambda store: store.set_creds("1", b"C"),
    "clear": lambda store: store.clear("1"),
    "lease_company": lambda store: store.lease_company("1", "me", 60),
    "release_company": lambda store: store.release_company("1", "me", 1),
    "last_write": lambda store: store.last_write("1"),
    "company_page": lambda store: store.company_page(),
    "add_token": lambda store: store.add_token(TOKEN),
    "tokens": lambda store: store.tokens(),
    "find_token": lambda store: store.find_token("a"),
    "revoke_token": lambda store: store.revoke_token("a"),
    "now": lambda store: store.now(),
    "probe_write": lambda store: store.probe_write(),
    "census": lambda store: store.census(),
    "companies": lambda store: store.companies(),
    "largest_company": lambda store: store.largest_company(),
    "acquire_lease": lambda store: store.acquire_lease("sweep", "me", 60),
    "release_lease": lambda store: store.release_lease(LEASE),
    "start_sweep": lambda store: store.start_sweep("me"),
    "due_companies": lambda store: store.due_companies(),
    "due_sessions": lambda store: store.due_sessions(),
    "sweep_companies": lambda store: store.sweep_companies(LEASE, RUN, ["1"], 60),
    "finish_sweep": lambda store: store.finish_sweep(RUN, 1.0, None),
    "sweep_runs": lambda store: store.sweep_runs(1),
    "backfill": lambda store: store.backfill(1),
    "enforce_expiry": lambda store: store.enforce_expiry(),
    "expiry_enforced": lambda store: store.expiry_enforced,
    "key_names": lambda store: list(store.key_names(["session"])),
    "move_key": lambda store: store.move_key(NAME, "lid-mapping", "a"),
    "export_rows": lambda store: store.export_rows("1"),
    "restore_rows": lambda store: store.restore_rows("1", []),
    "trash_s": lambda store: store.trash_s,
    "deletions": lambda store: store.deletions(),
    "deleted_state": lambda store: store.deleted_state(DELETION),
    "empty_trash": lambda store: store.empty_trash(),
    "purge": lambda store: store.purge("1"),
    "unreadable": lambda store: store.unreadable(),
    "companies_sealed_by_bots": lambda store: store.companies_sealed_by_bots(),
    "companies_to_rotate": lambda store: store.companies_to_rotate(),
    "unsealed_values": lambda store: store.unsealed_values("1"),
    "needs_new_wrapping": lambda store: store.needs_new_wrapping("1"),
    "rotate_company": lambda store: store.rotate_company("1"),
    "forget_master_keys": lambda store: store.forget_master_keys(),
    "snapshot": lambda store: store.snapshot(lambda snapshot: snapshot.companies()),
    "counts": lambda store: store.counts(START),
    "bursts": lambda store: store.bursts(START),
    "life_counts": lambda store: store.life_counts(),
    "low_on_pre_keys": lambda store: store.low_on_pre_keys(5),
    "remember": lambda store: store.remember("a", "A"),
    "recall": lambda store: store.recall("a"),
    "notes": lambda store: store.notes("a"),
    "add_history": lambda store: store.add_history("a", START, "A"),
    "history": lambda store: store.history("a", START),
    "thin_history": lambda store: store.thin_history("a", START, START),
}


def test_every_call_on_a_closed_store_raises_store_closed(make_store: MakeStore) -> None:
    store = make_store()
    store.set("1", {"session": {"a": b"A"}})
    store.close()
    accepted = []
    for name, call in CALLS.items():
        try:
            call(store)
        except StoreClosed:
            continue
        accepted.append(name)
    assert accepted == []
    assert make_store().load("1").keys == {"session": {"a": b"A"}}


def test_the_list_of_calls_is_the_whole_contract() -> None:
    exempt = {"close", "database", "converted", "policy", "guards", "durable", "sealing", "__enter__", "__exit__"}
    abstract = {name for name in dir(Store) if getattr(getattr(Store, name), "__isabstractmethod__", False)}
    assert CALLS.keys() == abstract - exempt


def test_a_second_close_does_nothing(make_store: MakeStore) -> None:
    store = make_store()
    store.load("1")
    store.close()
    store.close()


def test_an_unused_store_closes(make_store: MakeStore) -> None:
    make_store().close()


def test_the_end_of_the_block_closes_the_store(store_url: str) -> None:
    with open_store(store_url) as store:
        store.set("1", {"session": {"a": b"A"}})
    with pytest.raises(StoreClosed):
        store.load("1")


def test_a_store_used_in_many_threads_leaves_nothing_open(make_store: MakeStore, backend: Backend) -> None:
    store = make_store()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.set(f"{n}", {"session": {"a": b"A"}}), range(40)))
        list(pool.map(lambda n: store.load(f"{n}"), range(40)))
    assert len(store.companies()) == 40
    store.close()
    eventually(lambda: not backend.left_open(), "its connections close with it")


def test_a_failed_call_returns_its_connection(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, max_connections=1)
    for _ in range(3):
        with pytest.raises(InvalidInput):
            store.set("1", {"session": {"a": b""}})
        store.enforce_expiry()
        with pytest.raises(InvalidInput):
            store.restore_rows("1", [KeyRow("session", "b", b"B", START, START, None)])
    store.set("1", {"session": {"a": b"A"}})
    assert store.load("1").total == 1


def test_two_stores_on_one_database_see_the_same_writes(make_store: MakeStore) -> None:
    first, second = make_store(), make_store()
    first.set("1", {"session": {"a": b"A"}}, creds=b"C")
    assert second.load("1").keys == {"session": {"a": b"A"}}
    second.set("1", {"session": {"a": None, "b": b"B"}})
    assert first.get("1", "session", ["a", "b"]) == {"b": b"B"}
    second.clear("1")
    assert first.load("1").creds is None


def test_the_database_is_named_without_a_secret(store: Store, backend: Backend) -> None:
    assert backend.name in store.database or "postgresql" in store.database
    assert backend.url.rpartition("/")[2] in store.database
    for secret in (PASSWORD, "ss%2Fw", "ss/w"):
        assert secret not in store.database
        assert secret not in repr(store)


def test_no_repr_shows_a_value(store: Store) -> None:
    store.set("1", {"session": {"a": b"S3CRET value"}}, creds=b"S3CRET creds")
    for shown in (store.load("1"), store.export_rows("1"), store, store.census()):
        assert "S3CRET" not in repr(shown)
        assert "S3CRET" not in str(shown)


def test_a_clock_without_a_time_zone_is_refused(make_store: MakeStore) -> None:
    store = make_store(clock=lambda: START.replace(tzinfo=None))
    with pytest.raises(InvalidInput, match="time zone"):
        store.set("1", {"session": {"a": b"A"}})
    assert make_store().load("1").keys == {}


def test_stores_with_different_clocks_share_a_database(make_store: MakeStore) -> None:
    early, late = make_store(clock=Clock(START)), make_store(clock=Clock(START + timedelta(days=30)))
    early.set("1", {"session": {"a": b"A"}})
    assert (early.census().expired, late.census().expired) == (0, 1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_refused_and_its_parent_works_on(make_store: MakeStore) -> None:
    store = make_store()
    store.set("1", {"session": {"a": b"A"}})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.load("1")
        except StoreClosed:
            store.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store.load("1").keys == {"session": {"a": b"A"}}
