"""What a growing number of companies does to a store on one Postgres server: 10, 1,000 and 10,000 of 721 keys each.

Fills a database for each, the keys in the order in which they arrive, interleaved; rewrites sessions as traffic does;
and measures loads, gets and sets, the pages that a load touches, sizes, census, a sweep, a vacuum, and what the last
two cost the readers beside them. The databases stay, with what was measured: the same command goes on after a kill.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from bench.command import errors_in_one_line
from bench.scale import measures
from bench.scale.measures import Effort
from bench.scale.site import Figures, Server, Site, Size, Told, drop, memory_bytes, own_server, site
from bench.scale.tables import tables, targets, with_tables
from monitor.running.progress import progress_bar

EPILOG = """
It starts a Postgres of its own, with a quarter of the machine's memory (8 GB at most) as shared_buffers, unless --url
names a server. For example, resumed by giving the command again:
  python -m bench.scale --home /srv/bench --json docs/figures/scale.json --docs docs/scaling.md
10,000 companies take about 10 GB of disk, 8 GB of write-ahead log, and twenty minutes.
Exits with 1 when a target is missed.
"""

COMPANIES = (10, 1_000, 10_000)
THOROUGH, QUICK = Effort(2_000, 3.0), Effort(50, 0.2)
REWRITES_EACH, REWRITES_EACH_OF_MANY, MANY = 100, 10, 5_000
"""Sessions rewritten in each company, and from how many companies on it is fewer. So many are also not filled a second
time into partitions, but only made into such at the end: both would not fit into the memory of a server for one."""

UPKEEP: dict[str, Callable[[Site, Effort], Figures]] = {
    "gets_and_sets": measures.gets_and_sets,
    "census": measures.census,
    "sweep": measures.swept,
    "vacuum": measures.vacuumed,
}
"""What is measured of one size after another, in this order: the last two change the table most."""

Bar = Callable[[str], AbstractContextManager[Told]]


def measure(server: Server, sizes: Sequence[Size], partitions: int, effort: Effort, bar: Bar) -> Figures:
    """The figures of each size on this server, those that aren't partitioned also once they are.

    Raises KeystoreError.
    """
    load_average = os.getloadavg()[0]
    with _sites(server, sizes, bar) as sites:
        found = _as_it_arrived(sites, effort, bar)
        settings = _settings(sites[0], server)
    first = _first_loads(server, sizes, bar, "first loads")
    with _sites(server, sizes, bar) as sites:
        gathered = _gathered(sites, effort, bar)
    gathered_first = _first_loads(server, sizes, bar, "first loads, gathered")
    for number, figures in enumerate(found):
        figures |= {
            "first_loads": first[number],
            "gathered": gathered[number] | {"first_loads": gathered_first[number]},
        }
    if partitions:
        with _sites(server, [size for size in sizes if not size.partitions], bar) as sites:
            migrated = [one.once("partitioned", partial(measures.partitioned, one, partitions)) for one in sites]
            loads = _loads(sites, "loads, partitioned", effort)
        for number, figures in enumerate(migrated):  # Those that aren't partitioned come first.
            found[number]["partitioned"] = figures | {"loads": loads[number]}
    machine = {
        "cpus": os.cpu_count(),
        "memory_gb": round(memory_bytes() / 1e9),
        "python": platform.python_version(),
        "postgres": settings,
        "load_average_before": round(load_average, 2),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    return {"machine": machine, "sizes": found}


@contextmanager
def _sites(server: Server, sizes: Sequence[Size], bar: Bar) -> Iterator[list[Site]]:
    with ExitStack() as stack:
        sites = []
        for size in sizes:
            with bar(f"filling {size.database}") as told:
                sites.append(stack.enter_context(site(server, size, told)))
        yield sites


def _as_it_arrived(sites: Sequence[Site], effort: Effort, bar: Bar) -> list[Figures]:
    for one in sites:
        one.once("settled", partial(_settle, one))
    before = _loads(sites, "loads before rewrites", effort)
    rewritten = []
    for one in sites:
        with bar(f"rewriting {one.size.database}") as told:
            rewritten.append(one.once("rewrites", partial(measures.rewrites, one, _each(one.size), told)))
    after = _loads(sites, "loads after rewrites", effort)
    found = []
    for number, one in enumerate(sites):
        figures = asdict(one.size) | {"keys": one.filled.keys, "fill": _filling(one), "size": one.kept("settled")}
        figures |= {"loads_before": before[number], "rewrites": rewritten[number], "loads_after": after[number]}
        with bar(f"measuring {one.size.database}") as told:
            for done, (name, act) in enumerate(UPKEEP.items()):
                told(done, len(UPKEEP))
                figures[name] = one.once(name, partial(act, one, effort))
        found.append(figures)
    return found


def _gathered(sites: Sequence[Site], effort: Effort, bar: Bar) -> list[Figures]:
    """Lays each company's keys together, and sees what that gives and whether rewrites undo it."""
    found = []
    for number, one in enumerate(sites):
        with bar("gathering companies") as told:
            told(number, len(sites))
            found.append(one.once("gathered", partial(measures.gathered, one, effort)))
    loads = _loads(sites, "loads, gathered", effort)
    for number, one in enumerate(sites):
        with bar(f"rewriting {one.size.database}") as told:
            rewritten = one.once("rewrites, gathered", partial(measures.rewrites, one, REWRITES_EACH_OF_MANY, told))
        found[number] |= {"loads": loads[number], "rewrites": rewritten}
    return found


