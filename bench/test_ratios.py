"""Gates: how much longer the store takes than its bare driver for the same rows on the same server.

Absolute times say more of the machine than of the code, so each is measured next to a bare statement, turn by turn
in one run; a slow moment of the machine hits both. The medians' ratio is what is held to a limit. Each gate's
figures are also in pytest-benchmark's `extra_info` (`python -m pytest bench --benchmark-json FILE`).
"""

import gc
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import psycopg
import pytest
import structlog
from pytest_benchmark.fixture import BenchmarkFixture

from keystore import open_store
from keystore.codec import encode
from keystore.store import Store

LOAD_LIMIT = 2.5
BURST_LIMIT = 1.5
CPU_LIMIT = 2.0
"""How many times the bare driver's time each may take, by the median. CPU_LIMIT is for bursts without waiting for the
disk, and for rewritten pre-keys: the store compares each with what stands there, counts those and warns."""

GET_LIMIT, SET_LIMIT, SQLITE_GET_LIMIT = 5.5, 4.5, 4.0
"""Of one small question or change, where what surrounds a statement weighs most: a get also renews what it reads, a set
also looks at what stood there and counts. psycopg prepares the bare statement after five uses and the store prepares
nothing (see keystore/postgres_link.py): about half of its time on Postgres is the server's planning."""

ROUNDS = 100
WARM_UP_ROUNDS = 5
BURST_KEYS = 250
"""What a reconnect writes."""

BAILEYS_7_BURST_KEYS = 812
"""What Baileys 7 writes when the server holds none."""

STATE = Path(__file__).parent.parent / "tests" / "data" / "baileys_state.jsonl"
STATE_KEYS = 721

NO_FSYNC = "options=-c%20synchronous_commit%3Doff"
"""Waiting for the disk is the same for both and hides what the store itself costs; without it that is seen."""

BARE_FETCH = "SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %s"

BARE_GET = """
SELECT key_id, value FROM whatsapp_keys WHERE company_id = %s AND key_type = %s AND key_id = ANY (%s::text[])
"""

BARE_UPSERT = """
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT %s, t, i, v, now(), now(), date_trunc('day', now()) + interval '8 days'
FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS r (t, i, v)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
"""

SQLITE_FETCH = "SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = ?"

SQLITE_GET = """
SELECT key_id, value FROM whatsapp_keys
WHERE company_id = ? AND key_type = ? AND key_id IN (SELECT value FROM json_each(?))
"""

SQLITE_UPSERT = """
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
"""

Act = Callable[[], object]
Burst = Callable[[str, dict[str, bytes]], None]


@pytest.fixture(scope="module")
def state() -> dict[str, dict[str, bytes]]:
    """`{key_type: {key_id: value}}` of 721 keys from real sessions."""
    keys: dict[str, dict[str, bytes]] = {}
    for line in STATE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        keys.setdefault(row["type"], {})[row["id"]] = json.dumps(row["value"], separators=(",", ":")).encode()
    assert sum(map(len, keys.values())) == STATE_KEYS
    return keys


@pytest.fixture
def postgres(migrated_postgres_url: str) -> Iterator[Store]:
    """A store on an empty Postgres database."""
    with open_store(migrated_postgres_url) as store:
        yield store


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """An SQLite database's file."""
    return tmp_path / "k.db"


@pytest.fixture
def sqlite(sqlite_file: Path) -> Iterator[Store]:
    """A store on an empty SQLite database."""
    with open_store(f"sqlite:///{sqlite_file}") as store:
        yield store


