"""The effect of session rewrites on the table: the share of heap-only updates, and the pages that a load touches.

A session is rewritten with every message. After a rewrite that stays in its page and touches no index (heap-only), a
load reads as many pages as before. Other rewrites spread the company's keys over more and more pages.
"""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from statistics import median
from time import monotonic, sleep
from typing import Any

import psycopg
from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import Connection, Progress, no_progress
from bench.scale.fill import SEED, company_name, fill
from keystore.opening import open_store
from keystore.postgres.statements import STATEMENTS
from keystore.ttl import DIARY
from rig.baileys_state import real_keys

COMPANIES, EACH = 100, 100
THREADS = 4
SAMPLE = 50
"""The number of companies whose loads are explained."""

HEAP_ONLY_LIMIT, PAGES_LIMIT = Limit(99, "%", at_least=True), Limit(1.05, "× before")

SERIALIZES_FROM = 170_000
"""The server version from which EXPLAIN can also count the pages of values outside the row."""

UPDATES = """
SELECT coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_hot_upd), 0)::bigint FROM pg_stat_user_tables
WHERE relid IN (SELECT 'whatsapp_keys'::regclass UNION SELECT relid FROM pg_partition_tree('whatsapp_keys'))
"""

OTHERS = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'signal-keystore' AND pid <> pg_backend_pid()
"""
ENDED_TIMEOUT_S, POLL_S = 15.0, 0.02
"""The time for the server processes of a closed store to end; one that stays reports its updates within 10 s."""

Session = tuple[str, str]
"""A session's company and id."""


class Rewrites(Struct, frozen=True):
    """The effect of session rewrites. Pages of 8 kB that one load touches are medians over companies."""

    rewrites: int
    heap_only_percent: float
    pages_before: float
    pages_after: float

    @property
    def ratio(self) -> float:
        """The pages that a load touches after the rewrites, as a multiple of those before."""
        return round(self.pages_after / self.pages_before, 3)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The limits for the share of heap-only updates, and for the pages of a load."""
        percent, what = self.heap_only_percent, "session rewrites that touch no index"
        note = "with all keys of one day; the first rewrite of a day moves the expiry (docs/scaling.md)"
        pages, shown = self.pages_after / self.pages_before, f"{self.ratio:.2f} × ({self.pages_after:g} of 8 kB)"
        return (
            Target.judged("heap_only", what, f"{percent:.2f} %", (percent, HEAP_ONLY_LIMIT), note=note),
            Target.judged("pages", f"pages per load after {EACH} rewrites per company", shown, (pages, PAGES_LIMIT)),
        )


class ExplainedLoad(Struct, frozen=True):
    """All pages that a load touched, those that were not in the server's memory, and the node that found the keys."""

    pages: int
    read_pages: int
    plan: str


def rewrites(url: str, companies: int = COMPANIES, each: int = EACH) -> Rewrites:
    """Fill the empty database at `url` and rewrite `each` sessions of each company, picked at random, in threads.

    All keys are of today, so that no rewrite moves an expiry; `steps.py` measures the first rewrites of a day.
    """
    open_store(url, policy=DIARY).close()  # This makes the tables.
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        filled = fill(conn, companies, 0.0, no_progress)
        conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")
        sample = sampled(companies)
        before = pages_per_load(conn, sample)
        picked = pick_sessions(companies, each)
        heap_only_percent = rewrite(conn, url, filled.ended_at, picked, no_progress)
        return Rewrites(len(picked), heap_only_percent, before, pages_per_load(conn, sample))


def pick_sessions(companies: int, each: int) -> list[Session]:
    """Pick `each` sessions of each company at random (always the same), in random order."""
    rng = random.Random(SEED)
    ids = list(real_keys()["session"])
    picked = [(company_name(number), rng.choice(ids)) for number in range(companies) for _ in range(each)]
    rng.shuffle(picked)
    return picked


def rewrite(conn: Connection, url: str, now: datetime, sessions: Sequence[Session], progress: Progress) -> float:
    """Rewrite these sessions, several at a time, with values of the same length; the store's clock stands at `now`.

    Returns the share of heap-only updates in percent.
    """
    lengths = {key_id: len(value) for key_id, value in real_keys()["session"].items()}
    updates_before, heap_only_before = _updates(conn)
    with closing(open_store(url, clock=lambda: now)) as store, ThreadPoolExecutor(THREADS) as threads:

        def work(number: int) -> None:
            rng = random.Random(SEED + number)
            for done, (company, key_id) in enumerate(sessions[number::THREADS], 1):
                store.set(company, {"session": {key_id: rng.randbytes(lengths[key_id])}})
                if number == 0:
                    progress(min(done * THREADS, len(sessions)), len(sessions))

        list(threads.map(work, range(THREADS)))
    updates, heap_only = _updates(conn)
    return round(100 * (heap_only - heap_only_before) / max(updates - updates_before, 1), 2)


def _updates(conn: Connection) -> tuple[int, int]:
    """The numbers of all updates so far and of heap-only ones, once closed connections have reported their last."""
    give_up_at = monotonic() + ENDED_TIMEOUT_S
    while conn.execute(OTHERS).fetchall() and monotonic() < give_up_at:
        sleep(POLL_S)
    ((updates, heap_only),) = conn.execute(UPDATES).fetchall()
    return updates, heap_only


def sampled(companies: int) -> list[str]:
    """The ids of a random sample of this many companies, always the same."""
    return [company_name(number) for number in random.Random(SEED).sample(range(companies), min(SAMPLE, companies))]


def pages_per_load(conn: Connection, companies: Sequence[str]) -> float:
    """The median number of pages that a load of these companies touches."""
    return median(explained_load(conn, company).pages for company in companies)


def explained_load(conn: Connection, company: str) -> ExplainedLoad:
    """Explain a load by the store's own statement."""
    serialize = ", SERIALIZE BINARY" if conn.info.server_version >= SERIALIZES_FROM else ""
    statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON{serialize}) {STATEMENTS['load']}"
    ((((document,)),),) = conn.execute(statement.encode(), {"company_id": company}).fetchall()
    plan, sent = document["Plan"], document.get("Serialization", {})
    hit, read = (plan[f"Shared {what} Blocks"] + sent.get(f"Shared {what} Blocks", 0) for what in ("Hit", "Read"))
    return ExplainedLoad(hit + read, read, _reading_keys(plan))


def _reading_keys(plan: dict[str, Any]) -> str:
    """The type of the plan's node that reads whatsapp_keys."""
    if str(plan.get("Relation Name", "")).startswith("whatsapp_keys"):
        return str(plan["Node Type"])
    return next(filter(None, map(_reading_keys, plan.get("Plans", []))), "")
