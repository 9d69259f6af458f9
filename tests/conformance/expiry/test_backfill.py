"""Keys without expiry: counted, given an expiry in batches, and refused by the database after that."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from keystore import InvalidInput, Store, ttl
from keystore.records import KeyRow
from keystore.ttl import DIARY, NEVER, Policy
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
BY_TYPE = {"session": 30, "pre-key": 50, "device-list": 20}


def without_expiry(key_type: str, key_ids: Iterable[str], written_at: datetime = START) -> list[KeyRow]:
    """Keys without expiry, as the original operator's bots wrote them."""
    return [KeyRow(key_type, key_id, b"value", written_at, written_at, None) for key_id in key_ids]


def fill(store: Store) -> None:
    """Write 100 keys without expiry in two companies, and two keys that have one."""
    for key_type, keys in BY_TYPE.items():
        for company in ("1", "2"):
            store.restore_rows(company, without_expiry(key_type, (f"{n}" for n in range(keys // 2))))
    store.set("1", {"session": {"live": b"A"}, "lid-mapping": {"live": b"A"}})


def added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of several counts by type."""
    total: dict[str, int] = {}
    for part in parts:
        for key_type, keys in part.items():
            total[key_type] = total.get(key_type, 0) + keys
    return total


def test_backfill_gives_keys_without_expiry_one_counted_from_now(store: Store, clock: Clock) -> None:
    fill(store)
    live = store.load("1").keys
    assert store.census().without_expiry == 100
    clock.advance(30 * DAY)
    assert store.backfill(1_000) == BY_TYPE
    assert store.census().without_expiry == 0
    for row in [*store.export_rows("1"), *store.export_rows("2")]:
        used_at = START if row.key_id == "live" else clock()
        assert row.expires_at == ttl.expires_at(DIARY, row.key_type, used_at)
        assert (row.created_at, row.updated_at) == (START, START), "a backfill is not a write"
    assert store.load("1").keys == live


def test_backfill_goes_in_batches_and_ends_with_nothing(store: Store) -> None:
    fill(store)
    batches: list[dict[str, int]] = []
    while batch := store.backfill(30):
        batches.append(batch)
        assert store.census().without_expiry == 100 - sum(added(batches).values())
    assert [sum(batch.values()) for batch in batches] == [30, 30, 30, 10]
    assert added(batches) == BY_TYPE
    assert store.backfill(30) == {}


def test_a_stopped_backfill_goes_on_in_another_store(make_store: MakeStore, clock: Clock) -> None:
    first = make_store(clock=clock)
    fill(first)
    done = first.backfill(40)
    first.close()
    second = make_store(clock=clock)
    assert second.census().without_expiry == 60
    assert added([done, second.backfill(1_000)]) == BY_TYPE
    assert second.backfill(1_000) == {}


def test_backfill_changes_nothing_if_every_key_has_an_expiry(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=Policy(by_type={"identity-key": NEVER}))
    store.set("1", {"session": {"a": b"A"}, "identity-key": {"a": b"A"}})
    before = store.export_rows("1")
    clock.advance(DAY)
    assert store.backfill(10) == {}
    assert store.export_rows("1") == before


def test_backfill_marks_types_that_never_expire(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=Policy(by_type={"identity-key": NEVER}))
    store.restore_rows("1", without_expiry("identity-key", "ab"))
    assert store.census().without_expiry == 2
    assert store.backfill(10) == {"identity-key": 2}
    assert [row.never_expires for row in store.export_rows("1")] == [True, True]
    assert store.census().without_expiry == 0
    store.enforce_expiry()
    store.set("1", {"identity-key": {"c": b"C"}})


def test_a_key_without_expiry_is_swept_only_a_whole_life_after_backfill(store: Store, clock: Clock) -> None:
    store.restore_rows("1", without_expiry("session", "a"))
    clock.advance(365 * DAY)
    assert store.due_companies() == []
    assert sweep(store).deleted == 0
    store.backfill(10)
    clock.advance(6 * DAY)
    assert sweep(store).deleted == 0
    clock.advance(2 * DAY)
    assert sweep(store).deleted == 1


def test_a_write_gives_a_key_without_expiry_one(store: Store) -> None:
    store.restore_rows("1", without_expiry("session", "a"))
    store.set("1", {"session": {"a": b"A"}})
    assert store.census().without_expiry == 0


def test_expiry_cannot_be_enforced_while_a_key_has_none(store: Store) -> None:
    store.restore_rows("1", without_expiry("session", "a"))
    with pytest.raises(InvalidInput, match="backfill"):
        store.enforce_expiry()
    assert not store.expiry_enforced
    store.restore_rows("1", without_expiry("session", "b"))


def test_once_enforced_the_database_refuses_a_key_without_expiry(make_store: MakeStore, clock: Clock) -> None:
    store, earlier = make_store(clock=clock), make_store(clock=clock)
    fill(store)
    store.backfill(1_000)
    assert not store.expiry_enforced
    store.enforce_expiry()
    assert store.expiry_enforced
    before = store.export_rows("1")
    for refusing in (store, earlier, make_store(clock=clock)):
        assert refusing.expiry_enforced
        mixed = [*before[:1], *without_expiry("session", ["refused", "0"])]
        with pytest.raises(InvalidInput):
            refusing.restore_rows("1", mixed, creds=b"C")
    assert store.export_rows("1") == before, "a refused batch leaves nothing behind"
    assert store.get_creds("1") is None


def test_a_store_works_once_expiry_is_enforced(store: Store, clock: Clock) -> None:
    fill(store)
    while store.backfill(60):
        pass
    store.enforce_expiry()
    store.enforce_expiry()
    store.set("1", {"session": {"new": b"A", "0": b"B"}}, creds=b"C")
    assert store.get("1", "session", ["new", "0"]) == {"new": b"A", "0": b"B"}
    store.restore_rows("3", store.export_rows("1"))
    assert store.load("3").keys == store.load("1").keys
    clock.advance(100 * DAY)
    assert sweep(store).deleted > 0