def ratio(benchmark: BenchmarkFixture, store_does: Callable[[int], Act], driver_does: Callable[[int], Act]) -> float:
    """The store's median over the bare driver's, both timed in turn; who goes first alternates.

    Each is a function of the round that prepares it, untimed, and returns what is timed.
    """
    took: dict[str, list[float]] = {"store": [], "driver": []}

    def round_of_both() -> None:
        number = len(took["store"])
        turns = [("store", store_does(number)), ("driver", driver_does(number))]
        for who, act in turns if number % 2 else turns[::-1]:
            started = perf_counter()
            act()
            took[who].append(perf_counter() - started)

    gc.collect()
    benchmark.pedantic(round_of_both, rounds=WARM_UP_ROUNDS + ROUNDS)  # type: ignore[no-untyped-call]
    store_ms, driver_ms = (median(took[who][WARM_UP_ROUNDS:]) * 1000 for who in ("store", "driver"))
    benchmark.extra_info |= {
        "store_ms": round(store_ms, 3),
        "driver_ms": round(driver_ms, 3),
        "ratio": round(store_ms / driver_ms, 3),
    }
    print(f"store {store_ms:.2f} ms, bare driver {driver_ms:.2f} ms: {store_ms / driver_ms:.2f} times")
    return store_ms / driver_ms


def numbered(pre_keys: dict[str, bytes], keys: int) -> dict[str, bytes]:
    """So many pre-keys, with these values over and over; ids of one length, so that a prefix keeps them apart."""
    values = list(pre_keys.values())
    return {str(1_000 + number): values[number % len(values)] for number in range(keys)}


def burst_ratio(
    benchmark: BenchmarkFixture, pre_keys: dict[str, bytes], write: Burst, bare_write: Burst, into: str
) -> float:
    """The ratio of bursts of pre-keys into companies of the store's and of the driver's own: their tables are alike.

    `into` says what stands there: each burst goes into a `new` company, under new ids into one that is `growing` (as a
    bot's reconnects do), or is `rewritten`, with other values under the ids of the last one.
    """

    def burst(who: str, write: Burst) -> Callable[[int], Act]:
        def prepare(number: int) -> Act:
            company = f"{who}-{number}" if into == "new" else who
            prefix = f"{number}0" if into == "growing" else ""
            values = {prefix + key_id: b"%d" % (number % 10) + value[1:] for key_id, value in pre_keys.items()}
            return lambda: write(company, values)

        return prepare

    with structlog.testing.capture_logs():
        return ratio(benchmark, burst("store", write), burst("driver", bare_write))


def test_postgres_load(
    benchmark: BenchmarkFixture, postgres: Store, migrated_postgres_url: str, state: dict[str, dict[str, bytes]]
) -> None:
    postgres.set("one", state)
    with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:

        def fetch() -> list[tuple[object, ...]]:
            with conn.cursor(binary=True) as cursor:
                return cursor.execute(BARE_FETCH, ["one"]).fetchall()

        assert postgres.load("one").total == len(fetch()) == STATE_KEYS
        assert ratio(benchmark, lambda _: lambda: postgres.load("one"), lambda _: fetch) <= LOAD_LIMIT


@pytest.mark.parametrize("keys", [1, 20])
def test_postgres_get(
    benchmark: BenchmarkFixture,
    postgres: Store,
    migrated_postgres_url: str,
    state: dict[str, dict[str, bytes]],
    keys: int,
) -> None:
    postgres.set("one", state)
    ids = list(state["session"])[:keys]
    with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:

        def fetch() -> list[tuple[object, ...]]:
            with conn.cursor(binary=True) as cursor:
                return cursor.execute(BARE_GET, ["one", "session", ids]).fetchall()

        assert len(postgres.get("one", "session", ids)) == len(fetch()) == keys
        assert ratio(benchmark, lambda _: lambda: postgres.get("one", "session", ids), lambda _: fetch) <= GET_LIMIT


def test_postgres_set_of_one(
    benchmark: BenchmarkFixture, migrated_postgres_url: str, state: dict[str, dict[str, bytes]]
) -> None:
    url = f"{migrated_postgres_url}?{NO_FSYNC}"
    key_id, value = next(iter(state["session"].items()))
    with open_store(url) as store, closing(psycopg.connect(url, autocommit=True)) as conn:

        def bare_write(company: str, values: dict[str, bytes]) -> None:
            with conn.cursor(binary=True) as cursor:
                cursor.execute(BARE_UPSERT, [company, ["session"], list(values), [*map(encode, values.values())]])

        def write(company: str, values: dict[str, bytes]) -> None:
            store.set(company, {"session": values})

        assert burst_ratio(benchmark, {key_id: value}, write, bare_write, "rewritten") <= SET_LIMIT


