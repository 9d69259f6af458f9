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
from typing import Any

import msgspec
import psutil

from bench.measuring import Progress
from bench.scale import databases, steps
from bench.scale.databases import Server, Site, Size
from bench.scale.figures import Scale, ScaleMachine, ServerSettings, SizeFigures
from bench.scale.steps import Effort

REWRITES_EACH, REWRITES_EACH_OF_MANY, MANY = 100, 10, 5_000
"""The number of sessions rewritten in each company, and the smaller one from MANY companies on.

Sizes of MANY companies are also not filled a second time into partitions, but only migrated to them at the end: both
tables together would not fit into the memory of a server for one.
"""

UPKEEP: dict[str, Callable[[Site, Effort], object]] = {
    "gets_and_sets": steps.gets_and_sets,
    "census": steps.census,
    "sweep": steps.swept,
    "vacuum": steps.vacuumed,
}
"""The measurements of gets, sets and upkeep; the last two change the table most."""

Bar = Callable[[str], AbstractContextManager[Progress]]


def measure(server: Server, sizes: Sequence[Size], partitions: int, effort: Effort, bar: Bar) -> Scale:
    """The figures of each size on this server; those without partitions also after their migration to partitions.

    Raises KeystoreError.
    """
    load_average = os.getloadavg()[0]
    with _sites(server, sizes, bar) as sites:
        for site in sites:
            site.once("size", partial(steps.settled, site))
        _loads(sites, "loads_before", effort)
        for site in sites:
            _rewrites(site, "rewrites", REWRITES_EACH_OF_MANY if site.size.companies >= MANY else REWRITES_EACH, bar)
        _loads(sites, "loads_after", effort)
        for site in sites:
            with bar(f"measuring {site.size.database}") as progress:
                for number, (name, step) in enumerate(UPKEEP.items()):
                    progress(number, len(UPKEEP))
                    site.once(name, partial(step, site, effort))
    _first_loads(server, sizes, bar, "first_loads")
    with _sites(server, sizes, bar) as sites:
        for number, site in enumerate(sites):
            with bar("gathering companies") as progress:
                progress(number, len(sites))
                site.once("gathered", partial(steps.gathered, site, effort))
        _loads(sites, "gathered.loads", effort)
        for site in sites:
            _rewrites(site, "gathered.rewrites", REWRITES_EACH_OF_MANY, bar)
    _first_loads(server, sizes, bar, "gathered.first_loads")
    if partitions:
        with _sites(server, [size for size in sizes if not size.partitions], bar) as sites:
            for site in sites:
                site.once("partitioned", partial(steps.partitioned, site, partitions))
            _loads(sites, "partitioned.loads", effort)
    with _sites(server, sizes, bar) as sites:
        machine = ScaleMachine(
            cpus=os.cpu_count() or 1,
            memory_gb=round(psutil.virtual_memory().total / 1e9),
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


def _first_loads(server: Server, sizes: Sequence[Size], bar: Bar, name: str) -> None:
    """Measure loads of each size from the disk, if the server is ours to restart."""
    if server.forget_pages is None:
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
    """All figures of one size, from its database; a name such as `gathered.loads` is a field of `gathered`."""
    filled, measured = site.filled, site.figures()
    figures: dict[str, Any] = {
        "companies": site.size.companies,
        "partitions": site.size.partitions,
        "keys": filled.keys,
        "fill": {"took_s": round(filled.took_s, 1), "keys_per_s": round(filled.keys / filled.took_s)},
    }
    for name in sorted(measured):
        whole, _, part = name.partition(".")
        if part and whole in figures:
            figures[whole][part] = measured[name]
        elif whole != "partitioned" or partitions:
            figures[whole] = measured[name]
    return msgspec.convert(figures, SizeFigures)


def _settings(site: Site, server: Server) -> ServerSettings:
    names = [name for name in ServerSettings.__struct_fields__ if name != "own"]
    query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    return ServerSettings(**dict(site.conn.execute(query, [names]).fetchall()), own=server.own)
