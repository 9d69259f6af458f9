"""The figures of `bench.scale.run` as Markdown: the tables of docs/scaling.md, and what they say of the targets."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.scale.site import Figures
from keystore.errors import KeystoreError

BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"

HEAP_ONLY_PERCENT, PAGES_RATIO, LOAD_RATIO = 99.0, 1.05, 1.3
ACCOUNTS, MESSAGES_A_DAY, NEW_KEYS_A_DAY = 1_000_000, 100, 61
"""How far the arithmetic goes, and with what traffic: the keys are those of the diary's account."""

LEAST_REWRITES = 1_000
"""Of which a share can be told to a hundredth."""


@dataclass(frozen=True)
class Target:
    """One of the issue's targets: what was measured, and whether that is what was wanted."""

    what: str
    wanted: str
    measured: str
    met: bool


def targets(figures: Figures) -> list[Target]:
    """Those that can be told from these sizes."""
    found = []
    for size in figures["sizes"]:
        rewrites = size["rewrites"]
        if rewrites["again"]["rewrites"] >= LEAST_REWRITES:
            found.append(_heap_only("all session rewrites", size, "first", "again"))
            found.append(_heap_only("those of sessions used that day already", size, "again"))
        ratio = rewrites["again"]["pages"] / rewrites["pages_before"]
        found.append(
            Target(
                f"pages of a load after {rewrites['each']} rewrites per company, {_name(size)}",
                f"≤ {PAGES_RATIO:g} ×",
                f"{ratio:.3f} ×",
                ratio <= PAGES_RATIO,
            )
        )
    whole = [size for size in figures["sizes"] if not size["partitions"]]
    small, large = whole[0], whole[-1]
    if small is not large:
        for what, loads in (("as they came", "loads_before"), ("gathered", "gathered"), ("partitioned", "partitioned")):
            if loads not in large:
                continue
            found.append(_ratio(what, small, large, loads))
    return found


def _heap_only(what: str, size: Figures, *kinds: str) -> Target:
    kept = [size["rewrites"][kind] for kind in kinds]
    total = sum(one["rewrites"] for one in kept)
    percent = sum(one["rewrites"] * one["heap_only_percent"] for one in kept) / total
    told = f"heap-only, {what}, {_name(size)}"
    return Target(told, f"≥ {HEAP_ONLY_PERCENT:g} %", f"{percent:.2f} %", percent >= HEAP_ONLY_PERCENT)


def _ratio(what: str, small: Figures, large: Figures, loads: str) -> Target:
    few, many = (size[loads].get("loads", size[loads])["load"]["p50_ms"] for size in (small, large))
    told = f"load p50 at {large['companies']:,} companies against {small['companies']:,}, keys {what}"
    return Target(told, f"≤ {LOAD_RATIO:g} ×", f"{many / few:.2f} ×", many / few <= LOAD_RATIO)