def _first_loads(server: Server, sizes: Sequence[Size], bar: Bar, name: str) -> list[Figures | None]:
    """Of each size, from the disk; None where the server isn't ours to restart."""
    if not server.own:
        return [None for _ in sizes]
    with _sites(server, sizes, bar) as sites:
        kept = [one.kept(name) for one in sites]
    if all(kept):
        return kept
    server.forget_pages()
    with _sites(server, sizes, bar) as sites:
        return [one.once(name, partial(measures.first_loads, one)) for one in sites]


def _settle(one: Site) -> Figures:
    """What autovacuum has done long before on a table that took days to fill; and the sizes then."""
    one.conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")
    return measures.sizes(one)


def _loads(sites: Sequence[Site], name: str, effort: Effort) -> list[Figures]:
    """Of all sizes together: where one lacks its figures all are measured, and those that had theirs keep them."""
    if any(one.kept(name) is None for one in sites):
        for one, loads in zip(sites, measures.loads(sites, effort.rounds), strict=True):
            one.once(name, partial(asdict, loads))
    return [one.kept(name) or {} for one in sites]


def _each(size: Size) -> int:
    return REWRITES_EACH_OF_MANY if size.companies >= MANY else REWRITES_EACH


def _filling(one: Site) -> Figures:
    return {"took_s": round(one.filled.took_s, 1), "keys_per_s": round(one.filled.keys / one.filled.took_s)}


def _settings(site: Site, server: Server) -> Figures:
    names = ["server_version", "shared_buffers", "effective_cache_size", "max_wal_size", "random_page_cost", "fsync"]
    rows = site.conn.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [names]).fetchall()
    return dict(rows) | {"own": server.own}


@contextmanager
def _server(url: str | None, home: Path | None) -> Iterator[Server]:
    if url is None:
        with own_server(home) as server:
            yield server
    else:
        yield Server(url)


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for; 1 when a target is missed or the server can't be used."""
    parser = argparse.ArgumentParser(
        "python -m bench.scale",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="a Postgres server's address, of a role that may make databases")
    where.add_argument("--home", type=Path, help="a folder for our own server's data, which stay (a temporary one)")
    parser.add_argument("--companies", type=int, nargs="+", default=COMPANIES, metavar="N", help="(10 1000 10000)")
    parser.add_argument(
        "--partitions", type=int, default=0, metavar="N", help="measure with so many hash partitions too"
    )
    parser.add_argument("--quick", action="store_true", help="time everything fewer times")
    parser.add_argument("--drop", action="store_true", help="drop these databases, and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="take those of an earlier run, measure nothing")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the tables between that file's scale markers")
    given = parser.parse_args(args)
    if given.url and not given.url.startswith(("postgresql://", "postgres://")):
        parser.error("--url is a PostgreSQL address: postgresql://user:password@host:5432/database")
    if min(given.companies) < 1 or not (given.partitions == 0 or 2 <= given.partitions <= 1_000):
        parser.error("--companies are 1 or more each, and --partitions from 2 to 1,000")
    sizes = [Size(companies) for companies in given.companies]
    if given.partitions:
        sizes += [Size(companies, given.partitions) for companies in given.companies if companies < MANY]
    try:
        if given.figures:
            figures = json.loads(given.figures.read_text(encoding="utf-8"))
        else:
            if given.json:
                given.json.touch()  # Before the work, not after it.
            with _server(given.url, given.home) as server:
                if given.drop:
                    for size in sizes:
                        drop(server, size)
                    return 0
                effort = QUICK if given.quick else THOROUGH
                figures = measure(server, sizes, given.partitions, effort, progress_bar)
        if given.json:
            given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        if given.docs:
            text = given.docs.read_text(encoding="utf-8")
            given.docs.write_text(with_tables(text, figures), encoding="utf-8")
    except psycopg.Error as error:
        where_to_look = "look at --url" if given.url else "look at the server's log"
        print(f"error: the server can't be used: {type(error).__name__}; {where_to_look}", file=sys.stderr)
        return 1
    print(tables(figures))
    missed = [one for one in targets(figures) if not one.met]
    return 1 if missed else 0
