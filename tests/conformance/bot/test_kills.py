"""A process killed (SIGKILL) at work leaves all of a set or none of it, and a backfill that can be resumed."""

import threading

import pytest

from keystore import Store
from keystore.records import KeyRow
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.worker_process import Worker, backfill, generation_keys, workers, write_generations

pytestmark = pytest.mark.slow

KEYS = 150
KILL_AFTER_S = [0.0, 0.004, 0.011, 0.019, 0.03]


def alive(keys: dict[str, dict[str, bytes | None]]) -> dict[str, dict[str, bytes]]:
    """The keys that a set leaves in an otherwise empty company."""
    return {
        key_type: {key_id: value for key_id, value in by_id.items() if value is not None}
        for key_type, by_id in keys.items()
    }


def test_a_process_killed_during_a_set_leaves_all_of_it_or_nothing(store: Store, store_url: str) -> None:
    first = 0
    for delay_s in KILL_AFTER_S:
        writer = Worker(write_generations, store_url, START, first=first, keys=KEYS)
        with workers(writer):
            writer.go()
            # It writes without a pause, so shortly after an answer it is in the middle of the next set.
            acknowledged = [writer.line(), writer.line()]
            threading.Event().wait(delay_s)
            acknowledged += writer.kill()
        state = store.load("bot")
        assert state.creds is not None
        generation = int(state.creds)
        assert generation - acknowledged[-1] in (0, 1), "an acknowledged set is lost, or two extra ones came"
        assert state.keys == alive(generation_keys(generation, KEYS))
        first = generation + 1
    store.set("bot", generation_keys(first, KEYS), creds=b"%d" % first)
    assert store.load("bot").keys == alive(generation_keys(first, KEYS))


@pytest.mark.parametrize("batches", [1, 4])
def test_a_killed_backfill_resumes_to_the_right_total(
    make_store: MakeStore, clock: Clock, store_url: str, batches: int
) -> None:
    store, total, limit = make_store(clock=clock), 3_000, 40
    store.restore_rows("1", (KeyRow("session", f"{n}", b"value", START, START, None) for n in range(total)))
    worker = Worker(backfill, store_url, START, limit=limit)
    with workers(worker):
        worker.go()
        filled = [worker.line() for _ in range(batches)]
        filled += worker.kill()
    assert "done" not in filled, "the worker was killed too late"
    unfilled = store.census().without_expiry
    assert (total - unfilled) - filled[-1] in (0, limit), "part of a batch was written"
    resumed = 0
    while batch := store.backfill(500):
        resumed += sum(batch.values())
    assert resumed == unfilled
    assert store.census().without_expiry == 0
    assert store.census().total == total