def tables(figures: Figures) -> str:
    """Everything that was measured, as Markdown."""
    machine, sizes = figures["machine"], figures["sizes"]
    postgres = machine["postgres"]
    parts = [
        f"Measured on {machine['measured_on']}: {machine['cpus']} CPUs, {machine['memory_gb']} GB of memory, "
        f"PostgreSQL {postgres['server_version']} on the same machine, `shared_buffers` {postgres['shared_buffers']}, "
        f"Python {machine['python']}; the machine's load was {machine['load_average_before']:g} before it began.",
        _table(
            "space",
            sizes,
            {
                "keys": lambda size: f"{size['keys']:,}",
                "table": lambda size: f"{size['size']['table_mb']:,.0f} MB",
                "indexes": lambda size: f"{size['size']['indexes_mb']:,.0f} MB",
                "all": lambda size: f"{size['size']['total_mb']:,.0f} MB",
                "a key": lambda size: f"{size['size']['bytes_per_key']:,} bytes",
                "filled at": lambda size: f"{size['fill']['keys_per_s']:,} keys/s",
            },
        ),
        _table(
            "a load, p50 / p99",
            sizes,
            {
                "load": lambda size: _times(size["loads_before"]["load"]),
                "bare select": lambda size: _times(size["loads_before"]["bare"]),
                "pages": lambda size: f"{size['loads_before']['pages']:,.0f}",
                "by": lambda size: size["loads_before"]["plan"],
                "load after rewrites": lambda size: _times(size["loads_after"]["load"]),
                "bare": lambda size: _times(size["loads_after"]["bare"]),
                "first, from the disk": lambda size: _optional(size["first_loads"]),
            },
        ),
        _table(
            "rewrites of sessions",
            sizes,
            {
                "first of the day": lambda size: f"{size['rewrites']['first']['rewrites']:,}",
                "heap-only": lambda size: f"{size['rewrites']['first']['heap_only_percent']:g} %",
                "again": lambda size: f"{size['rewrites']['again']['rewrites']:,}",
                "heap-only ": lambda size: f"{size['rewrites']['again']['heap_only_percent']:g} %",
                "pages of a load": lambda size: " → ".join(f"{pages:,.0f}" for pages in _pages(size["rewrites"])),
            },
        ),
        _table(
            "gets, sets, upkeep",
            sizes,
            {
                "get of 1": lambda size: _times(size["gets_and_sets"]["get"]),
                "set of 1": lambda size: _times(size["gets_and_sets"]["set"]),
                "census": lambda size: f"{size['census']['ms'] / 1000:,.2f} s",
                "sweep": lambda size: (
                    f"{size['sweep']['deleted']:,} keys in {size['sweep']['took_s']:,.2f} s, "
                    f"{size['sweep']['keys_per_s']:,}/s"
                ),
                "vacuum, at autovacuum's pace": lambda size: (
                    f"{size['vacuum']['took_s']:,.1f} s for {size['vacuum']['dead_before']:,} dead rows"
                ),
            },
        ),
        _table(
            "beside a sweep and a vacuum, p50 / p99",
            sizes,
            {
                "load beside a sweep": lambda size: _beside(size["sweep"]["beside"], "load"),
                "get beside a sweep": lambda size: _beside(size["sweep"]["beside"], "get"),
                "load beside a vacuum": lambda size: _beside(size["vacuum"]["beside"], "load"),
                "get beside a vacuum": lambda size: _beside(size["vacuum"]["beside"], "get"),
            },
        ),
        _table(
            "keys gathered by company",
            sizes,
            {
                "load": lambda size: _times(size["gathered"]["loads"]["load"]),
                "bare select": lambda size: _times(size["gathered"]["loads"]["bare"]),
                "pages": lambda size: f"{size['gathered']['loads']['pages']:,.0f}",
                "after rewrites": lambda size: f"{_pages(size['gathered']['rewrites'])[-1]:,.0f}",
                "first, from the disk": lambda size: _optional(size["gathered"]["first_loads"]),
                "gathering took": lambda size: f"{size['gathered']['took_s']:,.1f} s",
                "get beside it": lambda size: _beside(size["gathered"]["beside"], "get"),
                "load beside it": lambda size: _beside(size["gathered"]["beside"], "load"),
                "all": lambda size: f"{size['gathered']['size']['total_mb']:,.0f} MB",
            },
        ),
        *_partitioned([size for size in sizes if "partitioned" in size]),
        _million([size for size in sizes if not size["partitions"]][-1]),
        "| target | wanted | measured | |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {one.what} | {one.wanted} | {one.measured} | {'met' if one.met else '**missed**'} |"
            for one in targets(figures)
        ),
    ]
    return "\n\n".join(parts)