@pytest.mark.parametrize("durable", [True, False], ids=["fsync", "no-fsync"])
@pytest.mark.parametrize("into", ["new", "growing", "rewritten"])
@pytest.mark.parametrize("keys", [BURST_KEYS, BAILEYS_7_BURST_KEYS])
def test_postgres_burst(
    benchmark: BenchmarkFixture,
    migrated_postgres_url: str,
    state: dict[str, dict[str, bytes]],
    into: str,
    durable: bool,
    keys: int,
) -> None:
    url = migrated_postgres_url if durable else f"{migrated_postgres_url}?{NO_FSYNC}"
    assert len(state["pre-key"]) == BURST_KEYS
    pre_keys = numbered(state["pre-key"], keys)
    with open_store(url) as store, closing(psycopg.connect(url, autocommit=True)) as conn:

        def bare_write(company: str, values: dict[str, bytes]) -> None:
            stored = [encode(value) for value in values.values()]
            with conn.cursor(binary=True) as cursor:
                cursor.execute(BARE_UPSERT, [company, ["pre-key"] * len(values), list(values), stored])

        def write(company: str, values: dict[str, bytes]) -> None:
            store.set(company, {"pre-key": values})

        found = burst_ratio(benchmark, pre_keys, write, bare_write, into)
        assert store.census().total == 2 * keys * (1 if into == "rewritten" else WARM_UP_ROUNDS + ROUNDS)
    assert found <= (BURST_LIMIT if durable and into != "rewritten" else CPU_LIMIT)


def test_sqlite_load(
    benchmark: BenchmarkFixture, sqlite: Store, sqlite_file: Path, state: dict[str, dict[str, bytes]]
) -> None:
    sqlite.set("one", state)
    with closing(sqlite3.connect(sqlite_file)) as conn:

        def fetch() -> list[tuple[object, ...]]:
            return conn.execute(SQLITE_FETCH, ["one"]).fetchall()

        assert sqlite.load("one").total == len(fetch()) == STATE_KEYS
        assert ratio(benchmark, lambda _: lambda: sqlite.load("one"), lambda _: fetch) <= LOAD_LIMIT


@pytest.mark.parametrize("keys", [1, 20])
def test_sqlite_get(
    benchmark: BenchmarkFixture, sqlite: Store, sqlite_file: Path, state: dict[str, dict[str, bytes]], keys: int
) -> None:
    sqlite.set("one", state)
    ids = list(state["session"])[:keys]
    with closing(sqlite3.connect(sqlite_file)) as conn:

        def fetch() -> list[tuple[object, ...]]:
            return conn.execute(SQLITE_GET, ["one", "session", json.dumps(ids)]).fetchall()

        assert len(sqlite.get("one", "session", ids)) == len(fetch()) == keys
        assert (
            ratio(benchmark, lambda _: lambda: sqlite.get("one", "session", ids), lambda _: fetch) <= SQLITE_GET_LIMIT
        )


def test_sqlite_burst(
    benchmark: BenchmarkFixture, sqlite: Store, sqlite_file: Path, state: dict[str, dict[str, bytes]]
) -> None:
    with closing(sqlite3.connect(sqlite_file)) as conn:
        conn.execute("PRAGMA synchronous = FULL")

        def bare_write(company: str, values: dict[str, bytes]) -> None:
            with conn:
                conn.executemany(
                    SQLITE_UPSERT,
                    [(company, "pre-key", key_id, encode(value), 1, 1, 2) for key_id, value in values.items()],
                )

        def write(company: str, values: dict[str, bytes]) -> None:
            sqlite.set(company, {"pre-key": values})

        assert burst_ratio(benchmark, state["pre-key"], write, bare_write, "growing") <= LOAD_LIMIT
