"""What distance to the database costs: a load and a reconnect at 0, 20, 50 and 100 ms of round trip.

Beside them, in turn behind the same relay, a load as the diary's adapter did it: one question for the creds, one for
each key type, values as `jsonb`. Both read the 665 keys of the diary's Day 0. A reconnect reads everything and writes a
burst of 250 pre-keys.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from bench.command import errors_in_one_line
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.store import Store
from monitor.running.progress import progress_bar
from monitor.upkeep.demo import demo_creds, demo_rows, seed
from rig.postgres_server import database_on
from rig.relay import Relay, relay_to

EPILOG = """
It makes a database of its own on a Postgres server, and drops it again; for example:
  docker run --rm -e POSTGRES_PASSWORD=bench -p 127.0.0.1:5433:5432 postgres:18
  python -m bench.distance --url postgresql://postgres:bench@127.0.0.1:5433/postgres
Exits with 1 when a load takes more than 1 round trip + 15 ms, or a reconnect more than 2 round trips + 30 ms or 750 ms.
"""

ROUND_TRIPS_MS = (0.0, 20.0, 50.0, 100.0)
ROUNDS = 5
BURST_KEYS = 250
"""What a reconnect writes."""

LOAD_ALLOWANCE_MS, RECONNECT_ALLOWANCE_MS = 15.0, 30.0
"""Beside one round trip and two."""

RECONNECT_BUDGET_MS = 750.0
"""The diary's."""

LONGEST_MS = 300.0
"""Of a round trip: beyond it the diary's budget of a reconnect can't be kept by two."""

COMPANY = "79990000000"
FIRST_ID = 100_000

DIARYS_TABLES = """
CREATE SCHEMA diary;
CREATE TABLE diary.whatsapp_auth (company_id text PRIMARY KEY, creds jsonb NOT NULL);
CREATE TABLE diary.whatsapp_keys (company_id text, key_type text, key_id text, value jsonb NOT NULL,
    PRIMARY KEY (company_id, key_type, key_id));
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Took:
    """The median of one act, and how often it waited for an answer (the most of any round)."""

    ms: float
    round_trips: int


@dataclass(frozen=True)
class Distance:
    """The figures at one round-trip time; milliseconds."""

    round_trip_ms: float
    load: Took
    reconnect: Took
    diary_load: Took

    @property
    def met(self) -> bool:
        """Whether load and reconnect keep to their limits."""
        reconnect_limit_ms = min(2 * self.round_trip_ms + RECONNECT_ALLOWANCE_MS, RECONNECT_BUDGET_MS)
        return self.load.ms <= self.round_trip_ms + LOAD_ALLOWANCE_MS and self.reconnect.ms <= reconnect_limit_ms


def measure(url: str, round_trips_ms: Sequence[float], rounds: int, told: Callable[[int, int], None]) -> list[Distance]:
    """The figures at each distance from the server at `url`, in a database made for it. Raises KeystoreError."""
    try:
        with database_on(url, "bench_distance") as ours, closing(open_store(ours)) as store:
            seed(store, COMPANY)
            _fill_diarys(ours)
            distances = []
            for done, round_trip_ms in enumerate(round_trips_ms):
                told(done, len(round_trips_ms))
                with relay_to(ours, round_trip_ms / 1000) as relay:
                    distances.append(_at(relay, ours, round_trip_ms, rounds))
            return distances
    except psycopg.Error as error:
        raise KeystoreError(f"the server can't be used: {type(error).__name__}; look at --url") from error


def _fill_diarys(url: str) -> None:
    """The same creds and keys in the diary's tables."""
    rows = [(COMPANY, row.key_type, row.key_id, Jsonb(json.loads(row.value))) for row in demo_rows(datetime.now(UTC))]
    with psycopg.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(DIARYS_TABLES)
        creds = Jsonb(json.loads(demo_creds()))
        cursor.execute("INSERT INTO diary.whatsapp_auth (company_id, creds) VALUES (%s, %s)", [COMPANY, creds])
        cursor.executemany("INSERT INTO diary.whatsapp_keys VALUES (%s, %s, %s, %s)", rows)


