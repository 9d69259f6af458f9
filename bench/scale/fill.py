"""Fills a database with as many companies as asked for, each with the 721 real keys, in the order in which they arrive.

What lies beside what on disk decides how many pages a load reads, and it is arrival that decides that: a company's
pre-keys come as one burst and lie together, everything else comes one by one, between the keys of all other companies.
So the arrivals of all companies are shuffled, and copied in that order. That is as a running store's table looks, and
not as one that was loaded company by company.

A batch and the note of how far it got are one transaction: after a kill, at whatever moment, the next run goes on.
"""

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import psycopg

from keystore.codec import encode
from keystore.errors import KeystoreError
from keystore.ttl import DIARY, expires_at
from monitor.upkeep.demo import demo_creds
from rig.baileys_state import STATE_KEYS, real_state

SEED = 20251008
FIRST_COMPANY = 79_000_000_000
BATCH_ARRIVALS = 10_000
LEAST_BATCHES = 100
"""Of any filling, so that arrivals of a few companies too have different times."""

COPIED_TYPES = ("text", "text", "text", "bytea", "timestamptz", "timestamptz", "timestamptz")

TABLE = """
CREATE TABLE IF NOT EXISTS bench_fill (
    companies bigint NOT NULL, days double precision NOT NULL, ended_at timestamptz NOT NULL,
    arrivals_done bigint NOT NULL, took_s double precision NOT NULL
)
"""

NOTE = "SELECT companies, days, ended_at, arrivals_done, took_s FROM bench_fill"

Connection = psycopg.Connection[tuple[Any, ...]]
Key = tuple[str, str, bytes]
"""Type, id, and the value as it is stored."""


@dataclass(frozen=True)
class Filled:
    """A filled database. `ended_at` is when its last key arrived: measurements set their store's clock to it."""

    companies: int
    keys: int
    ended_at: datetime
    took_s: float


def company_name(number: int) -> str:
    """The id of a company, from its number."""
    return str(FIRST_COMPANY + number)


def fill(conn: Connection, companies: int, days: float, told: Callable[[int, int], None]) -> Filled:
    """Copies what isn't there yet into a store's empty tables, the arrivals spread over so many days up to now.

    `conn` is in autocommit. Raises KeystoreError where another filling was begun, or keys of somebody else's are.
    """
    conn.execute(TABLE)
    noted = conn.execute(NOTE).fetchall()
    if not noted:
        if conn.execute("SELECT 1 FROM whatsapp_keys LIMIT 1").fetchall():
            raise KeystoreError("there are keys in this database that no filling wrote; give an empty one")
        conn.execute("INSERT INTO bench_fill VALUES (%s, %s, %s, 0, 0)", [companies, days, datetime.now(UTC)])
        noted = conn.execute(NOTE).fetchall()
    ((begun_companies, begun_days, ended_at, done, took_s),) = noted
    if (begun_companies, begun_days) != (companies, days):
        raise KeystoreError(f"a filling of {begun_companies:,} companies over {begun_days:g} days was begun here")
    ended_at = ended_at.astimezone(UTC)
    slots = _slots()
    total = companies * len(slots)
    if done < total:
        order = array("I", range(total))
        random.Random(SEED).shuffle(order)
        size = min(BATCH_ARRIVALS, -(-total // LEAST_BATCHES))
        while done < total:
            began, end = perf_counter(), min(done + size, total)
            at = ended_at - timedelta(days=days) * (1 - end / total)
            with conn.transaction():
                _copy(conn, slots, order[done:end], at)
                conn.execute("UPDATE bench_fill SET arrivals_done = %s, took_s = %s", [end, took_s])
            took_s += perf_counter() - began
            done = end
            told(done, total)
        conn.execute("UPDATE bench_fill SET took_s = %s", [took_s])
    return Filled(companies, companies * STATE_KEYS, ended_at, took_s)


def _slots() -> list[list[Key]]:
    """What arrives for a company, and together: all its pre-keys first, then each other key."""
    burst = [("pre-key", key_id, encode(value)) for key_id, value in sorted(real_state()["pre-key"].items())]
    others = [
        [(key_type, key_id, encode(value))]
        for key_type, keys in real_state().items()
        if key_type != "pre-key"
        for key_id, value in keys.items()
    ]
    return [burst, *others]


def _copy(conn: Connection, slots: list[list[Key]], arrivals: Sequence[int], at: datetime) -> None:
    """One batch, of one time; creds come with the burst, as when a company is paired."""
    expiries = {key_type: expires_at(DIARY, key_type, at) for key_type in real_state()}
    paired = []
    statement = (
        "COPY whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at) "
        "FROM STDIN (FORMAT binary)"
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(COPIED_TYPES)
        for company, keys in _told_apart(slots, arrivals):
            if len(keys) > 1:
                paired.append(company)
            for key_type, key_id, value in keys:
                copy.write_row((company, key_type, key_id, value, at, at, expiries[key_type]))
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES (%s, %s, %s, %s)",
            [(company, encode(demo_creds()), at, at) for company in paired],
        )


def _told_apart(slots: list[list[Key]], arrivals: Sequence[int]) -> Iterator[tuple[str, list[Key]]]:
    for arrival in arrivals:
        company, slot = divmod(arrival, len(slots))
        yield company_name(company), slots[slot]
