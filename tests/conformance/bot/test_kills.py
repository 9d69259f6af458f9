"""SIGKILL during `store.set` leaves the whole write or none of it. A killed backfill of expiries can be resumed."""

import threading

import pytest

from keystore import Store
from keystore.records import KeyRow
from rig.fixtures.clock import START, Clock
from rig.waiting import eventually
from tests.conformance.conftest import Backend, MakeStore
from tests.conformance.worker_process import Worker, backfill, generation_keys, workers, write_generations

pytestmark = pytest.mark.slow

KEYS_PER_TYPE = 150
KILL_AFTER_S = [0.0, 0.004, 0.011, 0.019, 0.03]
"""Delays between an acknowledged write and the kill, in seconds."""


def without_deletions(keys: dict[str, dict[str, bytes | None]]) -> dict[str, dict[str, bytes]]:
    """Return the keys that exist after this write; None deletes a key."""
    return {
        key_type: {key_id: value for key_id, value in by_id.items() if value is not None}
        for key_type, by_id in keys.items()
    }


def test_a_kill_during_a_write_leaves_all_or_nothing(store: Store, backend: Backend) -> None:
    next_generation = 0
    for delay_s in KILL_AFTER_S:
        writer = Worker(
            write_generations,
            backend.url,
            START,
            secret_keys=backend.secret_keys,
            first=next_generation,
            keys=KEYS_PER_TYPE,
        )
        with workers(writer):
            writer.go()
            # The worker never pauses. Shortly after it reports one write, it is inside the next.
            acknowledged_generations = [writer.line(), writer.line()]
            threading.Event().wait(delay_s)
            acknowledged_generations += writer.kill()
        state = store.load("bot")
        assert state.creds is not None
        generation = int(state.creds)
        assert generation - acknowledged_generations[-1] in (0, 1), "a write is lost, or two are unreported"
        assert state.keys == without_deletions(generation_keys(generation, KEYS_PER_TYPE))
        next_generation = generation + 1
    # The store still accepts writes after the kills.
    store.set("bot", generation_keys(next_generation, KEYS_PER_TYPE), creds=b"%d" % next_generation)
    assert store.load("bot").keys == without_deletions(generation_keys(next_generation, KEYS_PER_TYPE))


@pytest.mark.parametrize("batches", [1, 4])
def test_a_killed_backfill_resumes_to_the_right_total(
    make_store: MakeStore, clock: Clock, backend: Backend, batches: int
) -> None:
    store, total, limit = make_store(clock=clock), 3_000, 40
    store.restore_rows("1", (KeyRow("session", f"{n}", b"value", START, START, None) for n in range(total)))
    connections = len(backend.left_open())
    worker = Worker(backfill, backend.url, START, secret_keys=backend.secret_keys, limit=limit)
    with workers(worker):
        worker.go()
        filled_totals = [worker.line() for _ in range(batches)]
        filled_totals += worker.kill()
    assert "done" not in filled_totals, "the worker was killed too late"
    eventually(lambda: len(backend.left_open()) <= connections, "the server has ended its last batch, or committed it")
    unfilled = store.census().without_expiry
    assert (total - unfilled) - filled_totals[-1] in (0, limit), "part of a batch was written"
    filled_after_resuming = 0
    while batch := store.backfill(500):
        filled_after_resuming += sum(batch.values())
    assert filled_after_resuming == unfilled
    assert store.census().without_expiry == 0
    assert store.census().total == total
