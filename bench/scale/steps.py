"""The single measurements of a table of one size: times of reads and writes, pages, and upkeep with reads meanwhile."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from msgspec import Struct

from bench.measuring import Connection, Progress, Times, timed, timed_ms
from bench.scale.databases import Site, gather, partition
from bench.scale.figures import Beside, CensusTime, GetsAndSets, Loads, Rewritten, SessionRewrites, Space, Sweep, Vacuum
from bench.scale.fill import SEED, company_name
from bench.scale.pages import Session, explained_load, pages_per_load, pick_sessions, rewrite, sampled
from keystore.opening import open_store
from keystore.store import Store
from keystore.ttl import DIARY, expires_at
from monitor.sweeper import sweep
from rig.baileys_state import real_keys

SWEPT_AFTER = timedelta(days=4)
"""The time from the last arrival to the sweep: two of five days' short-lived keys are due then, a tenth of all keys."""

AUTOVACUUM_PACE = "SET vacuum_cost_delay = '2ms'; SET vacuum_cost_limit = 200"
"""The pace of PostgreSQL's autovacuum with its default settings."""

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

T = TypeVar("T")


class Effort(Struct, frozen=True):
    """The number of timed loads, gets and sets, and the seconds of reads without other work."""

    rounds: int
    quiet_s: float


def loads(sites: Sequence[Site], rounds: int) -> list[Loads]:
    """Loads on all sites in turn, round by round, so that a slow moment of the machine hits all sizes."""
    rng = random.Random(SEED)
    for site in sites:
        _warm(site)
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in sites]
    with ExitStack() as stack:
        stores = [stack.enter_context(_store(site)) for site in sites]
        for number in range(rounds):
            for site, store, both_ms in zip(sites, stores, times, strict=True):
                company = company_name(rng.randrange(site.size.companies))
                acts = partial(store.load, company), partial(_bare_load, site.conn, company)
                # The second act finds the company's pages in the processor's cache, so each begins equally often.
                for side in (0, 1) if number % 2 else (1, 0):
                    both_ms[side].append(timed_ms(acts[side]))
    return [_loads(site, *both_ms) for site, both_ms in zip(sites, times, strict=True)]


def _loads(site: Site, load_ms: list[float], bare_ms: list[float]) -> Loads:
    explained = [explained_load(site.conn, company) for company in sampled(site.size.companies)]
    return Loads(
        load=Times.summary(load_ms),
        bare=Times.summary(bare_ms),
        pages=median(load.pages for load in explained),
        read_pages=median(load.read_pages for load in explained),
        plan=explained[0].plan,
    )


def first_loads(site: Site) -> Times:
    """The first load of each sampled company since the server forgot its pages, which are then only on the disk."""
    with _store(site) as store:
        store.load("nobody")  # This opens the connection, and reads the catalog and the indexes' upper pages.
        return Times.summary([timed_ms(partial(store.load, company)) for company in sampled(site.size.companies)])


def settled(site: Site) -> Space:
    """The sizes after a vacuum, which autovacuum would have made on a table that took days to fill."""
    site.conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")
    return space(site)


def space(site: Site) -> Space:
    """The sizes of the table and its indexes."""
    ((table, indexes, total),) = site.conn.execute(SIZES).fetchall()
    return Space(
        table_mb=round(table / 1e6, 1),
        indexes_mb=round(indexes / 1e6, 1),
        total_mb=round(total / 1e6, 1),
        bytes_per_key=round(total / site.filled.keys),
    )


def gathered(site: Site, effort: Effort) -> dict[str, object]:
    """Lay each company's keys together, with reads meanwhile: the first fields of `Gathered`."""
    _warm(site)
    beside, took_s, _ = _beside(site, effort, lambda: gather(site.conn))
    site.conn.execute("VACUUM (ANALYZE) whatsapp_keys")
    return {"took_s": round(took_s, 1), "size": space(site), "beside": beside}


def partitioned(site: Site, partitions: int) -> dict[str, object]:
    """Migrate a table in use to hash partitions: the first fields of `Partitioned`."""
    took_ms = timed_ms(lambda: partition(site.conn, partitions))
    site.conn.execute("VACUUM whatsapp_keys")
    return {"partitions": partitions, "took_s": round(took_ms / 1000, 1), "size": space(site)}


