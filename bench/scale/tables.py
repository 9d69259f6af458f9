"""The figures of `bench.scale` as Markdown: the tables of docs/scaling.md, and the targets of each size."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.limits import Limit, Target
from bench.measuring import Times
from bench.scale.figures import Loads, Scale, SizeFigures
from bench.scale.pages import HEAP_ONLY_LIMIT, PAGES_LIMIT
from keystore.errors import KeystoreError

BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"

ACCOUNTS, MESSAGES_A_DAY, NEW_KEYS_A_DAY = 1_000_000, 100, 61
"""The accounts and the traffic of the projection; the keys are those of the original operator's account."""

LEAST_REWRITES = 1_000
"""The smallest number of rewrites of which a share is exact to a hundredth."""

LOAD_LIMIT = Limit(1.3, "×")

Columns = Mapping[str, Callable[[SizeFigures], str]]
Row = Sequence[str]


def targets(scale: Scale) -> list[Target]:
    """The targets that can be judged by these sizes."""
    rows = [target for size in scale.sizes for target in _rewrite_targets(size)]
    whole = [size for size in scale.sizes if not size.partitions]
    small, large = whole[0], whole[-1]
    if small is not large:
        loads = {
            "as they came": (small.loads_before, large.loads_before),
            "gathered": (small.gathered.loads, large.gathered.loads),
        }
        if small.partitioned and large.partitioned:
            loads["partitioned"] = small.partitioned.loads, large.partitioned.loads
        for keys, few_and_many in loads.items():
            ratio = _load_ratio(*few_and_many)
            what = f"median load at {large.companies:,} companies against {small.companies:,}, keys {keys}"
            rows.append(Target.judged("load", what, f"{ratio:.2f} ×", (ratio, LOAD_LIMIT)))
    return rows


def _rewrite_targets(size: SizeFigures) -> Iterator[Target]:
    first, again = size.rewrites.first, size.rewrites.again
    if again.rewrites >= LEAST_REWRITES:
        heap_only = first.rewrites * first.heap_only_percent + again.rewrites * again.heap_only_percent
        percent_of_all = heap_only / (first.rewrites + again.rewrites)
        for name, kind, percent in (
            ("heap_only", "all session rewrites", percent_of_all),
            ("heap_only_again", "those of sessions used that day already", again.heap_only_percent),
        ):
            what = f"heap-only, {kind}, {size.name}"
            yield Target.judged(name, what, f"{percent:.2f} %", (percent, HEAP_ONLY_LIMIT))
    ratio = again.pages / size.rewrites.pages_before
    what = f"pages of a load after {size.rewrites.each} rewrites per company, {size.name}"
    yield Target.judged("pages", what, f"{ratio:.3f} ×", (ratio, PAGES_LIMIT))


def load_target(scale: Scale | None) -> Target:
    """The target of `bench.targets`, of gathered keys (decision 28); unmeasured without both sizes."""
    name, what = "scale", "median load at 10,000 companies against 10, keys gathered"
    few, many = (scale.size(10), scale.size(10_000)) if scale else (None, None)
    if few is None or many is None:
        return Target.unmeasured(name, what, LOAD_LIMIT, "a run of its own: python -m bench.scale")
    ratio = _load_ratio(few.loads_before, many.loads_before)
    gathered = _load_ratio(few.gathered.loads, many.gathered.loads)
    scattered = f"{ratio:.2f} × ({many.loads_before.load.p50_ms:.2f} ms) as they came"
    note = f"from the last run of bench.scale; {scattered} (docs/scaling.md)"
    shown = f"{gathered:.2f} × ({many.gathered.loads.load.p50_ms:.2f} ms)"
    return Target.judged(name, what, shown, (gathered, LOAD_LIMIT), note=note)


def _load_ratio(few: Loads, many: Loads) -> float:
    return many.load.p50_ms / few.load.p50_ms


