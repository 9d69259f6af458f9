"""The cost of distance to the database: a load and a reconnect at 0, 20, 50 and 100 ms of round trip.

Behind the same relay and in turn with them, a load is timed as the original operator's bots did it: one query for the
creds and one for each key type, with values as `jsonb`. Both read the 665 keys of that operator's demo data. A
reconnect reads everything and writes a burst of 250 pre-keys.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from statistics import median

import psycopg
from msgspec import Struct
from psycopg.types.json import Jsonb

from bench.command import OWN_SERVER, Command, Outcome, in_range, server_at, with_verdict
from bench.limits import VERDICTS, Limit, Target
from bench.measuring import Connection, Progress, no_progress, timed_ms
from keystore.opening import open_store
from keystore.store import Store
from monitor.running.progress import progress_bar
from monitor.upkeep.demo import demo_creds, demo_rows, seed
from rig.baileys_state import BURST_KEYS, pre_keys
from rig.postgres_server import database_on
from rig.relay import Relay, relay_to

EPILOG = """
Without --url it runs a Postgres of its own. With it, it makes a database on that server, and drops it again.
Exits with 1 when a load takes more than 1 round trip + 15 ms, or a reconnect more than 2 round trips + 30 ms or 750 ms.
"""

ROUND_TRIPS_MS = (0.0, 20.0, 50.0, 100.0)
ROUNDS = 5

LOAD_ROUND_TRIPS, RECONNECT_ROUND_TRIPS = Limit(1, "round trip"), Limit(2, "round trips")
LOAD_ALLOWANCE_MS, RECONNECT_ALLOWANCE_MS = 15.0, 30.0
"""The time beyond the round trips that a load and a reconnect may take."""

RECONNECT_BUDGET = Limit(750, "ms")
"""The limit of the original operator for a reconnect."""

LONGEST_MS = 300.0
"""The longest round trip at which two of them fit into the budget of a reconnect."""

COMPANY = "79990000000"
FIRST_ID = 100_000
"""The first id of the bursts, after the ids of the demo data."""

LEGACY_TABLES = """
CREATE SCHEMA legacy;
CREATE TABLE legacy.whatsapp_auth (company_id text PRIMARY KEY, creds jsonb NOT NULL);
CREATE TABLE legacy.whatsapp_keys (company_id text, key_type text, key_id text, value jsonb NOT NULL,
    PRIMARY KEY (company_id, key_type, key_id));
"""


class Took(Struct, frozen=True):
    """The median time of one operation, and the most round trips that it needed in any round."""

    ms: float
    round_trips: int

    def __str__(self) -> str:
        """The time and the round trips, as tables show them."""
        return f"{self.ms:,.1f} ms in {self.round_trips}"

    def target(self, act: str, place: str, time_limit: Limit, round_trips: Limit) -> Target:
        """The time and the round trips of this act, held to their limits."""
        checks = (self.ms, time_limit), (self.round_trips, round_trips)
        return Target.judged(f"{act}_far", f"{act}, {place}", str(self), *checks)


class Distance(Struct, frozen=True):
    """The figures at one round-trip time; `diary_load` is the load as the original operator's bots did it."""

    round_trip_ms: float
    load: Took
    reconnect: Took
    diary_load: Took

    @property
    def acts(self) -> dict[str, Took]:
        """The acts by the name that tables and charts show."""
        return {"load": self.load, "reconnect": self.reconnect, "legacy load": self.diary_load}

    @property
    def targets(self) -> tuple[Target, Target]:
        """The limits for a load and for a reconnect at this distance."""
        place = f"database {self.round_trip_ms:g} ms away"
        load_limit = Limit(self.round_trip_ms + LOAD_ALLOWANCE_MS, "ms")
        reconnect_ms = min(2 * self.round_trip_ms + RECONNECT_ALLOWANCE_MS, RECONNECT_BUDGET.value)
        return (
            self.load.target("load", place, load_limit, LOAD_ROUND_TRIPS),
            self.reconnect.target("reconnect", place, Limit(reconnect_ms, "ms"), RECONNECT_ROUND_TRIPS),
        )

    @property
    def met(self) -> bool:
        """True if load and reconnect keep to their limits."""
        return all(target.met for target in self.targets)


