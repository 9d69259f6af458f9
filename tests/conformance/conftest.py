"""The backends that the conformance suite runs on, and the check that no test leaves anything behind."""

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import psutil
import pytest

from keystore import Store, open_store
from keystore.records import DEFAULT_QUOTA, Quota
from keystore.ttl import DIARY, Policy
from rig.emptied_database import EmptiedDatabase
from rig.fixtures.citus import not_on_citus
from rig.fixtures.clock import Clock
from rig.waiting import eventually

BACKENDS = (
    "sqlite",
    "postgres",
    pytest.param("sqlite-sealed", marks=pytest.mark.slow),
    pytest.param("postgres-sealed", marks=pytest.mark.slow),
    pytest.param("pgbouncer", marks=pytest.mark.slow),
    pytest.param("partitions", marks=[pytest.mark.slow, not_on_citus("its shards are partitions already")]),
)
LEAK_TIMEOUT_S = 10.0

ALIKE_WHEN_SEALED = ("test_company_leases", "test_processes", "test_takeovers")
"""Tests of bots that hardly look into values."""

SECRET_KEY = base64.b64encode(bytes(range(32))).decode()
"""The master key of the backends whose values are sealed."""

_EMPTIED = {"migrated": "emptied_database", "partitioned": "partitioned_database"}
"""The fixture with the database behind each fixture `…_postgres_url`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what hardly looks into values, on a store that seals them, to `-m long`."""
    for item in items:
        path = item.path
        looks = path.parent.name not in ("upkeep", "expiry") and path.stem not in ALIKE_WHEN_SEALED
        if "-sealed" in item.name and not looks:
            item.add_marker(pytest.mark.long)


@dataclass(frozen=True)
class Backend:
    """One database under test: its address, and `left_open`, the connections still open once every store is closed."""

    name: str
    url: str = field(repr=False)
    left_open: Callable[[], list[str]] = field(repr=False)
    secret_keys: str = field(default="", repr=False)


class MakeStore(Protocol):
    """Opens stores as `open_store` does, on the test's own database, and closes them after the test.

    Without `secret_keys` a store has those of its backend.
    """

    def __call__(
        self,
        *,
        clock: Callable[[], datetime] | None = None,
        policy: Policy = DIARY,
        guard: bool = True,
        quota: Quota = DEFAULT_QUOTA,
        secret_keys: str | None = None,
        without_values: bool = False,
        max_connections: int = 8,
    ) -> Store: ...


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """A migrated database without any keys, on each backend in turn."""
    name, _, sealed = request.param.partition("-")
    secret_keys = SECRET_KEY if sealed else ""
    if name == "sqlite":
        url: str = request.getfixturevalue("migrated_sqlite_url")
        return Backend(name, url, lambda: _open_files(url.removeprefix("sqlite:///")), secret_keys)
    kind = "partitioned" if name == "partitions" else "migrated"
    direct: str = request.getfixturevalue(f"{kind}_postgres_url")
    emptied: EmptiedDatabase = request.getfixturevalue(_EMPTIED[kind])
    database = direct.rpartition("/")[2]
    others = (  # The servers of a Citus cluster keep connections to each other.
        "SELECT state || ': ' || query FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
        "AND application_name NOT LIKE 'citus_internal%'"
    )
    if name != "pgbouncer":
        return Backend(name, direct, lambda: [row[0] for row in emptied.rows(others)], secret_keys)
    pooler = request.getfixturevalue("pooler")

    def left_open() -> list[str]:
        # The pooler keeps its own connections, idle; one that is not idle is a transaction left open.
        busy = [row[0] for row in emptied.rows(f"{others} AND state <> 'idle'")]
        return busy + [f"client {n}" for n in range(pooler.clients(database))]

    return Backend(name, pooler.url(database), left_open)


@pytest.fixture
def store_url(backend: Backend) -> str:
    """The address of the test's own database."""
    return backend.url


@pytest.fixture
def make_store(backend: Backend) -> Iterator[MakeStore]:
    """Opens stores on the test's database, and checks afterwards that they left no thread and no connection."""
    before = set(threading.enumerate())
    stores: list[Store] = []

    def make(
        *,
        clock: Callable[[], datetime] | None = None,
        policy: Policy = DIARY,
        guard: bool = True,
        quota: Quota = DEFAULT_QUOTA,
        secret_keys: str | None = None,
        without_values: bool = False,
        max_connections: int = 8,
    ) -> Store:
        store = open_store(
            backend.url,
            clock=clock,
            policy=policy,
            guard=guard,
            quota=quota,
            secret_keys=backend.secret_keys if secret_keys is None else secret_keys,
            without_values=without_values,
            max_connections=max_connections,
        )
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()

    def threads_left() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in before and thread.name != "relay"]

    eventually(lambda: not threads_left(), "the store's threads end with it", LEAK_TIMEOUT_S)
    eventually(lambda: not backend.left_open(), "the store's connections close with it", LEAK_TIMEOUT_S)


@pytest.fixture
def store(make_store: MakeStore, clock: Clock) -> Store:
    """A store on the test's clock, with the original operator's expiry rule and guards on."""
    return make_store(clock=clock)


def _open_files(path: str) -> list[str]:
    """The open descriptors on a database and its journals."""
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(path)]
