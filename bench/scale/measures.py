"""What is measured of a table of one size: times of reads and writes, pages, and what upkeep costs those beside it."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from bench.scale.fill import SEED, Connection, company_name
from bench.scale.pages import explained_load, pages_per_load, rewrite, sampled
from bench.scale.site import Figures, Site, Told, gather, partition
from keystore.opening import open_store
from keystore.store import Store
from keystore.ttl import DIARY, expires_at
from monitor.sweeper import sweep
from rig.baileys_state import real_state

SWEPT_AFTER = timedelta(days=4)
"""After the last arrival: then about two of the five days' keys of the short-lived types are due, a tenth of all."""

AUTOVACUUMS_PACE = "SET vacuum_cost_delay = '2ms'; SET vacuum_cost_limit = 200"
"""As PostgreSQL's autovacuum goes unless told otherwise."""

BARE_LOAD = "SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %s"

RELATIONS = (
    "(SELECT 'whatsapp_keys'::regclass AS relid UNION SELECT relid FROM pg_partition_tree('whatsapp_keys')) AS r"
)

SIZES = f"""
SELECT sum(pg_relation_size(relid))::bigint, sum(pg_indexes_size(relid))::bigint,
       sum(pg_total_relation_size(relid))::bigint FROM {RELATIONS}
"""

DEAD = f"SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables JOIN {RELATIONS} USING (relid)"

STALE = """
SELECT DISTINCT k.company_id, k.key_id FROM unnest(%s::text[], %s::text[]) AS p (company_id, key_id)
JOIN whatsapp_keys k ON k.company_id = p.company_id AND k.key_type = 'session' AND k.key_id = p.key_id
WHERE k.expires_at < %s
"""


@dataclass(frozen=True)
class Effort:
    """How often a load, a get and a set are timed, and for how long readers with nothing beside them; seconds."""

    rounds: int
    quiet_s: float


@dataclass(frozen=True)
class Times:
    """The median and the 99th percentile of so many; milliseconds."""

    times: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Loads:
    """Loads of companies picked at random, a bare select of their keys beside each, and what a load touched.

    `read_pages` are those of the pages that were not in the server's memory.
    """

    load: Times
    bare: Times
    pages: float
    read_pages: float
    plan: str


@dataclass(frozen=True)
class Beside:
    """Loads and gets in turn on one thread, with and without something at work beside them, and how long that took."""

    load: Times
    get: Times
    load_alone: Times
    get_alone: Times
    took_s: float

    @property
    def figures(self) -> Figures:
        """The times, for a report."""
        return {name: value for name, value in asdict(self).items() if name != "took_s"}


def times(took_ms: Sequence[float]) -> Times:
    """Of these; the 99th percentile of fewer than 100 is their longest."""
    longest = quantiles(took_ms, n=100)[98] if len(took_ms) >= 100 else max(took_ms)
    return Times(len(took_ms), round(median(took_ms), 3), round(longest, 3))


def loads(sites: Sequence[Site], rounds: int) -> list[Loads]:
    """Of each site in turn, round by round, so that a slow moment of the machine hits all sizes."""
    rng = random.Random(SEED)
    for site in sites:
        _warm(site)
    stores = [open_store(site.url, clock=partial(_now, site)) for site in sites]
    try:
        of_store: list[list[float]] = [[] for _ in sites]
        of_bare: list[list[float]] = [[] for _ in sites]
        for number in range(rounds):
            for site, store, load_ms, bare_ms in zip(sites, stores, of_store, of_bare, strict=True):
                company = company_name(rng.randrange(site.size.companies))
                acts: list[tuple[list[float], Callable[[], object]]] = [
                    (load_ms, partial(store.load, company)),
                    (bare_ms, partial(_bare_load, site.conn, company)),
                ]
                # The second of them finds the company's pages in the processor's cache: each is first as often.
                for took_ms, act in acts if number % 2 else reversed(acts):
                    took_ms.append(_timed_ms(act))
    finally:
        for store in stores:
            store.close()
    return [_loads(site, *both) for site, *both in zip(sites, of_store, of_bare, strict=True)]


def _loads(site: Site, load_ms: list[float], bare_ms: list[float]) -> Loads:
    touched = [explained_load(site.conn, company) for company in sampled(site.size.companies)]
    pages, read_pages = (median(getattr(one, what) for one in touched) for what in ("pages", "read_pages"))
    return Loads(times(load_ms), times(bare_ms), pages, read_pages, touched[0].plan)


def first_loads(site: Site) -> Figures:
    """Loads of companies whose pages are on the disk alone: each company's first since the server forgot them."""
    with closing(open_store(site.url, clock=partial(_now, site))) as store:
        store.load("nobody")  # It opens the connection, and reads the catalog and the indexes' upper pages.
        companies = sampled(site.size.companies)
        return asdict(times([_timed_ms(partial(store.load, company)) for company in companies]))


def sizes(site: Site) -> Figures:
    """Of the table, its indexes, and both with the values outside it for each key; MB are decimal."""
    ((table, indexes, total),) = site.conn.execute(SIZES).fetchall()
    return {
        "table_mb": round(table / 1e6, 1),
        "indexes_mb": round(indexes / 1e6, 1),
        "total_mb": round(total / 1e6, 1),
        "bytes_per_key": round(total / site.filled.keys),
    }


def gathered(site: Site, effort: Effort) -> Figures:
    """Lays each company's keys together, and what that costs a reader beside it."""
    _warm(site)
    beside = _beside(site, effort, lambda: gather(site.conn))
    site.conn.execute("VACUUM (ANALYZE) whatsapp_keys")
    return {"took_s": round(beside.took_s, 1), "size": sizes(site), "beside": beside.figures}