def measure(
    url: str, round_trips_ms: Sequence[float] = ROUND_TRIPS_MS, rounds: int = ROUNDS, progress: Progress = no_progress
) -> list[Distance]:
    """The figures at each distance from the server at `url`, in a database made for them."""
    with database_on(url, "bench_distance") as database, closing(open_store(database)) as store:
        seed(store, COMPANY)
        _fill_legacy_tables(database)
        distances = []
        for done, round_trip_ms in enumerate(round_trips_ms):
            progress(done, len(round_trips_ms))
            with relay_to(database, round_trip_ms / 1000) as relay:
                distances.append(_measure_behind(relay, database, round_trip_ms, rounds))
        return distances


def _fill_legacy_tables(url: str) -> None:
    """Write the same creds and keys into the original operator's tables."""
    rows = [(COMPANY, row.key_type, row.key_id, Jsonb(json.loads(row.value))) for row in demo_rows(datetime.now(UTC))]
    with psycopg.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(LEGACY_TABLES)
        creds = Jsonb(json.loads(demo_creds()))
        cursor.execute("INSERT INTO legacy.whatsapp_auth (company_id, creds) VALUES (%s, %s)", [COMPANY, creds])
        cursor.executemany("INSERT INTO legacy.whatsapp_keys VALUES (%s, %s, %s, %s)", rows)


def _measure_behind(relay: Relay, url: str, round_trip_ms: float, rounds: int) -> Distance:
    far = relay.url(url)
    with closing(open_store(far)) as store, psycopg.connect(far, autocommit=True, prepare_threshold=None) as legacy:
        loads, reconnects, legacy_loads = [], [], []
        # This also opens the connection, which a service has done long before.
        key_types = list(store.load(COMPANY).keys)
        for number in range(rounds):
            loads.append(_timed(relay, lambda: store.load(COMPANY)))
            legacy_loads.append(_timed(relay, lambda: _legacy_load(legacy, key_types)))
            burst = pre_keys(first=FIRST_ID + number * BURST_KEYS)
            reconnects.append(_timed(relay, partial(_reconnect, store, burst)))
            store.set(COMPANY, {"pre-key": dict.fromkeys(burst)})
        return Distance(round_trip_ms, _median(loads), _median(reconnects), _median(legacy_loads))


def _reconnect(store: Store, burst: dict[str, bytes]) -> None:
    state = store.load(COMPANY)
    store.set(COMPANY, {"pre-key": burst}, creds=state.creds)


def _legacy_load(conn: Connection, key_types: list[str]) -> None:
    conn.execute("SELECT creds FROM legacy.whatsapp_auth WHERE company_id = %s", [COMPANY]).fetchall()
    for key_type in key_types:
        conn.execute(
            "SELECT key_id, value FROM legacy.whatsapp_keys WHERE company_id = %s AND key_type = %s",
            [COMPANY, key_type],
        ).fetchall()


def _timed(relay: Relay, act: Callable[[], object]) -> Took:
    before = relay.round_trips
    return Took(timed_ms(act), relay.round_trips - before)


def _median(rounds: list[Took]) -> Took:
    return Took(round(median(took.ms for took in rounds), 1), max(took.round_trips for took in rounds))


def main(args: Sequence[str] | None = None) -> int:
    """Measure at the distances of the command line; return 1 if a limit is missed or the server can't be used."""
    command = Command("bench.distance", __doc__, EPILOG, url=OWN_SERVER)
    distance = in_range(float, 0, LONGEST_MS)
    times = "round-trip times (0 20 50 100)"
    command.add_argument("--ms", type=distance, nargs="+", default=ROUND_TRIPS_MS, metavar="MS", help=times)
    command.add_number("--rounds", ROUNDS, "rounds per distance")
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with server_at(options.url) as server, progress_bar("distances") as progress:
        distances = measure(server, options.ms, options.rounds, progress)
    lines = [
        "Medians, each with its number of round trips:\n",
        f"{'round-trip time':>15}{'load':>23}{'reconnect':>23}{'legacy load':>23}   limits",
    ]
    for distance in distances:
        times = "".join(f"{took!s:>23}" for took in distance.acts.values())
        lines.append(f"{distance.round_trip_ms:>12g} ms{times}   {VERDICTS[distance.met]}")
    met = all(distance.met for distance in distances)
    return Outcome("\n".join(lines), [with_verdict(distance, distance.met) for distance in distances], met)


if __name__ == "__main__":
    sys.exit(main())
