"""Leases have one holder at a time. Sweeps delete and record under a lease, and nothing once it is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import LeaseLost, Store
from keystore.records import DueSessions, Lease
from keystore.ttl import CAREFUL
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def acquired(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def fill_with_expired(store: Store, clock: Clock, companies: int = 3, keys: int = 4) -> list[str]:
    """Write a few sessions for each company, and move the clock past their expiry."""
    names = [f"c{n}" for n in range(companies)]
    for name in names:
        store.set(name, {"session": {f"{n}": b"A" for n in range(keys)}, "device-list": {"d": b"D"}}, creds=b"C")
    clock.advance(8 * DAY)
    return names


def test_a_lease_has_one_holder_until_it_expires(store: Store, make_store: MakeStore, clock: Clock) -> None:
    other = make_store(clock=clock)
    first = acquired(store.acquire_lease("sweep", "a", 60))
    assert (first.name, first.holder, first.expires_at) == ("sweep", "a", START + 60 * SECOND)
    assert other.acquire_lease("sweep", "b", 60) is None
    clock.advance(59 * SECOND)
    assert other.acquire_lease("sweep", "b", 60) is None
    clock.advance(SECOND)
    second = acquired(other.acquire_lease("sweep", "b", 60))
    assert second.epoch > first.epoch
    assert store.acquire_lease("sweep", "a", 60) is None


def test_a_lease_from_before_the_clock_was_set_back_is_free(store: Store, clock: Clock) -> None:
    acquired(store.acquire_lease("sweep", "a", 60))
    clock.advance(timedelta(seconds=-20))
    assert store.acquire_lease("sweep", "b", 60) is None
    clock.advance(timedelta(hours=-1))
    acquired(store.acquire_lease("sweep", "b", 60))
    assert store.acquire_lease("sweep", "a", 60) is None


def test_leases_of_other_names_are_free(store: Store) -> None:
    acquired(store.acquire_lease("sweep", "a", 60))
    acquired(store.acquire_lease("alert", "b", 60))


def test_a_holder_that_lost_the_answer_gets_its_lease_again(store: Store) -> None:
    first = acquired(store.acquire_lease("sweep", "a", 60))
    second = acquired(store.acquire_lease("sweep", "a", 60))
    assert second.epoch > first.epoch
    assert store.acquire_lease("sweep", "b", 60) is None
    store.release_lease(first)
    assert store.acquire_lease("sweep", "b", 60) is None, "a stale release ended the new lease"


def test_a_batch_repeated_after_a_lost_answer_is_counted_once(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "me", 60))
    run = store.start_sweep("me")
    store.sweep_companies(lease, run, names, 60)
    repeated = store.sweep_companies(lease, run, names, 60)
    assert (repeated.deleted, repeated.by_type) == (12, {"session": 12})
    assert store.sweep_runs(1)[0].deleted == 12


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    first = acquired(store.acquire_lease("sweep", "a", 60))
    store.release_lease(first)
    second = acquired(store.acquire_lease("sweep", "b", 60))
    assert second.epoch > first.epoch
    store.release_lease(second)
    store.release_lease(second)


def test_a_stale_holders_release_leaves_the_new_lease_alone(store: Store, clock: Clock) -> None:
    stale = acquired(store.acquire_lease("sweep", "a", 60))
    clock.advance(61 * SECOND)
    acquired(store.acquire_lease("sweep", "b", 60))
    store.release_lease(stale)
    assert store.acquire_lease("sweep", "c", 60) is None


def test_a_stale_lease_of_the_same_holder_is_refused(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    stale = acquired(store.acquire_lease("sweep", "a", 60))
    clock.advance(61 * SECOND)
    acquired(store.acquire_lease("sweep", "a", 60))
    with pytest.raises(LeaseLost):
        store.sweep_companies(stale, store.start_sweep("a"), names, 60)


def test_a_sweep_deletes_expired_keys_and_records_the_count(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    assert [(due.company_id, due.keys) for due in store.due_companies()] == [(name, 4) for name in names]
    lease = acquired(store.acquire_lease("sweep", "me", 60))
    run = store.start_sweep("me")
    assert (run.sweeper, run.started_at, run.finished_at, run.deleted) == ("me", clock(), None, 0)
    (unfinished,) = store.sweep_runs(10)
    assert unfinished.finished_at is None
    run = store.sweep_companies(lease, run, names[:2], 60)
    assert (run.deleted, run.by_type) == (8, {"session": 8})
    assert store.sweep_runs(1)[0].deleted == 8, "the deletion is recorded in the same transaction"
    run = store.sweep_companies(lease, run, names[2:], 60)
    assert (run.deleted, run.by_type) == (12, {"session": 12})
    clock.advance(SECOND)
    run = store.finish_sweep(run, 12.5, None)
    assert (run.finished_at, run.took_ms, run.error) == (clock(), 12.5, None)
    assert store.sweep_runs(10) == [run]
    assert store.due_companies() == []
    assert [store.load(name).total for name in names] == [1, 1, 1]


def test_due_sessions_are_counted_beside_all_of_their_company(store: Store, clock: Clock) -> None:
    assert store.due_sessions() == []
    fill_with_expired(store, clock)
    store.set("c0", {"session": {"new": b"A", "0": b"B"}})
    store.set("c3", {"session": {"new": b"A"}})
    assert store.due_sessions() == [DueSessions("c0", 3, 5), DueSessions("c1", 4, 4), DueSessions("c2", 4, 4)]
    lease = acquired(store.acquire_lease("sweep", "me", 60))
    run = store.sweep_companies(lease, store.start_sweep("me"), ["c0", "c1"], 60)
    assert run.by_type == {"session": 7}, "each due session is deleted"
    assert store.due_sessions() == [DueSessions("c2", 4, 4)]


def test_no_session_is_due_while_a_longer_lifetime_waits(store: Store, make_store: MakeStore, clock: Clock) -> None:
    fill_with_expired(store, clock)
    longer = make_store(clock=clock, policy=CAREFUL)
    assert longer.due_sessions() == []
    clock.advance(91 * DAY)
    assert [company.due for company in longer.due_sessions()] == [4, 4, 4]


def test_a_sweep_touches_only_the_companies_it_names(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "me", 60))
    store.sweep_companies(lease, store.start_sweep("me"), [names[1], "unknown"], 60)
    assert [store.load(name).total for name in names] == [5, 1, 5]


def test_a_sweep_of_many_types_counts_each(store: Store, clock: Clock) -> None:
    store.set(
        "1", {"session": {"a": b"A", "b": b"B"}, "device-list": {"a": b"A"}, "x": {"a": b"A", "b": b"B", "c": b"C"}}
    )
    clock.advance(20 * DAY)
    run = sweep(store)
    assert (run.deleted, run.by_type) == (6, {"session": 2, "device-list": 1, "other": 3})
    assert store.sweep_runs(1) == [run]


def test_a_sweep_whose_lease_was_taken_over_deletes_nothing(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "a", 60))
    run = store.start_sweep("a")
    clock.advance(61 * SECOND)
    acquired(store.acquire_lease("sweep", "b", 60))
    with pytest.raises(LeaseLost):
        store.sweep_companies(lease, run, names, 60)
    assert [store.load(name).total for name in names] == [5, 5, 5]
    assert store.sweep_runs(1) == [run]
    assert store.acquire_lease("sweep", "c", 60) is None, "b lost its lease"


def test_a_forged_lease_is_refused(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "a", 60))
    run = store.start_sweep("a")
    for forged in (replace(lease, epoch=lease.epoch + 1), replace(lease, holder="b"), replace(lease, name="other")):
        with pytest.raises(LeaseLost):
            store.sweep_companies(forged, run, names, 60)
    assert store.census().total == 15


def test_each_batch_of_a_sweep_renews_its_lease(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "a", 60))
    run = store.start_sweep("a")
    for name in names:
        clock.advance(50 * SECOND)
        run = store.sweep_companies(lease, run, [name], 60)
    clock.advance(50 * SECOND)
    assert store.acquire_lease("sweep", "b", 60) is None
    assert run.deleted == 12


def test_an_expired_lease_that_nobody_took_still_sweeps(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "a", 60))
    clock.advance(120 * SECOND)
    run = store.sweep_companies(lease, store.start_sweep("a"), names, 60)
    assert run.deleted == 12
    assert store.acquire_lease("sweep", "b", 60) is None


def test_a_key_renewed_between_count_and_sweep_survives(store: Store, clock: Clock) -> None:
    names = fill_with_expired(store, clock)
    lease = acquired(store.acquire_lease("sweep", "me", 60))
    run = store.start_sweep("me")
    assert [due.company_id for due in store.due_companies()] == names
    store.set("c0", {"session": {"0": b"rewritten"}})
    store.get("c0", "session", ["1"])
    store.touch("c0", {"session": ["2"]})
    run = store.sweep_companies(lease, run, names, 60)
    assert run.deleted == 9
    assert store.load("c0").keys["session"] == {"0": b"rewritten", "1": b"A", "2": b"A"}


def test_a_failed_sweep_is_recorded_with_its_error(store: Store) -> None:
    run = store.finish_sweep(store.start_sweep("me"), 3.0, "the database went away")
    assert run.error == "the database went away"
    assert store.sweep_runs(10) == [run]


def test_sweep_runs_are_newest_first_and_limited(store: Store, clock: Clock) -> None:
    runs = []
    for n in range(5):
        clock.advance(SECOND)
        runs.append(store.finish_sweep(store.start_sweep(f"sweeper {n}"), float(n), None))
    assert store.sweep_runs(3) == runs[:1:-1]
    assert store.sweep_runs(100) == runs[::-1]
    assert len({run.run_id for run in runs}) == 5


def test_runs_older_than_90_days_are_deleted(store: Store, clock: Clock) -> None:
    sweep(store)
    clock.advance(89 * DAY)
    second = sweep(store)
    assert len(store.sweep_runs(10)) == 2
    clock.advance(2 * DAY)
    third = sweep(store)
    assert store.sweep_runs(10) == [third, second]