def tables(scale: Scale) -> str:
    """All figures, as Markdown."""
    machine, postgres = scale.machine, scale.machine.postgres
    verdicts = [(row.what, row.target, row.shown, "met" if row.met else "**missed**") for row in targets(scale)]
    parts = [
        f"Measured on {machine.measured_on}: {machine.cpus} CPUs, {machine.memory_gb} GB of memory, "
        f"PostgreSQL {postgres.server_version} on the same machine, `shared_buffers` {postgres.shared_buffers}, "
        f"Python {machine.python}; the machine's load was {machine.load_average_before:g} before it began.",
        *(
            markdown_table(
                [title, *map(str.strip, columns)],
                [[size.name, *(column(size) for column in columns.values())] for size in scale.sizes],
            )
            for title, columns in SIZE_TABLES.items()
        ),
        *_partitioned(scale.sizes),
        _projection([size for size in scale.sizes if not size.partitions][-1]),
        markdown_table(["target", "wanted", "measured", ""], verdicts),
    ]
    return "\n\n".join(parts)


def with_tables(text: str, scale: Scale) -> str:
    """The document with the tables between its markers. Raises KeystoreError if it has no markers."""
    before, after = split_at_markers(text)
    return f"{before}{BEGIN}\n{tables(scale)}\n{END}{after}"


