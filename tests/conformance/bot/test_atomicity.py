"""A set is all or nothing, also for readers in other threads; and many threads share one store."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from keystore import Store
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore

GENERATIONS = 40
KEYS = 30
READERS = 3
TYPES = ("session", "sender-key", "pre-key")


def write_generation(store: Store, generation: int) -> None:
    """Write a generation: its number in creds and in every key. Even and odd generations use different ids."""
    here, gone = ("even", "odd") if generation % 2 == 0 else ("odd", "even")
    value = b"%d" % generation
    keys: dict[str, dict[str, bytes | None]] = {
        key_type: {f"{here} {n}": value for n in range(KEYS)} | {f"{gone} {n}": None for n in range(KEYS)}
        for key_type in TYPES
    }
    store.set("1", keys, creds=value)


def check_one_generation(store: Store) -> int:
    """Load the state, check that one set wrote all of it, and return its generation."""
    state = store.load("1")
    assert state.creds is not None
    generation = int(state.creds)
    here = "even" if generation % 2 == 0 else "odd"
    assert state.keys == {key_type: {f"{here} {n}": state.creds for n in range(KEYS)} for key_type in TYPES}
    return generation


def test_concurrent_readers_see_a_set_whole_or_not_at_all(store: Store) -> None:
    write_generation(store, 0)
    done = threading.Event()

    def read_until_done() -> set[int]:
        generations = set()
        while not done.is_set():
            generations.add(check_one_generation(store))
        return generations

    def write_all() -> None:
        try:
            for generation in range(1, GENERATIONS + 1):
                write_generation(store, generation)
        finally:
            done.set()

    with ThreadPoolExecutor(READERS + 1) as pool:
        readers = [pool.submit(read_until_done) for _ in range(READERS)]
        pool.submit(write_all).result()
        assert len(set[int]().union(*(reader.result() for reader in readers))) > 1, "no reader met a writer"
    assert check_one_generation(store) == GENERATIONS


def test_a_get_sees_one_set_whole(store: Store) -> None:
    write_generation(store, 0)
    done = threading.Event()
    wanted = [f"{parity} {n}" for parity in ("even", "odd") for n in range(KEYS)]

    def read_until_done() -> None:
        while not done.is_set():
            values = store.get("1", "session", wanted)
            assert len(values) == KEYS
            assert len(set(values.values())) == 1

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read_until_done) for _ in range(READERS)]
        try:
            for generation in range(1, GENERATIONS + 1):
                write_generation(store, generation)
        finally:
            done.set()
        for reader in readers:
            reader.result()


def test_writers_of_the_same_keys_in_different_orders_all_succeed(store: Store) -> None:
    ids = [f"id {n}" for n in range(20)]
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        mine = ids if writer % 2 else ids[::-1]
        start.wait(30)
        for turn in range(25):
            value = b"%d %d" % (writer, turn)
            store.set("1", {"session": dict.fromkeys(mine, value), "pre-key": dict.fromkeys(mine)}, creds=value)

    with ThreadPoolExecutor(4) as pool:
        for writer in [pool.submit(write, n) for n in range(4)]:
            writer.result()
    state = store.load("1")
    assert state.keys == {"session": dict.fromkeys(ids, state.creds)}


def test_renewing_readers_and_writers_of_the_same_keys_all_succeed(store: Store, clock: Clock) -> None:
    ids = [f"id {n}" for n in range(30)]
    start = threading.Barrier(4)
    store.set("1", {"session": dict.fromkeys(ids, b"0")})
    clock.advance(timedelta(days=6))

    def in_turn(act: Callable[[int], None]) -> None:
        start.wait(30)
        for turn in range(20):
            act(turn)

    def get(turn: int) -> None:
        assert store.get("1", "session", ids if turn % 2 else ids[::-1]).keys() == set(ids)

    def touch(_: int) -> None:
        store.touch("1", {"session": ids})

    def write(turn: int) -> None:
        store.set("1", {"session": dict.fromkeys(ids[::-1], b"%d" % turn)})
        clock.advance(timedelta(days=5))

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(in_turn, act) for act in (get, get, touch, write)]:
            worker.result()
    assert store.load("1").keys == {"session": dict.fromkeys(ids, b"19")}


@pytest.mark.parametrize("max_connections", [1, 2])
def test_more_threads_than_connections_wait_their_turn(make_store: MakeStore, max_connections: int) -> None:
    store = make_store(max_connections=max_connections)

    def write_and_read(writer: int) -> None:
        for turn in range(10):
            store.set(f"{writer}", {"session": {f"{turn}": b"A"}})
            assert store.get(f"{writer}", "session", [f"{turn}"]) == {f"{turn}": b"A"}

    with ThreadPoolExecutor(12) as pool:
        for worker in [pool.submit(write_and_read, n) for n in range(12)]:
            worker.result()
    assert store.census().total == 120
