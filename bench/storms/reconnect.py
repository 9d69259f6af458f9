"""The reconnect storm: 8 threads reconnect companies one after another, through the store and through psycopg alone.

Both sides take turns and do the same on the same rows of one database: they read creds and all keys, and write a burst
together with the creds. The side of psycopg alone has a connection for each thread, and one statement for the read and
one for the write, which psycopg prepares. It groups no keys by type, counts nothing and checks nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from statistics import median

import psycopg
from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import Connection, percentile, timed
from bench.storms.companies import at_once, burst, fill, reconnect
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.values.codec import encode
from rig.baileys_state import BURST_KEYS, STATE_KEYS

RATIO_LIMIT = Limit(0.6, "× psycopg alone", at_least=True)
THREADS = 8
COMPANIES = 160
ROUNDS = 9

BARE_LOAD = """
SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %(company)s
UNION ALL SELECT NULL, NULL, creds FROM whatsapp_auth WHERE company_id = %(company)s
"""

BARE_BURST = """
WITH paired AS (
    INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES (%(company)s, %(creds)s, now(), now())
    ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at
)
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT %(company)s, t, i, v, now(), now(), date_trunc('day', now()) + interval '8 days'
FROM unnest(%(types)s::text[], %(ids)s::text[], %(values)s::bytea[]) AS r (t, i, v)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
"""

FORGET_BURSTS = "DELETE FROM whatsapp_keys WHERE key_type = 'pre-key' AND key_id = ANY (%s)"

Reconnect = Callable[[str], int]
"""Reconnects a company and returns the number of keys that it read."""


class ReconnectStorm(Struct, frozen=True):
    """Companies reconnected a second by the store and by psycopg alone (`bare`), and their ratio; medians of rounds."""

    threads: int
    companies: int
    rounds: int
    store_per_s: float
    bare_per_s: float
    ratio: float
    store_p50_ms: float
    store_p95_ms: float
    bare_p50_ms: float
    bare_p95_ms: float

    @property
    def target(self) -> Target:
        """The limit for the ratio."""
        shown = f"{self.ratio:.2f} × ({self.store_per_s:,.0f} companies a second)"
        what = f"companies reconnected by {self.threads} threads"
        return Target.judged("reconnect_storm", what, shown, (self.ratio, RATIO_LIMIT))


Side = tuple[list[Reconnect], list[float], list[float]]
"""A way to reconnect for each thread; the companies a second of each round; the milliseconds of each reconnect."""


def reconnect_storm(
    url: str, companies: int = COMPANIES, threads: int = THREADS, rounds: int = ROUNDS
) -> ReconnectStorm:
    """Run the storm on an empty database. Raises KeystoreError."""
    with ExitStack() as stack:
        store = stack.enter_context(open_store(url))
        names = fill(store, url, companies)
        conns = [stack.enter_context(closing(psycopg.connect(url, autocommit=True))) for _ in range(threads)]
        store_side: Side = [lambda company: reconnect(store, company).total] * threads, [], []
        bare_side: Side = [partial(_reconnect_bare, conn) for conn in conns], [], []
        for number in range(1 + rounds):
            for ways, per_s, took_ms in (store_side, bare_side) if number % 2 else (bare_side, store_side):
                round_s, round_ms = _round(ways, names)
                _forget_bursts(conns[0], companies)
                if number:  # The first round opens connections and prepares statements.
                    per_s.append(companies / round_s)
                    took_ms += round_ms
    (_, store_rounds, store_ms), (_, bare_rounds, bare_ms) = store_side, bare_side
    store_per_s, bare_per_s = median(store_rounds), median(bare_rounds)
    speeds = round(store_per_s, 1), round(bare_per_s, 1), round(store_per_s / bare_per_s, 3)
    p50_p95_ms = [round(ms, 2) for took in (store_ms, bare_ms) for ms in (median(took), percentile(took, 0.95))]
    return ReconnectStorm(threads, companies, rounds, *speeds, *p50_p95_ms)


def _round(ways: list[Reconnect], names: list[str]) -> tuple[float, list[float]]:
    """Reconnect every company once, each thread a share; return the seconds in all and the milliseconds of each."""

    def share(way: Reconnect, first: int) -> list[float]:
        took_ms = []
        for name in names[first :: len(ways)]:
            keys, ms = timed(partial(way, name))
            took_ms.append(ms)
            if keys != STATE_KEYS:
                raise KeystoreError(f"{name}: {keys} keys read of {STATE_KEYS}")
        return took_ms

    took_s, shares = at_once([partial(share, way, first) for first, way in enumerate(ways)])
    return took_s, [ms for took_ms in shares for ms in took_ms]


def _reconnect_bare(conn: Connection, company: str) -> int:
    with conn.cursor(binary=True) as cursor:
        rows = cursor.execute(BARE_LOAD, {"company": company}).fetchall()
        creds = next(value for key_type, _, value in rows if key_type is None)
        types, ids, values = ["pre-key"] * len(burst()), list(burst()), [*map(encode, burst().values())]
        written = {"company": company, "creds": creds, "types": types, "ids": ids, "values": values}
        cursor.execute(BARE_BURST, written)
        return len(rows) - 1


def _forget_bursts(conn: Connection, companies: int) -> None:
    """Delete the bursts of a round, so that all rounds are alike. Raises KeystoreError if a key is missing."""
    deleted = conn.execute(FORGET_BURSTS, [list(burst())]).rowcount
    if deleted != companies * BURST_KEYS:
        raise KeystoreError(f"{deleted} keys were written of {companies * BURST_KEYS}")
    conn.execute("VACUUM whatsapp_keys")
