"""The three guards that keep expired keys, each switched on and off."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import Store
from keystore.records import Keys
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

GROUP = "120363041234567890@g.us"
OWN = f"{GROUP}::4915112345678::0"
MEMBER = f"{GROUP}::4915198765432::3"
OTHER_GROUP = "120363049876543210@g.us"


def left(store: Store, key_type: str, company: str = "1") -> set[str]:
    """The ids of the type that the company still has."""
    return set(store.load(company).keys.get(key_type, {}))


def batch(first: int, size: int = 250) -> Keys:
    """A burst of pre-keys."""
    return {"pre-key": {f"{n}": b"pre-key %d" % n for n in range(first, first + size)}}


@pytest.fixture
def unguarded(make_store: MakeStore, clock: Clock) -> Store:
    """A store with KEYSTORE_GUARD off."""
    return make_store(clock=clock, guard=False)


# (a) app-state-sync-key


def test_an_app_state_sync_key_survives_a_year_of_sweeps(store: Store, clock: Clock) -> None:
    store.set("1", {"app-state-sync-key": {"AAAAAKxq": b"A"}, "app-state-sync-version": {"regular": b"V"}})
    for _ in range(53):
        clock.advance(7 * DAY)
        sweep(store)
    assert store.load("1").keys == {"app-state-sync-key": {"AAAAAKxq": b"A"}}
    census = store.census()
    assert (census.guarded, census.expired, census.total) == (1, 0, 1)


def test_an_app_state_sync_key_is_swept_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", {"app-state-sync-key": {"AAAAAKxq": b"A"}})
    clock.advance(13 * DAY)
    assert sweep(unguarded).deleted == 0
    clock.advance(2 * DAY)
    assert sweep(unguarded).by_type == {"app-state-sync-key": 1}


# (b) sender-key with its group's sender-key-memory


def test_a_silent_group_keeps_or_loses_sender_key_and_memory_together(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    present: list[bool] = []
    for _ in range(20):
        clock.advance(DAY)
        sweep(store)
        memory, keys = left(store, "sender-key-memory"), left(store, "sender-key")
        assert (memory, keys) in [({GROUP}, {OWN, MEMBER}), (set(), set())]
        present.append(bool(memory))
    assert present[7], "silent for 8 days: the sender key is past its 7 days, the memory isn't past its 14"
    assert not present[-1], "silent for 20 days: both are past"


def test_a_group_is_swept_at_once_when_all_of_it_has_expired(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    clock.advance(9 * DAY)
    assert store.census().guarded == 2
    assert sweep(store).deleted == 0
    clock.advance(6 * DAY)
    assert store.census().expired == 3
    assert sweep(store).by_type == {"sender-key": 2, "sender-key-memory": 1}


def test_a_sender_key_in_use_keeps_the_memory_of_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    for _ in range(10):
        clock.advance(3 * DAY)
        store.set("1", {"sender-key": {OWN: b"S"}})
        sweep(store)
    assert left(store, "sender-key") == {OWN}
    assert left(store, "sender-key-memory") == {GROUP}


def test_a_memory_in_use_keeps_the_sender_keys_of_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    for _ in range(10):
        clock.advance(3 * DAY)
        store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
        sweep(store)
    assert left(store, "sender-key") == {OWN, MEMBER}


def test_a_group_in_use_keeps_no_other_group_or_company(store: Store, clock: Clock) -> None:
    for company in ("1", "2"):
        store.set(company, {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    other = f"{OTHER_GROUP}::4915112345678::0"
    store.set("1", {"sender-key": {other: b"S"}, "sender-key-memory": {OTHER_GROUP: b"{}"}})
    clock.advance(16 * DAY)
    store.set("1", {"sender-key": {OWN: b"S"}})
    sweep(store)
    assert store.load("1").keys == {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}}
    assert store.load("2").keys == {}


def test_sender_keys_of_a_listen_only_group_expire_one_by_one(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}})
    clock.advance(6 * DAY)
    store.set("1", {"sender-key": {MEMBER: b"M"}})
    clock.advance(2 * DAY)
    assert sweep(store).by_type == {"sender-key": 1}
    assert left(store, "sender-key") == {MEMBER}


def test_a_memory_without_any_sender_key_is_swept_at_its_expiry(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
    clock.advance(15 * DAY)
    assert sweep(store).by_type == {"sender-key-memory": 1}


def test_a_key_without_expiry_keeps_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    rows = [replace(row, expires_at=None) for row in store.export_rows("1") if row.key_type == "sender-key"]
    store.restore_rows("1", rows)
    clock.advance(100 * DAY)
    assert sweep(store).deleted == 0
    assert store.census().guarded == 1


def test_a_sender_key_is_swept_alone_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    clock.advance(8 * DAY)
    assert sweep(unguarded).by_type == {"sender-key": 1}
    assert left(unguarded, "sender-key-memory") == {GROUP}


# (c) the newest generation of pre-keys


def test_pre_keys_of_a_pairing_8_days_ago_stay_until_a_second_batch(store: Store, clock: Clock) -> None:
    store.set("1", batch(1), creds=b"C")
    clock.advance(8 * DAY)
    assert sweep(store).deleted == 0
    assert store.load("1").keys == batch(1)
    assert store.census().guarded == 250
    store.set("1", batch(251))
    assert sweep(store).by_type == {"pre-key": 250}, "superseded, and past its expiry"
    clock.advance(8 * DAY)
    assert sweep(store).deleted == 0
    assert store.load("1").keys == batch(251)


def test_a_superseded_batch_stays_until_it_expires(store: Store, clock: Clock) -> None:
    store.set("1", batch(1))
    clock.advance(5 * DAY)
    store.set("1", batch(251))
    assert sweep(store).deleted == 0
    clock.advance(3 * DAY)
    assert sweep(store).by_type == {"pre-key": 250}
    assert store.load("1").keys == batch(251)


def test_pre_keys_written_within_an_hour_of_the_newest_are_one_generation(store: Store, clock: Clock) -> None:
    for key_id, later in (("a", 0 * MINUTE), ("b", 10 * MINUTE), ("c", 49 * MINUTE), ("d", 11 * MINUTE)):
        clock.advance(later)
        store.set("1", {"pre-key": {key_id: b"P"}})
    clock.advance(100 * DAY)
    assert store.census().by_type[0].guarded == 3
    assert sweep(store).deleted == 1
    assert left(store, "pre-key") == {"b", "c", "d"}, "b was written exactly an hour before d"


def test_reading_an_old_pre_key_does_not_move_it_to_the_newest_generation(store: Store, clock: Clock) -> None:
    store.set("1", {"pre-key": {"old": b"P"}})
    clock.advance(5 * DAY)
    store.get("1", "pre-key", ["old"])
    store.touch("1", {"pre-key": ["old"]})
    clock.advance(2 * HOUR)
    store.set("1", {"pre-key": {"new": b"P"}})
    clock.advance(30 * DAY)
    sweep(store)
    assert left(store, "pre-key") == {"new"}


def test_each_company_has_its_own_newest_generation(store: Store, clock: Clock) -> None:
    store.set("1", batch(1, 5))
    clock.advance(20 * DAY)
    store.set("2", batch(1, 5))
    clock.advance(20 * DAY)
    assert sweep(store).deleted == 0
    assert left(store, "pre-key", "1") == left(store, "pre-key", "2") == set(batch(1, 5)["pre-key"])


def test_every_expired_pre_key_is_swept_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", batch(1))
    clock.advance(8 * DAY)
    assert unguarded.census().expired == 250
    assert sweep(unguarded).by_type == {"pre-key": 250}


# All of them


@pytest.mark.parametrize("guard", [True, False])
def test_the_guard_switch_changes_the_sweep_and_the_census(make_store: MakeStore, clock: Clock, guard: bool) -> None:
    store = make_store(clock=clock, guard=guard)
    guarded: Keys = {"app-state-sync-key": {"a": b"A"}, "pre-key": {"1": b"P"}}
    store.set("1", {**guarded, "sender-key": {OWN: b"S"}, "session": {"s": b"S"}})
    clock.advance(8 * DAY)
    store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
    clock.advance(8 * DAY)
    census = store.census()
    assert (census.total, census.active) == (5, 1)
    assert (census.guarded, census.expired) == ((3, 1) if guard else (0, 4))
    assert sweep(store).deleted == census.expired
    remaining = {**guarded, "sender-key": {OWN: b"S"}} if guard else {}
    assert store.load("1").keys == {**remaining, "sender-key-memory": {GROUP: b"{}"}}
