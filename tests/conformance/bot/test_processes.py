"""Several processes on one database: no caller gets an error, and no write or renewal is lost."""

from datetime import timedelta

import pytest

from keystore import Store
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import Backend, MakeStore
from tests.conformance.worker_process import (
    Worker,
    rewrite,
    sweep_until_nothing_is_due,
    workers,
    write_one_by_one,
)

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


def test_every_set_of_concurrent_processes_arrives(store: Store, backend: Backend) -> None:
    processes, sets = 4, 150
    writers = [
        Worker(
            write_one_by_one,
            backend.url,
            START,
            secret_keys=backend.secret_keys,
            company="bot",
            prefix=f"writer {n}",
            count=sets,
        )
        for n in range(processes)
    ]
    with workers(*writers):
        for writer in writers:
            writer.go()
        assert [writer.result() for writer in writers] == [sets] * processes
    expected = {f"writer {writer} {n}" for writer in range(processes) for n in range(sets)}
    assert set(store.load("bot").keys["session"]) == expected


def test_two_sweeping_processes_lose_no_renewed_key_and_count_right(make_store: MakeStore, backend: Backend) -> None:
    companies, keys = 20, 50
    now = START + 30 * DAY
    clock = Clock()
    store = make_store(clock=clock)
    for company in range(companies):
        store.set(f"c{company}", {"session": {f"{n}": b"expired" for n in range(keys)}})
    clock.set(now)
    assert store.census().expired == companies * keys
    # The renewer rewrites every other key from the last company on, while the sweepers begin with the first.
    renewed = [(f"c{company}", f"{n}") for company in reversed(range(companies)) for n in range(0, keys, 2)]
    sweepers = [
        Worker(sweep_until_nothing_is_due, backend.url, now, secret_keys=backend.secret_keys, lease=f"sweeper {n}")
        for n in range(2)
    ]
    renewer = Worker(rewrite, backend.url, now, secret_keys=backend.secret_keys, names=renewed)
    with workers(*sweepers, renewer):
        for worker in (renewer, *sweepers):
            worker.go()
        deleted = sum(sweeper.result() for sweeper in sweepers)
        assert renewer.result() == len(renewed)
    rows = {
        (row_company, row.key_id): row for row_company in store.companies() for row in store.export_rows(row_company)
    }
    assert rows.keys() == set(renewed)
    assert {row.value for row in rows.values()} == {b"rewritten"}
    # A key that a sweeper reached first was deleted and then created again; the others were renewed in time.
    recreated = sum(row.created_at == now for row in rows.values())
    assert deleted == companies * keys - len(renewed) + recreated
    assert sum(run.deleted for run in store.sweep_runs(10)) == deleted


def test_one_of_several_processes_gets_the_lease(make_store: MakeStore, clock: Clock) -> None:
    stores = [make_store(clock=clock) for _ in range(4)]
    leases = [store.acquire_lease("sweep", f"holder {n}", 60) for n, store in enumerate(stores)]
    assert [lease is not None for lease in leases] == [True, False, False, False]
