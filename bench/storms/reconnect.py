"""The reconnect storm: 8 threads reconnect companies one after another, through the store and through bare psycopg.

Both do the same in turn, on the same rows of one database, and are asked for the same: creds and all keys are read, a
burst is written together with the creds. The bare side has a connection for each thread and one statement for each of
the two, which psycopg prepares; it splits nothing by type, counts nothing and checks nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import psycopg

from bench.storms.companies import at_once, burst, driver_errors_told, fill, reconnect
from keystore.codec import encode
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.store import Store
from monitor.alerts.samples import percentile_95
from rig.baileys_state import BURST_KEYS, STATE_KEYS

RATIO_LIMIT = 0.6
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

Connection = psycopg.Connection[tuple[Any, ...]]
Reconnect = Callable[[str], int]
"""Reconnects a company; how many keys it read."""


@dataclass(frozen=True)
class ReconnectStorm:
    """Companies reconnected a second, the store's over the bare driver's; medians of rounds in turn."""

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
    def met(self) -> bool:
        """Whether the store keeps up with the bare driver as it should."""
        return self.ratio >= RATIO_LIMIT


@dataclass(frozen=True)
class _Side:
    """One of the two: a way to reconnect for each thread, and what its rounds took."""

    ways: list[Reconnect]
    per_s: list[float]
    took_ms: list[float]


def reconnect_storm(
    url: str, companies: int = COMPANIES, threads: int = THREADS, rounds: int = ROUNDS
) -> ReconnectStorm:
    """The storm on an empty database. Raises KeystoreError."""
    with driver_errors_told(), ExitStack() as stack:
        store = stack.enter_context(open_store(url))
        names = fill(store, url, companies)
        conns = [stack.enter_context(closing(psycopg.connect(url, autocommit=True))) for _ in range(threads)]
        ours = _Side([partial(_reconnect, store)] * threads, [], [])
        bare = _Side([partial(_reconnect_bare, conn) for conn in conns], [], [])
        for number in range(1 + rounds):
            for side in (ours, bare) if number % 2 else (bare, ours):
                took_s, took_ms = _round(side.ways, names)
                _forget_bursts(conns[0], companies)
                if number:  # The first opens connections, and has the bare statements prepared.
                    side.per_s.append(companies / took_s)
                    side.took_ms.extend(took_ms)
    store_per_s, bare_per_s = median(ours.per_s), median(bare.per_s)
    return ReconnectStorm(
        threads=threads,
        companies=companies,
        rounds=rounds,
        store_per_s=round(store_per_s, 1),
        bare_per_s=round(bare_per_s, 1),
        ratio=round(store_per_s / bare_per_s, 3),
        store_p50_ms=round(median(ours.took_ms), 2),
        store_p95_ms=round(percentile_95(ours.took_ms), 2),
        bare_p50_ms=round(median(bare.took_ms), 2),
        bare_p95_ms=round(percentile_95(bare.took_ms), 2),
    )


def _round(ways: list[Reconnect], names: list[str]) -> tuple[float, list[float]]:
    """Every company reconnected once, each thread its share of them; seconds in all, and milliseconds of each."""

    def share(way: Reconnect, first: int) -> list[float]:
        took_ms = []
        for name in names[first :: len(ways)]:
            began = perf_counter()
            keys = way(name)
            took_ms.append((perf_counter() - began) * 1000)
            if keys != STATE_KEYS:
                raise KeystoreError(f"{name}: {keys} keys read of {STATE_KEYS}")
        return took_ms

    took_s, shares = at_once([partial(share, way, first) for first, way in enumerate(ways)])
    return took_s, [ms for took_ms in shares for ms in took_ms]


def _reconnect(store: Store, company: str) -> int:
    return reconnect(store, company).total


def _reconnect_bare(conn: Connection, company: str) -> int:
    with conn.cursor(binary=True) as cursor:
        rows = cursor.execute(BARE_LOAD, {"company": company}).fetchall()
        creds = next(value for key_type, _, value in rows if key_type is None)
        values = burst()
        written = {
            "company": company,
            "creds": creds,
            "types": ["pre-key"] * len(values),
            "ids": list(values),
            "values": [*map(encode, values.values())],
        }
        cursor.execute(BARE_BURST, written)
        return len(rows) - 1


def _forget_bursts(conn: Connection, companies: int) -> None:
    """Deletes a round's bursts, so that each round finds the same; raises KeystoreError when one isn't there."""
    deleted = conn.execute(FORGET_BURSTS, [list(burst())]).rowcount
    if deleted != companies * BURST_KEYS:
        raise KeystoreError(f"{deleted} keys were written of {companies * BURST_KEYS}")
    conn.execute("VACUUM whatsapp_keys")
