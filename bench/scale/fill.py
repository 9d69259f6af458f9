"""Fills a database with companies, each with the 721 real keys, in the order in which keys arrive at a running store.

The order of arrival decides which keys share pages, and so the number of pages that a load reads. The pre-keys of a
company come as one burst and lie together. Its other keys come one by one, between the keys of all other companies. So
the arrivals of all companies are shuffled, and copied in that order; the table looks like a running store's.

A batch and the note of its progress are one transaction, so after a kill at any moment the next run continues.
"""

import random
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter

from msgspec import Struct

from bench.measuring import Connection, Progress
from keystore.errors import KeystoreError
from keystore.ttl import DIARY, expires_at
from keystore.values.codec import encode
from monitor.upkeep.demo import demo_creds
from rig.baileys_state import STATE_KEYS, real_keys

SEED = 20251008
FIRST_COMPANY = 79_000_000_000
BATCH_ARRIVALS = 10_000
LEAST_BATCHES = 100
"""The smallest number of batches, so that the arrivals of few companies have different times too."""

COPIED_TYPES = ("text", "text", "text", "bytea", "timestamptz", "timestamptz", "timestamptz")

TABLE = """
CREATE TABLE IF NOT EXISTS bench_fill (
    companies bigint NOT NULL, days double precision NOT NULL, ended_at timestamptz NOT NULL,
    arrivals_done bigint NOT NULL, took_s double precision NOT NULL
)
"""

NOTE = "SELECT companies, days, ended_at, arrivals_done, took_s FROM bench_fill"

Key = tuple[str, str, bytes]
"""A key's type, its id, and its value as it is stored."""


class Filled(Struct, frozen=True):
    """A filled database. Its last key arrived at `ended_at`; measurements set their store's clock to that time."""

    keys: int
    ended_at: datetime
    took_s: float


def company_name(number: int) -> str:
    """The id of the company with this number."""
    return str(FIRST_COMPANY + number)


def fill(conn: Connection, companies: int, days: float, progress: Progress) -> Filled:
    """Copy the missing keys into a store's tables, with arrivals spread over the last `days` days.

    `conn` is in autocommit. Raises KeystoreError if another filling was begun here, or if other keys are in the tables.
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
            progress(done, total)
        conn.execute("UPDATE bench_fill SET took_s = %s", [took_s])
    return Filled(companies * STATE_KEYS, ended_at, took_s)


def _slots() -> list[list[Key]]:
    """The arrivals of one company, each a list of keys that come together: all pre-keys, then every other key."""
    burst = [("pre-key", key_id, encode(value)) for key_id, value in sorted(real_keys()["pre-key"].items())]
    others = [
        [(key_type, key_id, encode(value))]
        for key_type, keys in real_keys().items()
        if key_type != "pre-key"
        for key_id, value in keys.items()
    ]
    return [burst, *others]


def _copy(conn: Connection, slots: list[list[Key]], arrivals: Sequence[int], at: datetime) -> None:
    """Copy one batch, all with the same time; creds come with the burst, as when a company is paired."""
    expiries = {key_type: expires_at(DIARY, key_type, at) for key_type in real_keys()}
    paired = []
    statement = (
        "COPY whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at) "
        "FROM STDIN (FORMAT binary)"
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(COPIED_TYPES)
        for number, slot in (divmod(arrival, len(slots)) for arrival in arrivals):
            company = company_name(number)
            if slot == 0:
                paired.append(company)
            for key_type, key_id, value in slots[slot]:
                copy.write_row((company, key_type, key_id, value, at, at, expiries[key_type]))
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES (%s, %s, %s, %s)",
            [(company, encode(demo_creds()), at, at) for company in paired],
        )