def partitioned(site: Site, partitions: int) -> Figures:
    """How long the migration to hash partitions takes on a table in use, and the sizes then."""
    began = perf_counter()
    partition(site.conn, partitions)
    took_s = perf_counter() - began
    site.conn.execute("VACUUM whatsapp_keys")
    return {"partitions": partitions, "took_s": round(took_s, 1), "size": sizes(site)}


def rewrites(site: Site, each: int, told: Told) -> Figures:
    """Rewrites sessions picked at random, first those whose expiry that moves on to another day, then the others."""
    rng, ids = random.Random(SEED), list(real_state()["session"])
    picked = [(company_name(number), rng.choice(ids)) for number in range(site.size.companies) for _ in range(each)]
    rng.shuffle(picked)
    todays = expires_at(DIARY, "session", site.now)
    stale = set(site.conn.execute(STALE, [*map(list, zip(*picked, strict=True)), todays]).fetchall())
    first, again = [], []
    for session in picked:
        if session in stale:
            stale.discard(session)
            first.append(session)
        else:
            again.append(session)
    sample = sampled(site.size.companies)
    figures: Figures = {"each": each, "pages_before": pages_per_load(site.conn, sample)}
    for name, sessions in (("first", first), ("again", again)):
        began = perf_counter()
        heap_only = rewrite(site.conn, site.url, site.now, sessions, told)
        figures[name] = {
            "rewrites": len(sessions),
            "heap_only_percent": heap_only,
            "per_s": round(len(sessions) / (perf_counter() - began)),
            "pages": pages_per_load(site.conn, sample),
        }
    return figures


def gets_and_sets(site: Site, effort: Effort) -> Figures:
    """Of one session each, of companies picked at random."""
    rng, sessions = random.Random(SEED), list(real_state()["session"].items())
    get_ms, set_ms = [], []
    with closing(open_store(site.url, clock=partial(_now, site))) as store:
        for _ in range(effort.rounds):
            company, (key_id, value) = company_name(rng.randrange(site.size.companies)), rng.choice(sessions)
            get_ms.append(_timed_ms(partial(store.get, company, "session", [key_id])))
            set_ms.append(_timed_ms(partial(store.set, company, {"session": {key_id: value}})))
    return {"get": asdict(times(get_ms)), "set": asdict(times(set_ms))}


def census(site: Site, effort: Effort) -> Figures:
    """How long the watch takes to count the whole table."""
    with closing(open_store(site.url, clock=partial(_now, site))) as store:
        return {"ms": round(_timed_ms(store.census))}


def swept(site: Site, effort: Effort) -> Figures:
    """A sweep of what is due some days later, and what it costs a reader beside it."""
    later = site.now + SWEPT_AFTER
    reports = []
    with closing(open_store(site.url, clock=lambda: later)) as sweeping:
        beside = _beside(site, effort, lambda: reports.append(sweep(sweeping)))
    (report,) = reports
    return {
        "deleted": report.deleted,
        "took_s": round(report.took_ms / 1000, 2),
        "keys_per_s": round(report.deleted / max(report.took_ms, 0.1) * 1000),
        "beside": beside.figures,
    }


def vacuumed(site: Site, effort: Effort) -> Figures:
    """A vacuum of what rewrites and sweep left, as slow as autovacuum's, and what it costs a reader beside it."""
    site.conn.execute("SELECT pg_stat_force_next_flush()")
    dead_before = site.conn.execute(DEAD).fetchall()[0][0]
    site.conn.execute(AUTOVACUUMS_PACE)
    beside = _beside(site, effort, lambda: site.conn.execute("VACUUM (ANALYZE) whatsapp_keys"))
    dead_after = site.conn.execute(DEAD).fetchall()[0][0]
    pages = pages_per_load(site.conn, sampled(site.size.companies))
    return {
        "took_s": round(beside.took_s, 2),
        "dead_before": dead_before,
        "dead_after": dead_after,
        "pages": pages,
        "beside": beside.figures,
    }


def _beside(site: Site, effort: Effort, work: Callable[[], object]) -> Beside:
    """Reads for a while, and then for as long as `work` is at it on a thread of its own."""
    with closing(open_store(site.url, clock=partial(_now, site))) as store:
        quiet_until = perf_counter() + effort.quiet_s
        load_alone, get_alone = _reading(site, store, lambda: perf_counter() < quiet_until)
        began = perf_counter()
        with ThreadPoolExecutor(1) as thread:
            working = thread.submit(work)
            load, get = _reading(site, store, lambda: not working.done())
            working.result()
        return Beside(load, get, load_alone, get_alone, perf_counter() - began)


def _reading(site: Site, store: Store, going_on: Callable[[], bool]) -> tuple[Times, Times]:
    rng, ids = random.Random(SEED), list(real_state()["session"])
    load_ms: list[float] = []
    get_ms: list[float] = []
    while going_on() or not load_ms:
        load_ms.append(_timed_ms(partial(store.load, company_name(rng.randrange(site.size.companies)))))
        company, key_id = company_name(rng.randrange(site.size.companies)), rng.choice(ids)
        get_ms.append(_timed_ms(partial(store.get, company, "session", [key_id])))
    return times(load_ms), times(get_ms)


def _warm(site: Site) -> None:
    """Reads every company once: what was copied, or a restart forgot, isn't in the server's memory."""
    for number in range(site.size.companies):
        _bare_load(site.conn, company_name(number))


def _now(site: Site) -> datetime:
    return site.now


def _bare_load(conn: Connection, company: str) -> list[tuple[Any, ...]]:
    with conn.cursor(binary=True) as cursor:
        return cursor.execute(BARE_LOAD, [company]).fetchall()


def _timed_ms(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return (perf_counter() - began) * 1000