def rewrites(site: Site, each: int, progress: Progress) -> SessionRewrites:
    """Rewrite random sessions: first those whose expiry moves to another day, then the others."""
    picked = pick_sessions(site.size.companies, each)
    today_expires_at = expires_at(DIARY, "session", site.now)
    stale = set(site.conn.execute(STALE, [*map(list, zip(*picked, strict=True)), today_expires_at]).fetchall())
    first, again = list[Session](), list[Session]()
    for session in picked:
        (first if session in stale else again).append(session)
        stale.discard(session)
    sample = sampled(site.size.companies)

    def rewritten(sessions: Sequence[Session]) -> Rewritten:
        heap_only_percent, ms = timed(lambda: rewrite(site.conn, site.url, site.now, sessions, progress))
        per_s = round(len(sessions) / (ms / 1000))
        return Rewritten(len(sessions), heap_only_percent, per_s, pages_per_load(site.conn, sample))

    return SessionRewrites(each, pages_per_load(site.conn, sample), rewritten(first), rewritten(again))


def gets_and_sets(site: Site, effort: Effort) -> GetsAndSets:
    """Get and set one session of a random company, again and again."""
    rng, sessions = random.Random(SEED), list(real_keys()["session"].items())
    get_ms, set_ms = [], []
    with _store(site) as store:
        for _ in range(effort.rounds):
            company, (key_id, value) = company_name(rng.randrange(site.size.companies)), rng.choice(sessions)
            get_ms.append(timed_ms(partial(store.get, company, "session", [key_id])))
            set_ms.append(timed_ms(partial(store.set, company, {"session": {key_id: value}})))
    return GetsAndSets(Times.summary(get_ms), Times.summary(set_ms))


def census(site: Site, _effort: Effort) -> CensusTime:
    """Count the whole table, as reports do."""
    with _store(site) as store:
        return CensusTime(round(timed_ms(store.census)))


def swept(site: Site, effort: Effort) -> Sweep:
    """Sweep the keys that are due some days later, with reads meanwhile."""
    later = site.now + SWEPT_AFTER
    with open_store(site.url, clock=lambda: later) as store:
        beside, _, report = _beside(site, effort, lambda: sweep(store))
    keys_per_s = round(report.deleted / max(report.took_ms, 0.1) * 1000)
    return Sweep(report.deleted, round(report.took_ms / 1000, 2), keys_per_s, beside)


def vacuumed(site: Site, effort: Effort) -> Vacuum:
    """Vacuum the dead rows of rewrites and sweep at autovacuum's pace, with reads meanwhile."""
    site.conn.execute("SELECT pg_stat_force_next_flush()")
    dead_before = site.conn.execute(DEAD).fetchall()[0][0]
    site.conn.execute(AUTOVACUUM_PACE)
    beside, took_s, _ = _beside(site, effort, lambda: site.conn.execute("VACUUM (ANALYZE) whatsapp_keys"))
    dead_after = site.conn.execute(DEAD).fetchall()[0][0]
    pages = pages_per_load(site.conn, sampled(site.size.companies))
    return Vacuum(round(took_s, 2), dead_before, dead_after, pages, beside)


def _beside(site: Site, effort: Effort, work: Callable[[], T]) -> tuple[Beside, float, T]:
    """Read for a while, then for as long as `work` runs on a thread of its own; return its seconds and result too."""
    with _store(site) as store:
        quiet_until = perf_counter() + effort.quiet_s
        load_alone, get_alone = _reading(site, store, lambda: perf_counter() < quiet_until)
        began = perf_counter()
        with ThreadPoolExecutor(1) as thread:
            working = thread.submit(work)
            load, get = _reading(site, store, lambda: not working.done())
            result = working.result()
        return Beside(load, get, load_alone, get_alone), perf_counter() - began, result


def _reading(site: Site, store: Store, going_on: Callable[[], bool]) -> tuple[Times, Times]:
    rng, ids = random.Random(SEED), list(real_keys()["session"])
    load_ms, get_ms = list[float](), list[float]()
    while going_on() or not load_ms:
        load_ms.append(timed_ms(partial(store.load, company_name(rng.randrange(site.size.companies)))))
        company, key_id = company_name(rng.randrange(site.size.companies)), rng.choice(ids)
        get_ms.append(timed_ms(partial(store.get, company, "session", [key_id])))
    return Times.summary(load_ms), Times.summary(get_ms)


def _warm(site: Site) -> None:
    """Read every company once, into the server's memory."""
    for number in range(site.size.companies):
        _bare_load(site.conn, company_name(number))


def _store(site: Site) -> Store:
    """A store on the site, with its clock at the time of the last arrival."""
    return open_store(site.url, clock=lambda: site.now)


def _bare_load(conn: Connection, company: str) -> list[tuple[Any, ...]]:
    with conn.cursor(binary=True) as cursor:
        return cursor.execute(BARE_LOAD, [company]).fetchall()
