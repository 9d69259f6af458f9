"""The steps of `bench.scale` in their order, over all sizes together.

Fill a database for each size, its keys in the order in which they arrive; rewrite sessions as traffic does; measure;
gather each company's keys and measure again; migrate to partitions and measure again. Each step's figures stay in the
database, so that the same command continues after a kill.
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
        settled = [site.once("settled", Space, partial(steps.settled, site)) for site in sites]
        before = _loads(sites, "loads before rewrites", effort)
        rewrites = _rewrites(sites, "rewrites", _each, bar)
        after = _loads(sites, "loads after rewrites", effort)
        upkeep = [_upkeep(site, effort, bar) for site in sites]
        fillings = [_filling(site) for site in sites]
        settings = _settings(sites[0], server)
    first_loads = _first_loads(server, sizes, bar, "first loads")
    gathered = _gathered(server, sizes, effort, bar)
    whole = [size for size in sizes if not size.partitions]
    partitioned = dict(zip(whole, _partitioned(server, whole, partitions, effort, bar), strict=False))
    machine = ScaleMachine(
        cpus=os.cpu_count() or 1,
        memory_gb=round(memory_bytes() / 1e9),
        python=platform.python_version(),
        postgres=settings,
        load_average_before=round(load_average, 2),
        measured_on=datetime.now(UTC).date().isoformat(),
    )
    figures = []
    for number, size in enumerate(sizes):
        keys, fill = fillings[number]
        gets_and_sets, census, sweep, vacuum = upkeep[number]
        figures.append(
            SizeFigures(
                companies=size.companies,
                partitions=size.partitions,
                keys=keys,
                fill=fill,
                size=settled[number],
                loads_before=before[number],
                rewrites=rewrites[number],
                loads_after=after[number],
                gets_and_sets=gets_and_sets,
                census=census,
                sweep=sweep,
                vacuum=vacuum,
                first_loads=first_loads[number],
                gathered=gathered[number],
                partitioned=partitioned.get(size),
            )
        )
    return Scale(machine, tuple(figures))


@contextmanager
def _sites(server: Server, sizes: Sequence[Size], bar: Bar) -> Iterator[list[Site]]:
    with ExitStack() as stack:
        sites = []
        for size in sizes:
            with bar(f"filling {size.database}") as progress:
                sites.append(stack.enter_context(databases.site(server, size, progress)))
        yield sites


def _rewrites(sites: Sequence[Site], name: str, each: Callable[[Size], int], bar: Bar) -> list[SessionRewrites]:
    rewrites = []
    for site in sites:
        with bar(f"rewriting {site.size.database}") as progress:
            step = partial(steps.rewrites, site, each(site.size), progress)
            rewrites.append(site.once(name, SessionRewrites, step))
    return rewrites


def _upkeep(site: Site, effort: Effort, bar: Bar) -> tuple[GetsAndSets, CensusTime, Sweep, Vacuum]:
    """Gets and sets, census, sweep and vacuum of one size; the last two change the table most."""
    with bar(f"measuring {site.size.database}") as progress:
        progress(0, 4)
        gets_and_sets = site.once("gets_and_sets", GetsAndSets, partial(steps.gets_and_sets, site, effort))
        progress(1, 4)
        census = site.once("census", CensusTime, partial(steps.census, site))
        progress(2, 4)
        sweep = site.once("sweep", Sweep, partial(steps.swept, site, effort))
        progress(3, 4)
        return gets_and_sets, census, sweep, site.once("vacuum", Vacuum, partial(steps.vacuumed, site, effort))


def _gathered(server: Server, sizes: Sequence[Size], effort: Effort, bar: Bar) -> list[Gathered]:
    """Lay each company's keys together, and measure loads, and whether rewrites scatter the keys again."""
    gathering = []
    with _sites(server, sizes, bar) as sites:
        for number, site in enumerate(sites):
            with bar("gathering companies") as progress:
                progress(number, len(sites))
                gathering.append(site.once("gathered", Gathering, partial(steps.gathered, site, effort)))
        loads = _loads(sites, "loads, gathered", effort)
        rewrites = _rewrites(sites, "rewrites, gathered", lambda size: REWRITES_EACH_OF_MANY, bar)
    first_loads = _first_loads(server, sizes, bar, "first loads, gathered")
    return [
        Gathered(step.took_s, step.size, step.beside, site_loads, site_rewrites, site_first_loads)
        for step, site_loads, site_rewrites, site_first_loads in zip(
            gathering, loads, rewrites, first_loads, strict=True
        )
    ]


def _partitioned(server: Server, sizes: Sequence[Size], partitions: int, effort: Effort, bar: Bar) -> list[Partitioned]:
    """Migrate these sizes to partitions and measure loads; nothing without partitions."""
    if not partitions:
        return []
    with _sites(server, sizes, bar) as sites:
        migrations = [
            site.once("partitioned", Partitioning, partial(steps.partitioned, site, partitions)) for site in sites
        ]
        loads = _loads(sites, "loads, partitioned", effort)
    return [
        Partitioned(step.partitions, step.took_s, step.size, site_loads)
        for step, site_loads in zip(migrations, loads, strict=True)
    ]


def _first_loads(server: Server, sizes: Sequence[Size], bar: Bar, name: str) -> list[Times | None]:
    """Loads of each size from the disk; None if the server is not ours to restart."""
    if not server.own:
        return [None for _ in sizes]
    with _sites(server, sizes, bar) as sites:
        times = [site.measured(name, Times) for site in sites]
    if all(times):
        return times
    server.forget_pages()
    with _sites(server, sizes, bar) as sites:
        return [site.once(name, Times, partial(steps.first_loads, site)) for site in sites]


def _loads(sites: Sequence[Site], name: str, effort: Effort) -> list[Loads]:
    """Loads of all sizes together. If one size lacks its figures, all are measured; existing figures stay."""
    earlier = [site.measured(name, Loads) for site in sites]
    if all(earlier):
        return [loads for loads in earlier if loads]
    measured = steps.loads(sites, effort.rounds)
    return [site.once(name, Loads, partial(measured.__getitem__, number)) for number, site in enumerate(sites)]


def _each(size: Size) -> int:
    return REWRITES_EACH_OF_MANY if size.companies >= MANY else REWRITES_EACH


def _filling(site: Site) -> tuple[int, Filling]:
    filled = site.filled
    return filled.keys, Filling(round(filled.took_s, 1), round(filled.keys / filled.took_s))


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