def with_tables(text: str, figures: Figures) -> str:
    """A document with the tables between its markers. Raises KeystoreError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise KeystoreError(f"the document has no place for the tables: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables(figures)}\n{END}{after}"


def _table(what: str, sizes: list[Figures], columns: dict[str, Callable[[Figures], str]]) -> str:
    """A row for each size."""
    lines = [" | ".join([what, *map(str.strip, columns)]), "|".join(["---"] * (len(columns) + 1))]
    lines += [" | ".join([_name(size), *(told(size) for told in columns.values())]) for size in sizes]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _name(size: Figures) -> str:
    return f"{size['companies']:,}" + (f", {size['partitions']} partitions" if size["partitions"] else "")


def _times(times: Figures) -> str:
    return f"{times['p50_ms']:,.2f} / {times['p99_ms']:,.2f} ms"


def _partitioned(sizes: list[Figures]) -> list[str]:
    """What the migration to partitions took and gave, where there was one."""
    if not sizes:
        return []
    columns: dict[str, Callable[[Figures], str]] = {
        "partitions": lambda size: f"{size['partitioned']['partitions']}",
        "the migration took": lambda size: f"{size['partitioned']['took_s']:,.1f} s",
        "all": lambda size: f"{size['partitioned']['size']['total_mb']:,.0f} MB",
        "load": lambda size: _times(size["partitioned"]["loads"]["load"]),
        "bare select": lambda size: _times(size["partitioned"]["loads"]["bare"]),
        "pages": lambda size: f"{size['partitioned']['loads']['pages']:,.0f}",
    }
    return [_table("then made into partitions", sizes, columns)]


def _million(size: Figures) -> str:
    """The largest that was measured, and a million by proportion; what traffic asks for, and what was reached."""
    more = ACCOUNTS / size["companies"]
    day_s, gathered = 86_400, size["gathered"]
    swept_a_day = size["companies"] * NEW_KEYS_A_DAY
    rows = [
        ("keys", f"{size['keys']:,}", f"{size['keys'] * more:,.0f}"),
        ("table, indexes, outside values", *_gb(size["size"]["total_mb"], more)),
        ("the same while gathering", *_gb(gathered["size"]["total_mb"], more)),
        ("gathering", *_hours(gathered["took_s"], more)),
        ("census", *_hours(size["census"]["ms"] / 1000, more)),
        (f"sweep of a day ({NEW_KEYS_A_DAY} keys each)", *_hours(swept_a_day / size["sweep"]["keys_per_s"], more)),
        ("vacuum of all of it, at autovacuum's pace", *_hours(size["vacuum"]["took_s"], more)),
        (
            f"sets, at {MESSAGES_A_DAY} messages a day each",
            *(f"{companies * MESSAGES_A_DAY / day_s:,.1f}/s" for companies in (size["companies"], ACCOUNTS)),
        ),
        ("loads, at one a day each", *(f"{companies / day_s:,.2f}/s" for companies in (size["companies"], ACCOUNTS))),
    ]
    head = ["", f"{size['companies']:,}", f"{ACCOUNTS:,}, by proportion"]
    told = "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * 3, *rows])
    return (
        f"{told}\n\nRewrites reached here, {size['companies']:,} companies: {size['rewrites']['again']['per_s']:,}/s."
    )


def _gb(megabytes: float, more: float) -> tuple[str, str]:
    return f"{megabytes / 1000:,.1f} GB", f"{megabytes / 1000 * more:,.0f} GB"


def _hours(seconds: float, more: float) -> tuple[str, str]:
    return f"{seconds:,.0f} s", f"{seconds * more / 3600:,.1f} h"


def _optional(times: Figures | None) -> str:
    return "" if times is None else _times(times)


def _pages(rewrites: Figures) -> tuple[float, ...]:
    return rewrites["pages_before"], rewrites["first"]["pages"], rewrites["again"]["pages"]


def _beside(times: Figures, what: str) -> str:
    """Alone, and beside."""
    return f"{_times(times[f'{what}_alone'])} → {_times(times[what])}"
