"""Takeovers under concurrency: after a takeover no write of an older epoch succeeds."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from keystore import LeaseHeld, LeaseLost, Store
from keystore.records import AuthState, Keys
from tests.conformance.conftest import MakeStore
from tests.conformance.worker_process import Worker, workers, write_under_a_lease

pytestmark = pytest.mark.slow

RACES = 100
WRITERS = 3
KEYS_A_SET = 40
END_TIMEOUT_S = 60.0


def keys_of(writer: int, turn: int) -> Keys:
    """The keys of a writer's turn: the same ids of two types each time."""
    value = b"%d" % turn
    return {kind: {f"{writer} {n}": value for n in range(KEYS_A_SET // 2)} for kind in ("session", "pre-key")}


def write_until_lost(store: Store, writer: int, epoch: int, begun: threading.Barrier, wrote: threading.Event) -> int:
    """Write turn after turn until the lease is lost, and return the last one that was acknowledged."""
    begun.wait(END_TIMEOUT_S)
    turn = 0
    try:
        while True:
            store.set("7", keys_of(writer, turn + 1), epoch=epoch)
            turn += 1
            wrote.set()
    except LeaseLost:
        return turn


def last_turn(state: AuthState, writer: int) -> int:
    """The turn that all of a writer's keys are from; fails if they are from two, that is, if a set was torn."""
    values = {
        value for by_id in state.keys.values() for key_id, value in by_id.items() if key_id.startswith(f"{writer} ")
    }
    assert len(values) <= 1
    return int(values.pop()) if values else 0


def test_no_write_of_an_older_epoch_lands_after_a_takeover(make_store: MakeStore) -> None:
    older, newer = make_store(), make_store()
    begun = threading.Barrier(WRITERS + 1)
    written = 0
    with ThreadPoolExecutor(WRITERS) as threads:
        for race in range(RACES):
            lease = older.lease_company("7", "older", 600, force=True)
            older.clear("7", epoch=lease.epoch)
            wrote = threading.Event()
            acknowledged: list[Future[int]] = [
                threads.submit(write_until_lost, older, writer, lease.epoch, begun, wrote) for writer in range(WRITERS)
            ]
            begun.wait(END_TIMEOUT_S)
            if race % 3:  # Else the takeover meets the first write of each.
                assert wrote.wait(END_TIMEOUT_S)
            newer.lease_company("7", "newer", 600, force=True)
            at_the_takeover = newer.load("7")
            last = [future.result(END_TIMEOUT_S) for future in acknowledged]
            assert newer.load("7") == at_the_takeover, "a write landed after the takeover had returned"
            assert [last_turn(at_the_takeover, writer) for writer in range(WRITERS)] == last
            written += sum(last)
    assert written > RACES // 2, "the writers were not at work at the takeovers"


def test_one_of_many_simultaneous_holders_gets_the_lease(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(4)]
    begun = threading.Barrier(len(stores))

    def take(number: int, company: str) -> int | str:
        """The epoch taken, or the holder who has the lease instead."""
        begun.wait(END_TIMEOUT_S)
        try:
            return stores[number].lease_company(company, f"holder {number}", 600).epoch
        except LeaseHeld as held:
            return held.holder

    with ThreadPoolExecutor(len(stores)) as threads:
        for race in range(60):
            company, epoch = f"{race // 2}", race % 2 + 1
            takes = [threads.submit(take, number, company) for number in range(len(stores))]
            taken = [take.result(END_TIMEOUT_S) for take in takes]
            holder = f"holder {taken.index(epoch)}"
            assert sorted(map(str, taken)) == [f"{epoch}", holder, holder, holder]
            stores[0].release_company(company, holder, epoch)


def test_each_of_many_forced_takeovers_has_its_own_epoch(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(4)]

    def force(store: Store, holder: str) -> list[int]:
        return [store.lease_company("7", holder, 600, force=True).epoch for _ in range(25)]

    with ThreadPoolExecutor(len(stores)) as threads:
        forced = [threads.submit(force, store, f"{n}") for n, store in enumerate(stores)]
        epochs = [epoch for future in forced for epoch in future.result(END_TIMEOUT_S)]
    assert sorted(epochs) == list(range(1, 101))


def test_the_older_of_two_processes_on_one_account_loses_every_write(make_store: MakeStore, store_url: str) -> None:
    store = make_store()
    store.lease_company("7", "before", 600)
    with ExitStack() as stack:
        older = Worker(write_under_a_lease, store_url, None, company="7", holder="older")
        newer = Worker(write_under_a_lease, store_url, None, company="7", holder="newer")
        stack.enter_context(workers(older, newer))
        older.go()
        for _ in range(3):
            older.line()
        newer.go()
        epoch = newer.line()["epoch"]
        assert older.result() == {"lost": epoch - 1}
        newer.line()
        newer.kill()
    assert store.get("7", "session", ["who"]) == {"who": b"newer"}
    assert store.get_creds("7") == b"newer"
