"""What session rewrites do to the table: the share that stayed in their page, and the pages that a load touches.

A session is rewritten with every message. A rewrite that stays in its page and touches no index (heap-only) leaves a
load as many pages to read as before; one that does not spreads the company's keys over more and more of them.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from time import monotonic, sleep
from typing import Any

import psycopg

from bench.scale.fill import SEED, Connection, company_name, fill
from keystore.opening import open_store
from keystore.postgres.store import STATEMENTS
from rig.baileys_state import real_state

COMPANIES, EACH = 100, 100
THREADS = 4
SAMPLE = 50
"""Companies whose loads are looked at."""

SERIALIZES_FROM = 170_000
"""The server version from which EXPLAIN can count the pages of values that lie outside the row as well."""

UPDATES = """
SELECT coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_hot_upd), 0)::bigint FROM pg_stat_user_tables
WHERE relid IN (SELECT 'whatsapp_keys'::regclass UNION SELECT relid FROM pg_partition_tree('whatsapp_keys'))
"""

OTHERS = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'signal-keystore' AND pid <> pg_backend_pid()
"""
ENDED_TIMEOUT_S, POLL_S = 15.0, 0.02
"""For a closed store's server processes to end; one that stays tells what it did within ten seconds."""

Session = tuple[str, str]
"""A session's company and id."""


@dataclass(frozen=True)
class Rewrites:
    """What rewrites of sessions did; pages are 8 kB, of one load, the median over companies."""

    rewrites: int
    heap_only_percent: float
    pages_before: float
    pages_after: float

    @property
    def ratio(self) -> float:
        """How many times the pages before a load touches after."""
        return round(self.pages_after / self.pages_before, 3)


@dataclass(frozen=True)
class Load:
    """What one load touched, as the server tells it; `plan` is how it found the keys."""

    hit_pages: int
    read_pages: int
    plan: str
    ms: float

    @property
    def pages(self) -> int:
        """Whether they were in the server's memory or not."""
        return self.hit_pages + self.read_pages


def rewrites(url: str, companies: int = COMPANIES, each: int = EACH) -> Rewrites:
    """Fills the empty database at `url` and rewrites `each` sessions of each company, picked at random, in threads.

    All keys are of today, so that no rewrite moves an expiry: what the first rewrite of a day does is in `run.py`.
    """
    with closing(open_store(url)):
        pass  # It makes the tables.
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        filled = fill(conn, companies, 0.0, lambda done, total: None)
        conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")
        sample = sampled(companies)
        before = pages_per_load(conn, sample)
        rng = random.Random(SEED)
        ids = list(real_state()["session"])
        picked = [(company_name(number), rng.choice(ids)) for number in range(companies) for _ in range(each)]
        rng.shuffle(picked)
        heap_only_percent = rewrite(conn, url, filled.ended_at, picked, lambda done, total: None)
        return Rewrites(len(picked), heap_only_percent, before, pages_per_load(conn, sample))


def rewrite(
    conn: Connection, url: str, now: datetime, sessions: Sequence[Session], told: Callable[[int, int], None]
) -> float:
    """Rewrites these sessions through a store whose clock stands at `now`, with values of the same length.

    Several at a time. Returns which share of the updates was heap-only, in percent.
    """
    lengths = {key_id: len(value) for key_id, value in real_state()["session"].items()}
    updates_before, heap_only_before = _updates(conn)
    with closing(open_store(url, clock=lambda: now)) as store, ThreadPoolExecutor(THREADS) as threads:

        def work(number: int) -> None:
            rng = random.Random(SEED + number)
            for done, (company, key_id) in enumerate(sessions[number::THREADS], 1):
                store.set(company, {"session": {key_id: rng.randbytes(lengths[key_id])}})
                if number == 0:
                    told(min(done * THREADS, len(sessions)), len(sessions))

        list(threads.map(work, range(THREADS)))
    updates, heap_only = _updates(conn)
    return round(100 * (heap_only - heap_only_before) / max(updates - updates_before, 1), 2)


def _updates(conn: Connection) -> tuple[int, int]:
    """All updates so far, and the heap-only ones. A server process tells its last ones when it ends: waits for that."""
    give_up_at = monotonic() + ENDED_TIMEOUT_S
    while conn.execute(OTHERS).fetchall() and monotonic() < give_up_at:
        sleep(POLL_S)
    ((updates, heap_only),) = conn.execute(UPDATES).fetchall()
    return updates, heap_only


def sampled(companies: int) -> list[str]:
    """The ids of so many companies' sample: at random, always the same."""
    return [company_name(number) for number in random.Random(SEED).sample(range(companies), min(SAMPLE, companies))]


def pages_per_load(conn: Connection, companies: Sequence[str]) -> float:
    """The pages that a load touches: the median over these companies."""
    return median(explained_load(conn, company).pages for company in companies)


def explained_load(conn: Connection, company: str) -> Load:
    """What the store's own statement touches."""
    serialize = ", SERIALIZE BINARY" if conn.info.server_version >= SERIALIZES_FROM else ""
    statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON{serialize}) {STATEMENTS['load']}"
    ((((document,)),),) = conn.execute(statement.encode(), {"company_id": company}).fetchall()
    plan, sent = document["Plan"], document.get("Serialization", {})
    hit, read = (plan[f"Shared {what} Blocks"] + sent.get(f"Shared {what} Blocks", 0) for what in ("Hit", "Read"))
    return Load(hit, read, _reading_keys(plan), document["Execution Time"])


def _reading_keys(plan: dict[str, Any]) -> str:
    """How a plan reads whatsapp_keys: its node."""
    if str(plan.get("Relation Name", "")).startswith("whatsapp_keys"):
        return str(plan["Node Type"])
    return next(filter(None, map(_reading_keys, plan.get("Plans", []))), "")
