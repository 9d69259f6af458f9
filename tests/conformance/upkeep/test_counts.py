"""Key events are counted exactly, by the hour, and counting costs no round trip."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta

import pytest

from keystore import Store, StoreUnavailable, open_store
from keystore.records import Burst, HourCount, LifeCount
from keystore.tally import BURST_FROM_KEYS, MOST_PENDING, PROBE_COMPANY, Count, Tally
from keystore.ttl import CAREFUL
from rig.fixtures.clock import START, Clock
from rig.relay import Relay
from rig.waiting import eventually
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
THIS_HOUR = START.replace(minute=0, second=0, microsecond=0)


def counted(store: Store, event: str) -> dict[str, int]:
    """The number of keys of each type with this event, in all."""
    totals: Counter[str] = Counter()
    for count in store.counts(START - DAY):
        if count.event == event:
            totals[count.key_type] += count.keys
    return dict(totals)


def test_only_the_first_write_of_a_key_counts_as_created(store: Store) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"P"}})
    store.set("1", {"session": {"a": b"A2", "c": b"C"}, "pre-key": {"1": b"P", "2": b"Q"}}, creds=b"C")
    assert counted(store, "created") == {"session": 3, "pre-key": 2}
    assert counted(store, "renewed") == {"session": 1, "pre-key": 1}


def test_writes_at_one_moment_are_told_apart_too(store: Store) -> None:
    """The test's clock stands still, so times can't tell a new key from an old one."""
    for _ in range(3):
        store.set("1", {"session": {"a": b"A"}})
    assert (counted(store, "created"), counted(store, "renewed")) == ({"session": 1}, {"session": 2})


def test_deletions_count_only_existing_keys(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}, "pre-key": {"1": b"P", "2": b"Q"}})
    store.set("1", {"session": {"a": None, "never": None}, "pre-key": {"1": None}})
    assert counted(store, "deleted") == {"session": 1, "pre-key": 1}
    store.clear("1")
    assert counted(store, "deleted") == {"session": 1, "pre-key": 1}
    assert counted(store, "cleared") == {"pre-key": 1}, "a logout doesn't count as using keys up"


@pytest.mark.parametrize("use", ["get", "touch"])
def test_a_read_is_counted_only_if_it_renews(store: Store, clock: Clock, use: str) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}})
    for advanced, renewed in ((DAY, {}), (4 * DAY, {"session": 2})):
        clock.advance(advanced)
        if use == "get":
            store.get("1", "session", ["a", "b", "never"])
        else:
            store.touch("1", {"session": ["a", "b", "never"]})
        assert counted(store, "renewed") == renewed


def test_a_sweep_is_counted_by_type(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}, "device-list": {"a": b"A"}})
    clock.advance(9 * DAY)
    sweep(store)
    assert counted(store, "swept") == {"session": 2}


def test_counts_are_kept_by_the_hour(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    clock.advance(HOUR)
    store.set("2", {"session": {"a": b"A", "b": b"B"}})
    assert store.counts(START) == [
        HourCount(THIS_HOUR, "session", "created", 1),
        HourCount(THIS_HOUR + HOUR, "session", "created", 2),
    ]
    assert store.counts(START + HOUR) == [HourCount(THIS_HOUR + HOUR, "session", "created", 2)]


def test_a_set_of_at_least_100_new_keys_is_a_burst(store: Store) -> None:
    store.set("company_7", {"pre-key": {f"{n}": b"P" for n in range(BURST_FROM_KEYS)}, "session": {"a": b"A"}})
    store.set("8", {"pre-key": {f"{n}": b"P" for n in range(BURST_FROM_KEYS - 1)}})
    store.set("7", {"pre-key": {f"{n}": b"P" for n in range(BURST_FROM_KEYS)}})  # No new key.
    assert store.bursts(START) == [Burst("7", THIS_HOUR, "pre-key", BURST_FROM_KEYS)]
    assert counted(store, "created") == {"pre-key": 2 * BURST_FROM_KEYS - 1, "session": 1}


def test_writes_of_the_probe_company_are_not_counted(store: Store) -> None:
    store.set(PROBE_COMPANY, {"pre-key": {f"{n}": b"P" for n in range(BURST_FROM_KEYS)}})
    store.clear(PROBE_COMPANY)
    assert (store.counts(START), store.bursts(START)) == ([], [])


def test_another_store_sees_the_counts_of_a_closed_one(make_store: MakeStore, clock: Clock) -> None:
    first = make_store(clock=clock)
    first.set("1", {"session": {"a": b"A"}})
    second = make_store(clock=clock)
    assert counted(second, "created") == {}
    first.close()
    assert counted(second, "created") == {"session": 1}


def test_counts_of_many_threads_and_stores_add_up(make_store: MakeStore, clock: Clock) -> None:
    stores = [make_store(clock=clock) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: stores[n % 2].set(f"{n % 4}", {"session": {f"{n}": b"A"}}), range(80)))
        list(pool.map(lambda n: stores[n % 2].counts(START), range(4)))
    assert counted(stores[0], "created") == {"session": 80}


def test_counting_costs_no_round_trip_and_survives_an_outage(
    relay: Relay, migrated_postgres_url: str, clock: Clock
) -> None:
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store:
        store.set("1", {"session": {"a": b"A"}})
        before = relay.round_trips
        for n in range(10):
            store.set("1", {"session": {f"{n}": b"A"}})
        assert relay.round_trips - before == 10
        with relay.refusing(), pytest.raises(StoreUnavailable):
            store.counts(START)

        def saved() -> bool:
            with suppress(StoreUnavailable):  # The pool waits longer before each new attempt to connect.
                return counted(store, "created") == {"session": 11}
            return False

        eventually(saved, "the counts are saved once the database is back")


def test_closing_saves_counts_that_could_not_be_saved_before() -> None:
    saved: dict[Count, int] = {}
    away = True

    def save(counts: dict[Count, int]) -> None:
        if away:
            raise StoreUnavailable("away")
        saved.update(counts)

    tally = Tally(save)
    tally.add("1", START, [("created", "session", 3)])
    with pytest.raises(StoreUnavailable):
        tally.save()
    away = False
    tally.close()
    assert list(saved.values()) == [3]


def test_a_tally_is_bounded_and_keeps_counting_known_types() -> None:
    saved: dict[Count, int] = {}
    threads = set(threading.enumerate())
    tally = Tally(saved.update)
    for n in range(MOST_PENDING + 10):
        tally.add("1", START, [("created", f"type {n}", 1)])
    tally.add("1", START, [("created", "type 0", 5)])
    tally.close()
    assert len(saved) == MOST_PENDING
    assert saved[Count("", THIS_HOUR, "type 0", "created")] == 6
    assert set(threading.enumerate()) <= threads


# Remaining lives of keys.


def test_life_counts_group_keys_by_type_and_day_of_expiry(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B", "c": b"C"}, "device-list": {"a": b"A"}})
    clock.advance(DAY)
    store.set("2", {"session": {"a": b"A"}})
    store.set("1", {"session": {"b": b"B2"}})
    assert sorted(store.life_counts(), key=repr) == sorted(
        [
            LifeCount("session", False, date(2025, 10, 16), 2),
            LifeCount("session", False, date(2025, 10, 17), 1),
            LifeCount("session", True, date(2025, 10, 17), 1),
            LifeCount("device-list", False, date(2025, 10, 23), 1),
        ],
        key=repr,
    )


def test_the_newest_thousand_pre_keys_are_lasting(store: Store, clock: Clock) -> None:
    store.set("1", {"pre-key": {f"{n}": b"P" for n in range(1_002)}})
    store.set("2", {"pre-key": {"1": b"P"}})
    clock.advance(2 * HOUR)
    store.set("1", {"pre-key": {"2000": b"P"}})
    lasting = {(count.lasting, count.keys) for count in store.life_counts()}
    assert lasting == {(False, 3), (True, 1_001)}


def test_never_expiring_keys_are_counted_apart(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=CAREFUL)
    store.set("1", {"identity-key": {"a": b"A"}})
    assert store.life_counts() == [LifeCount("identity-key", False, None, 1)]
    assert (store.policy, store.guards) == (CAREFUL, True)


def test_companies_low_on_pre_keys_are_those_with_creds(store: Store) -> None:
    store.set("low", {"pre-key": {"1": b"P", "2": b"P"}}, creds=b"C")
    store.set("none", {"session": {"a": b"A"}}, creds=b"C")
    store.set("enough", {"pre-key": {f"{n}": b"P" for n in range(5)}}, creds=b"C")
    store.set("unpaired", {"session": {"a": b"A"}})
    assert store.low_on_pre_keys(5) == {"low": 2, "none": 0}