def split_at_markers(text: str) -> tuple[str, str]:
    """The document before and after its tables. Raises KeystoreError if it has no markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise KeystoreError(f"the document has no place for the tables: {BEGIN} and {END}")
    return before, after


def markdown_table(head: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _partitioned(sizes: Sequence[SizeFigures]) -> list[str]:
    """The cost of the migration to partitions and loads after it, if there was one."""

    rows = []
    for name, after in ((size.name, size.partitioned) for size in sizes if size.partitioned):
        migration = f"{after.partitions}", f"{after.took_s:,.1f} s", f"{after.size.total_mb:,.0f} MB"
        loads = _times(after.loads.load), _times(after.loads.bare), f"{after.loads.pages:,.0f}"
        rows.append((name, *migration, *loads))
    head = ["then migrated to partitions", "partitions", "migration", "all", "load", "plain SELECT", "pages"]
    return [markdown_table(head, rows)] if rows else []


def _projection(size: SizeFigures) -> str:
    """The largest measured size, and a million companies in proportion, with the load of their traffic."""
    more = ACCOUNTS / size.companies
    gathered, per_s = size.gathered, [companies / 86_400 for companies in (size.companies, ACCOUNTS)]
    swept_a_day = size.companies * NEW_KEYS_A_DAY
    rows = [
        ("keys", f"{size.keys:,}", f"{size.keys * more:,.0f}"),
        ("table, indexes, outside values", *_gb(size.size.total_mb, more)),
        ("the same while gathering", *_gb(gathered.size.total_mb, more)),
        ("gathering", *_hours(gathered.took_s, more)),
        ("census", *_hours(size.census.ms / 1000, more)),
        (f"sweep of a day ({NEW_KEYS_A_DAY} keys each)", *_hours(swept_a_day / size.sweep.keys_per_s, more)),
        ("vacuum of all of it, at autovacuum's pace", *_hours(size.vacuum.took_s, more)),
        (f"sets, at {MESSAGES_A_DAY} messages a day each", *(f"{a_day * MESSAGES_A_DAY:,.1f}/s" for a_day in per_s)),
        ("loads, at one a day each", *(f"{a_day:,.2f}/s" for a_day in per_s)),
    ]
    table = markdown_table(["", f"{size.companies:,}", f"{ACCOUNTS:,}, in proportion"], rows)
    return f"{table}\n\nRewrites reached here, {size.companies:,} companies: {size.rewrites.again.per_s:,}/s."


def _times(times: Times | None) -> str:
    return f"{times.p50_ms:,.2f} / {times.p99_ms:,.2f} ms" if times else ""


def _gb(megabytes: float, more: float) -> tuple[str, str]:
    return f"{megabytes / 1000:,.1f} GB", f"{megabytes / 1000 * more:,.0f} GB"


def _hours(seconds: float, more: float) -> tuple[str, str]:
    return f"{seconds:,.0f} s", f"{seconds * more / 3600:,.1f} h"


def _during(without: Times, during: Times) -> str:
    return f"{_times(without)} → {_times(during)}"


SIZE_TABLES: Mapping[str, Columns] = {
    "space": {
        "keys": lambda size: f"{size.keys:,}",
        "table": lambda size: f"{size.size.table_mb:,.0f} MB",
        "indexes": lambda size: f"{size.size.indexes_mb:,.0f} MB",
        "all": lambda size: f"{size.size.total_mb:,.0f} MB",
        "a key": lambda size: f"{size.size.bytes_per_key:,} bytes",
        "filled at": lambda size: f"{size.fill.keys_per_s:,} keys/s",
    },
    "a load, p50 / p99": {
        "load": lambda size: _times(size.loads_before.load),
        "plain SELECT": lambda size: _times(size.loads_before.bare),
        "pages": lambda size: f"{size.loads_before.pages:,.0f}",
        "plan": lambda size: size.loads_before.plan,
        "load after rewrites": lambda size: _times(size.loads_after.load),
        "plain SELECT after rewrites": lambda size: _times(size.loads_after.bare),
        "first load, from the disk": lambda size: _times(size.first_loads),
    },
    "rewrites of sessions": {
        "first of the day": lambda size: f"{size.rewrites.first.rewrites:,}",
        "heap-only": lambda size: f"{size.rewrites.first.heap_only_percent:g} %",
        "again": lambda size: f"{size.rewrites.again.rewrites:,}",
        "heap-only ": lambda size: f"{size.rewrites.again.heap_only_percent:g} %",
        "pages of a load": lambda size: " → ".join(
            f"{pages:,.0f}"
            for pages in (size.rewrites.pages_before, size.rewrites.first.pages, size.rewrites.again.pages)
        ),
    },
    "gets, sets, upkeep": {
        "get of 1": lambda size: _times(size.gets_and_sets.get),
        "set of 1": lambda size: _times(size.gets_and_sets.set),
        "census": lambda size: f"{size.census.ms / 1000:,.2f} s",
        "sweep": lambda size: f"{size.sweep.deleted:,} keys in {size.sweep.took_s:,.2f} s, {size.sweep.keys_per_s:,}/s",
        "vacuum, at autovacuum's pace": lambda size: (
            f"{size.vacuum.took_s:,.1f} s for {size.vacuum.dead_before:,} dead rows"
        ),
    },
    "without → during a sweep or a vacuum, p50 / p99": {
        "load, sweep": lambda size: _during(size.sweep.beside.load_alone, size.sweep.beside.load),
        "get, sweep": lambda size: _during(size.sweep.beside.get_alone, size.sweep.beside.get),
        "load, vacuum": lambda size: _during(size.vacuum.beside.load_alone, size.vacuum.beside.load),
        "get, vacuum": lambda size: _during(size.vacuum.beside.get_alone, size.vacuum.beside.get),
    },
    "keys gathered by company": {
        "load": lambda size: _times(size.gathered.loads.load),
        "plain SELECT": lambda size: _times(size.gathered.loads.bare),
        "pages": lambda size: f"{size.gathered.loads.pages:,.0f}",
        "after rewrites": lambda size: f"{size.gathered.rewrites.again.pages:,.0f}",
        "first load, from the disk": lambda size: _times(size.gathered.first_loads),
        "gathering took": lambda size: f"{size.gathered.took_s:,.1f} s",
        "get, without → during it": lambda size: _during(size.gathered.beside.get_alone, size.gathered.beside.get),
        "load, without → during it": lambda size: _during(size.gathered.beside.load_alone, size.gathered.beside.load),
        "all": lambda size: f"{size.gathered.size.total_mb:,.0f} MB",
    },
}
"""The tables with a row for each size: by title, the columns in their order."""