def _at(relay: Relay, url: str, round_trip_ms: float, rounds: int) -> Distance:
    far = relay.url(url)
    with closing(open_store(far)) as store, psycopg.connect(far, autocommit=True, prepare_threshold=None) as diarys:
        loads, reconnects, diary_loads = [], [], []
        key_types = list(store.load(COMPANY).keys)  # It opens the connection too, as a service has done long before.
        for number in range(rounds):
            loads.append(_timed(relay, lambda: store.load(COMPANY)))
            diary_loads.append(_timed(relay, lambda: _load_as_the_diary(diarys, key_types)))
            burst = _burst(number)
            reconnects.append(_timed(relay, partial(_reconnect, store, burst)))
            store.set(COMPANY, {"pre-key": dict.fromkeys(burst)})
        return Distance(round_trip_ms, _median(loads), _median(reconnects), _median(diary_loads))


def _burst(number: int) -> dict[str, bytes]:
    """New pre-keys, after those of the data set and of the rounds before."""
    first = FIRST_ID + number * BURST_KEYS
    value = json.dumps({end: {"type": "Buffer", "data": "A" * 44} for end in ("private", "public")}).encode()
    return {str(key_id): value for key_id in range(first, first + BURST_KEYS)}


def _reconnect(store: Store, burst: dict[str, bytes]) -> None:
    state = store.load(COMPANY)
    store.set(COMPANY, {"pre-key": burst}, creds=state.creds)


def _load_as_the_diary(conn: Connection, key_types: list[str]) -> None:
    conn.execute("SELECT creds FROM diary.whatsapp_auth WHERE company_id = %s", [COMPANY]).fetchall()
    for key_type in key_types:
        conn.execute(
            "SELECT key_id, value FROM diary.whatsapp_keys WHERE company_id = %s AND key_type = %s",
            [COMPANY, key_type],
        ).fetchall()


def _timed(relay: Relay, act: Callable[[], object]) -> Took:
    before, began = relay.round_trips, perf_counter()
    act()
    return Took((perf_counter() - began) * 1000, relay.round_trips - before)


def _median(rounds: list[Took]) -> Took:
    return Took(round(median(took.ms for took in rounds), 1), max(took.round_trips for took in rounds))


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for; 1 when a limit is missed or the server can't be used."""
    parser = argparse.ArgumentParser(
        "python -m bench.distance",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", required=True, help="a Postgres server's address, of a role that may make databases")
    parser.add_argument(
        "--ms", type=float, nargs="+", default=ROUND_TRIPS_MS, metavar="MS", help="round-trip times (0 20 50 100)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of which the median counts ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(args)
    if not given.url.startswith(("postgresql://", "postgres://")):
        parser.error("--url is a PostgreSQL address: postgresql://user:password@host:5432/database")
    if given.rounds < 1 or not all(0 <= ms <= LONGEST_MS for ms in given.ms):
        parser.error(f"--rounds is 1 or more, and each of --ms from 0 to {LONGEST_MS:,}")
    if given.json:
        given.json.touch()  # Before the work, not after it.
    with progress_bar("distances") as told:
        distances = measure(given.url, given.ms, given.rounds, told)
    if given.json:
        figures = [asdict(one) | {"met": one.met} for one in distances]
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _print(distances)
    return 0 if all(one.met for one in distances) else 1


def _print(distances: list[Distance]) -> None:
    print("Medians, and in how many round trips:\n")
    print(f"{'round-trip time':>15}{'load':>23}{'reconnect':>23}{'load, as the diary did':>26}   limits")
    for one in distances:
        acts = f"{_told(one.load):>23}{_told(one.reconnect):>23}{_told(one.diary_load):>26}"
        print(f"{one.round_trip_ms:>12g} ms{acts}   {'met' if one.met else 'MISSED'}")


def _told(took: Took) -> str:
    return f"{took.ms:,.1f} ms in {took.round_trips}"


if __name__ == "__main__":
    sys.exit(main())
