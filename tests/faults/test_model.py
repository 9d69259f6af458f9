"""Four processes, each with 50 threads and a sweeper, live an hour of simulated traffic. All equals a dict then."""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from random import Random

import pytest

from keystore import Store, open_store
from keystore.records import Keys
from monitor.sweeper import sweep
from rig.fixtures.clock import Clock

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1_800)]

PROCESSES, THREADS, MINUTES = 4, 50, 60
TYPES = ("session", "app-state-sync-key", "sender-key", "lid-mapping")


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_two_hundred_threads_equal_a_dict(backend: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"migrated_{backend}_url")
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as processes:
        operations = sum(processes.map(lived_hour, [url] * PROCESSES, range(PROCESSES)))
    threads = PROCESSES * THREADS
    sys.stdout.write(f"\nmodel ({backend}): {operations:,} operations of {threads} threads, all equal to the dict\n")


def lived_hour(url: str, process: int) -> int:
    """Let this process's accounts live an hour, and return the number of operations. Fails if one differs."""
    clock = Clock()
    with open_store(url, clock=clock) as store, ThreadPoolExecutor(THREADS) as threads:
        accounts = [Account(store, f"p{process}t{thread}") for thread in range(THREADS)]
        for minute in range(MINUTES):
            list(threads.map(Account.live_a_minute, accounts))
            clock.advance(timedelta(minutes=1))
            if minute % 10 == process:
                sweep(store)
        for account in accounts:
            account.require_equal()
        return sum(account.operations for account in accounts)


class Account:
    """An account under a lease: each operation is done on the store and on a dict."""

    def __init__(self, store: Store, company: str) -> None:
        self.operations = 0
        self._store, self._company, self._random = store, company, Random(company)
        self._keys: dict[tuple[str, str], bytes] = {}
        self._creds: bytes | None = None
        self._epoch = store.lease_company(company, "holder", 3_600).epoch
        self._seq = 0

    def live_a_minute(self) -> None:
        """Do up to four operations."""
        operations = self._write, self._read, self._use, self.require_equal, self._clear
        for _ in range(self._random.randint(1, 4)):
            (operation,) = self._random.choices(operations, (60, 25, 10, 4, 1))
            operation()
            self.operations += 1

    def require_equal(self) -> None:
        """Fail if the store has anything else than the dict."""
        state = self._store.load(self._company)
        stored = {(kind, key_id): value for kind, by_id in state.keys.items() for key_id, value in by_id.items()}
        assert (state.creds, stored) == (self._creds, self._keys), self._company

    def _write(self) -> None:
        kind, pick = self._random.choice(TYPES), self._random
        values = {
            str(pick.randrange(40)): pick.choice((None, pick.randbytes(30), pick.randbytes(300))) for _ in range(3)
        }
        creds = pick.randbytes(100) if pick.random() < 0.2 else None
        self._set({kind: values}, creds)
        for key_id, value in values.items():
            if value is None:
                self._keys.pop((kind, key_id), None)
            else:
                self._keys[kind, key_id] = value
        self._creds = self._creds if creds is None else creds

    def _set(self, keys: Keys, creds: bytes | None) -> None:
        self._seq += 1
        for _ in range(self._random.choice((1, 1, 1, 2))):  # Some are repeated, as after a lost answer.
            self._store.set(self._company, keys, creds, epoch=self._epoch, seq=self._seq)

    def _read(self) -> None:
        kind, ids = self._random.choice(TYPES), [str(self._random.randrange(40)) for _ in range(5)]
        expected = {key_id: self._keys[kind, key_id] for key_id in ids if (kind, key_id) in self._keys}
        assert self._store.get(self._company, kind, ids) == expected, self._company

    def _use(self) -> None:
        self._store.touch(self._company, {kind: [str(n) for n in range(10)] for kind in TYPES})

    def _clear(self) -> None:
        self._seq += 1
        self._store.clear(self._company, keys_only=True, epoch=self._epoch, seq=self._seq)
        self._keys.clear()
