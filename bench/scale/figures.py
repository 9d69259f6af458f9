"""The figures of `bench.scale`: the one model that the steps return, a database keeps, and the tables read.

Its fields are those of docs/figures/scale.json. Times are in the unit of their name, megabytes are decimal, pages are
8 kB.
"""

from msgspec import Struct

from bench.measuring import Times


class Filling(Struct, frozen=True):
    """The time that filling the table took."""

    took_s: float
    keys_per_s: int


class Space(Struct, frozen=True):
    """The sizes of the table, of its indexes, and of both with the values outside the rows."""

    table_mb: float
    indexes_mb: float
    total_mb: float
    bytes_per_key: int


class Loads(Struct, frozen=True):
    """Loads of random companies, a plain SELECT of the same keys (`bare`), and the median pages of a load.

    `read_pages` are the pages that were not in the server's memory.
    """

    load: Times
    bare: Times
    pages: float
    read_pages: float
    plan: str


class Rewritten(Struct, frozen=True):
    """Rewrites of sessions of one kind, and the pages of a load afterwards."""

    rewrites: int
    heap_only_percent: float
    per_s: int
    pages: float


class SessionRewrites(Struct, frozen=True):
    """Rewrites of `each` sessions per company.

    The `first` rewrites of a session on a day move its expiry, those `again` on the same day don't.
    """

    each: int
    pages_before: float
    first: Rewritten
    again: Rewritten


class GetsAndSets(Struct, frozen=True):
    """Gets and sets of one session."""

    get: Times
    set: Times


class CensusTime(Struct, frozen=True):
    """The time in which the whole table is counted."""

    ms: int


class Beside(Struct, frozen=True):
    """Loads and gets in turn on one thread, while other work runs and without it (`alone`)."""

    load: Times
    get: Times
    load_alone: Times
    get_alone: Times


class Sweep(Struct, frozen=True):
    """A sweep, and the reads meanwhile."""

    deleted: int
    took_s: float
    keys_per_s: int
    beside: Beside


class Vacuum(Struct, frozen=True):
    """A vacuum at autovacuum's pace, and the reads meanwhile."""

    took_s: float
    dead_before: int
    dead_after: int
    pages: float
    beside: Beside


class Gathered(Struct, frozen=True):
    """The time of laying each company's keys together, with reads meanwhile; sizes, loads and rewrites afterwards."""

    took_s: float
    size: Space
    beside: Beside
    loads: Loads
    rewrites: SessionRewrites
    first_loads: Times | None = None


class Partitioned(Struct, frozen=True):
    """The time of the migration to hash partitions, and the sizes and loads afterwards."""

    partitions: int
    took_s: float
    size: Space
    loads: Loads


class SizeFigures(Struct, frozen=True):
    """All figures of one size. `first_loads`, from the disk, are None if the server could not be restarted."""

    companies: int
    partitions: int
    keys: int
    fill: Filling
    size: Space
    loads_before: Loads
    rewrites: SessionRewrites
    loads_after: Loads
    gets_and_sets: GetsAndSets
    census: CensusTime
    sweep: Sweep
    vacuum: Vacuum
    gathered: Gathered
    first_loads: Times | None = None
    partitioned: Partitioned | None = None

    @property
    def name(self) -> str:
        """The size as tables show it."""
        return f"{self.companies:,}" + (f", {self.partitions} partitions" if self.partitions else "")


class ServerSettings(Struct, frozen=True):
    """The settings of the Postgres server; `own` is true for a server that was started for the measurement."""

    server_version: str
    shared_buffers: str
    effective_cache_size: str
    max_wal_size: str
    random_page_cost: str
    fsync: str
    own: bool


class ScaleMachine(Struct, frozen=True):
    """The machine, and its load before the measurement."""

    cpus: int
    memory_gb: int
    python: str
    postgres: ServerSettings
    load_average_before: float
    measured_on: str


class Scale(Struct, frozen=True):
    """The figures of one run."""

    machine: ScaleMachine
    sizes: tuple[SizeFigures, ...]

    def size(self, companies: int) -> SizeFigures | None:
        """The size with this many companies in a table without partitions."""
        return next((size for size in self.sizes if (size.companies, size.partitions) == (companies, 0)), None)
