"""The steps of `bench.scale` in their order, over all sizes together.

Fill a database for each size, its keys in the order in which they arrive; rewrite sessions as traffic does; measure;
gather each company's keys and measure again; migrate to partitions and measure again. Each step keeps its figures in
the database, so that the same command continues after a kill; at the end all figures are read from there.
"""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial

from bench.measuring import Progress, Times
from bench.scale import site as databases
from bench.scale import steps
from bench.scale.figures import (
    CensusTime,
    Filling,
    Gathered,
    Gathering,
    GetsAndSets,
    Loads,
    Partitioned,
    Partitioning,
    Scale,
    ScaleMachine,
    ServerSettings,
    SessionRewrites,
    SizeFigures,
    Space,
    Sweep,
    Vacuum,
)
from bench.scale.site import Server, Site, Size, memory_bytes
from bench.scale.steps import Effort

REWRITES_EACH, REWRITES_EACH_OF_MANY, MANY = 100, 10, 5_000
"""The number of sessions rewritten in each company, and the smaller one from MANY companies on.

Sizes of MANY companies are also not filled a second time into partitions, but only migrated to them at the end: both
tables together would not fit into the memory of a server for one.
"""

Bar = Callable[[str], AbstractContextManager[Progress]]


def measure(server: Server, sizes: Sequence[Size], partitions: int, effort: Effort, bar: Bar) -> Scale:
    """The figures of each size on this server; those without partitions also after their migration to partitions.

    Raises KeystoreError.
    """
    load_average = os.getloadavg()[0]
    with _sites(server, sizes, bar) as sites:
        for site in sites:
            site.once("settled", partial(steps.settled, site))
        _loads(sites, "loads before rewrites", effort)
        for site in sites:
            _rewrites(site, "rewrites", REWRITES_EACH_OF_MANY if site.size.companies >= MANY else REWRITES_EACH, bar)
        _loads(sites, "loads after rewrites", effort)
        for site in sites:
            _upkeep(site, effort, bar)
    _first_loads(server, sizes, bar, "first loads")
    with _sites(server, sizes, bar) as sites:
        for number, site in enumerate(sites):
            with bar("gathering companies") as progress:
                progress(number, len(sites))
                site.once("gathered", partial(steps.gathered, site, effort))
        _loads(sites, "loads, gathered", effort)
        for site in sites:
            _rewrites(site, "rewrites, gathered", REWRITES_EACH_OF_MANY, bar)
    _first_loads(server, sizes, bar, "first loads, gathered")
    if partitions:
        with _sites(server, [size for size in sizes if not size.partitions], bar) as sites:
            for site in sites:
                site.once("partitioned", partial(steps.partitioned, site, partitions))
            _loads(sites, "loads, partitioned", effort)
    with _sites(server, sizes, bar) as sites:
        machine = ScaleMachine(
            cpus=os.cpu_count() or 1,
            memory_gb=round(memory_bytes() / 1e9),
            python=platform.python_version(),
            postgres=_settings(sites[0], server),
            load_average_before=round(load_average, 2),
            measured_on=datetime.now(UTC).date().isoformat(),
        )
        return Scale(machine, tuple(_figures(site, partitions) for site in sites))


@contextmanager
def _sites(server: Server, sizes: Sequence[Size], bar: Bar) -> Iterator[list[Site]]:
    with ExitStack() as stack:
        sites = []
        for size in sizes:
            with bar(f"filling {size.database}") as progress:
                sites.append(stack.enter_context(databases.site(server, size, progress)))
        yield sites


def _rewrites(site: Site, name: str, each: int, bar: Bar) -> None:
    with bar(f"rewriting {site.size.database}") as progress:
        site.once(name, partial(steps.rewrites, site, each, progress))


def _upkeep(site: Site, effort: Effort, bar: Bar) -> None:
    """Measure gets and sets, census, sweep and vacuum; the last two change the table most."""
    acts: dict[str, Callable[[], object]] = {
        "gets_and_sets": partial(steps.gets_and_sets, site, effort),
        "census": partial(steps.census, site),
        "sweep": partial(steps.swept, site, effort),
        "vacuum": partial(steps.vacuumed, site, effort),
    }
    with bar(f"measuring {site.size.database}") as progress:
        for number, (name, act) in enumerate(acts.items()):
            progress(number, len(acts))
            site.once(name, act)


def _first_loads(server: Server, sizes: Sequence[Size], bar: Bar, name: str) -> None:
    """Measure loads of each size from the disk, if the server is ours to restart."""
    if not server.own:
        return
    with _sites(server, sizes, bar) as sites:
        if all(site.has(name) for site in sites):
            return
    server.forget_pages()
    with _sites(server, sizes, bar) as sites:
        for site in sites:
            site.once(name, partial(steps.first_loads, site))


def _loads(sites: Sequence[Site], name: str, effort: Effort) -> None:
    """Measure loads of all sizes together, if a size lacks its figures; existing figures stay."""
    if not all(site.has(name) for site in sites):
        for site, loads in zip(sites, steps.loads(sites, effort.rounds), strict=True):
            if not site.has(name):
                site.keep(name, loads)


def _figures(site: Site, partitions: int) -> SizeFigures:
    """All figures of one size, from its database."""
    gathering, filled = site.read("gathered", Gathering), site.filled
    gathered = Gathered(
        took_s=gathering.took_s,
        size=gathering.size,
        beside=gathering.beside,
        loads=site.read("loads, gathered", Loads),
        rewrites=site.read("rewrites, gathered", SessionRewrites),
        first_loads=site.read("first loads, gathered", Times) if site.has("first loads, gathered") else None,
    )
    partitioned = None
    if partitions and not site.size.partitions:
        migration = site.read("partitioned", Partitioning)
        loads = site.read("loads, partitioned", Loads)
        partitioned = Partitioned(migration.partitions, migration.took_s, migration.size, loads)
    return SizeFigures(
        companies=site.size.companies,
        partitions=site.size.partitions,
        keys=filled.keys,
        fill=Filling(round(filled.took_s, 1), round(filled.keys / filled.took_s)),
        size=site.read("settled", Space),
        loads_before=site.read("loads before rewrites", Loads),
        rewrites=site.read("rewrites", SessionRewrites),
        loads_after=site.read("loads after rewrites", Loads),
        gets_and_sets=site.read("gets_and_sets", GetsAndSets),
        census=site.read("census", CensusTime),
        sweep=site.read("sweep", Sweep),
        vacuum=site.read("vacuum", Vacuum),
        first_loads=site.read("first loads", Times) if site.has("first loads") else None,
        gathered=gathered,
        partitioned=partitioned,
    )


def _settings(site: Site, server: Server) -> ServerSettings:
    def current(name: str) -> str:
        return str(site.conn.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0])

    return ServerSettings(
        server_version=current("server_version"),
        shared_buffers=current("shared_buffers"),
        effective_cache_size=current("effective_cache_size"),
        max_wal_size=current("max_wal_size"),
        random_page_cost=current("random_page_cost"),
        fsync=current("fsync"),
        own=server.own,
    )
