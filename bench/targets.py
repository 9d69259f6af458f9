"""The targets, measured: every figure that we hold ourselves to, in one run on one machine.

It starts a PostgreSQL of its own and takes about seven minutes on two cores. The 10,000 companies are a run apart
(`python -m bench.scale`), whose figures are read from its file.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import distance, idle
from bench.gates import sweeping
from bench.gates.operations import OPERATIONS
from bench.machine import commit, this_machine
from bench.peers import measure as peers
from bench.scale import pages
from bench.storms import reconnect as storm_reconnect
from bench.storms import run as storms
from keystore.errors import KeystoreError
from keystore.opening import open_store
from monitor.running.progress import progress_bar
from rig.paths import PROJECT
from rig.postgres_server import database_on, own_postgres

EPILOG = """
Exits with 1 when a target is missed. The figures in README.md and docs/performance.md are made from its JSON:
  python -m bench.targets --json docs/figures/targets.json && python -m bench.report.tables
  python -m bench.report docs/figures/targets.json --out report.html
"""

FIGURES = PROJECT / "docs" / "figures"

SERVER = {"shared_buffers": "512MB"}
"""Of our own PostgreSQL, over its defaults: the tables measured here fit, as they should in production."""

Figures = dict[str, Any]
"""What was measured, by section, as it stands in the JSON."""


@dataclass(frozen=True)
class Target:
    """A line of the table. `met` None: not measured here; `note` says why, or what to know."""

    name: str
    what: str
    target: str
    measured: float | None
    shown: str
    met: bool | None
    note: str = ""


def measure(told: Callable[[int, int], None]) -> tuple[Figures, dict[str, Any]]:
    """Everything, and the machine. Raises KeystoreError."""
    with own_postgres(SERVER) as server:
        sections: dict[str, Callable[[], object]] = {
            "compared": lambda: _compared(server),
            "distance": lambda: [asdict(one) for one in distance.measure(server, distance.ROUND_TRIPS_MS, 5, _silent)],
            "peers": lambda: _optional(peers.measure(server)),
            "storms": lambda: asdict(
                storms.measure(
                    server, storm_reconnect.ROUNDS, storms.ACCOUNTS, storms.COMPANIES, storms.STEADY_S, _silent
                )
            ),
            "rewrites": lambda: _on_a_database(server, lambda url: asdict(pages.rewrites(url))),
            "sweeping": lambda: _on_a_database(server, lambda url: asdict(sweeping.measure(url, _silent))),
            "memory": lambda: _on_a_database(server, _idle),
        }
        figures: Figures = {}
        for done, (name, section) in enumerate(sections.items()):
            told(done, len(sections))
            figures[name] = section()
        node = figures["peers"]["node"] if figures["peers"] else None
        return figures, asdict(this_machine(server, node))


def _silent(_done: int, _total: int) -> None:
    """The sections are what the progress bar counts."""


def _optional(found: peers.Peers | None) -> Figures | None:
    return None if found is None else asdict(found)


def _on_a_database(server: str, section: Callable[[str], Figures]) -> Figures:
    with database_on(server, "bench_targets") as url:
        return section(url)


def _idle(url: str) -> Figures:
    open_store(url).close()  # It migrates: `run.py` finds its tables.
    return asdict(idle.measure(url))


def _compared(server: str) -> list[Figures]:
    found = []
    for operation in OPERATIONS:
        with database_on(server, "bench_targets") as url:
            found.append(asdict(operation.compare(url)))
        with tempfile.TemporaryDirectory(prefix="keystore-targets-") as folder:
            found.append(asdict(operation.compare(f"sqlite:///{folder}/keystore.db")))
    return found


def targets(figures: Figures) -> list[Target]:
    """The table, from the figures of one run (`scale` among them where there are any)."""
    ours = {(one["backend"], one["operation"]): one for one in figures["compared"]}
    far = next(one for one in figures["distance"] if one["round_trip_ms"] == max(distance.ROUND_TRIPS_MS))
    storm, back, steady = (figures["storms"][name] for name in ("reconnect_storm", "restart", "steady"))
    rewrites, swept, memory = figures["rewrites"], figures["sweeping"], figures["memory"]
    return [
        _at_most_bare("load", "load, split by type", ours["postgresql", "load"], 2.0),
        _than_the_diary("load_peers", "load, beside the diary-shaped adapter", figures["peers"], "load", 8.0),
        _at_most_bare("burst_250", "burst of 250", ours["postgresql", "burst 250"], 1.3),
        _than_the_diary("burst_250_peers", "burst of 250, beside it", figures["peers"], "burst_250", 1.8),
        _at_most_bare("burst_812", "burst of 812", ours["postgresql", "burst 812"], 1.3),
        _than_the_diary("burst_812_peers", "burst of 812, beside it", figures["peers"], "burst_812", 1.8),
        _distant("load_far", "load at 100 ms of round trip", far["load"], 1, distance.LOAD_ALLOWANCE_MS),
        _distant("reconnect_far", "reconnect at 100 ms", far["reconnect"], 2, distance.RECONNECT_ALLOWANCE_MS),
        Target(
            "heap_only",
            "heap-only updates under session rewrites",
            "≥ 99 %",
            rewrites["heap_only_percent"],
            f"{rewrites['heap_only_percent']:.2f} %",
            rewrites["heap_only_percent"] >= 99,
            "all of one day; a session's first of a day moves its expiry (docs/scaling.md)",
        ),
        _pages(rewrites),
        _scaled(figures.get("scale")),
        Target(
            "reconnect_storm",
            "reconnect storm, 8 threads",
            "≥ 0.6 × bare psycopg",
            storm["ratio"],
            f"{storm['ratio']:.2f} × ({storm['store_per_s']:,.0f} companies a second)",
            storm["ratio"] >= 0.6,
        ),
        Target(
            "restart",
            f"{back['accounts']} accounts restart at once",
            "≤ 5 s",
            back["took_s"],
            f"{back['took_s']:.2f} s",
            back["took_s"] <= 5,
        ),
        Target(
            "steady",
            f"{steady['companies']:,} companies with steady traffic",
            "≤ 16 connections, no time-out",
            steady["connections"],
            f"{steady['connections']} connections, {steady['pool_timeouts']} time-outs",
            steady["connections"] <= 16 and steady["pool_timeouts"] == 0,
        ),
        Target(
            "gets_during_sweep",
            "gets during a full sweep, p99",
            "≤ 1.5 × without",
            swept["p99_ratio"],
            f"{swept['p99_ratio']:.2f} × ({swept['get_p99_ms_during']:.2f} ms)",
            swept["p99_ratio"] <= 1.5,
        ),
        Target(
            "sweep",
            "sweep",
            "≥ 0.7 × a bare DELETE",
            swept["ratio"],
            f"{swept['ratio']:.2f} × ({swept['keys_per_s']:,.0f} keys a second)",
            swept["ratio"] >= 0.7,
        ),
        _at_most_bare("sqlite_load", "SQLite load", ours["sqlite", "load"], 2.0),
        _at_most_bare("sqlite_burst", "SQLite burst of 250", ours["sqlite", "burst 250"], 2.0),
        Target(
            "memory",
            "memory of an idle run.py, API on, one worker",
            "≤ 90 MB in any process, ≤ 160 MB in all",
            memory["largest_mb"],
            f"{memory['largest_mb']:.0f} MB, {memory['all_mb']:.0f} MB in all",
            memory["largest_mb"] <= 90 and memory["all_mb"] <= 160,
        ),
    ]


def _at_most_bare(name: str, what: str, one: Figures, limit: float) -> Target:
    shown = f"{one['ratio']:.2f} × ({one['store_ms']:.2f} ms)"
    return Target(name, what, f"≤ {limit:g} × bare", one["ratio"], shown, one["ratio"] <= limit)


def _than_the_diary(name: str, what: str, found: Figures | None, act: str, limit: float) -> Target:
    target = f"≥ {limit:g} × faster"
    if found is None:
        return Target(name, what, target, None, "–", None, "no Node here")
    times = found[act]["diary_ms"] / found[act]["store_ms"]
    shown = f"{times:.1f} × ({found[act]['store_ms']:.2f} against {found[act]['diary_ms']:.1f} ms)"
    return Target(name, what, target, round(times, 2), shown, times >= limit)


def _distant(name: str, what: str, took: Figures, round_trips: int, allowance_ms: float) -> Target:
    limit_ms = round_trips * max(distance.ROUND_TRIPS_MS) + allowance_ms
    plural = "s" if round_trips > 1 else ""
    return Target(
        name,
        what,
        f"≤ {round_trips} round trip{plural} + {allowance_ms:g} ms",
        took["ms"],
        f"{took['ms']:.1f} ms in {took['round_trips']}",
        took["round_trips"] <= round_trips and took["ms"] <= limit_ms,
    )


def _pages(rewrites: Figures) -> Target:
    before, after = rewrites["pages_before"], rewrites["pages_after"]
    return Target(
        "pages",
        "pages per load after 100 rewrites per company",
        "≤ 1.05 × before",
        round(after / before, 3),
        f"{after / before:.2f} × ({after:g} of 8 kB)",
        after <= 1.05 * before,
    )


def _scaled(scale: Figures | None) -> Target:
    what, target = "load p50 at 10,000 companies", "≤ 1.3 × at 10"
    by_size = {size["companies"]: size for size in (scale or {}).get("sizes", []) if not size["partitions"]}
    if 10 not in by_size or 10_000 not in by_size:
        return Target("scale", what, target, None, "–", None, "a run apart: python -m bench.scale")
    few, many = (by_size[companies]["loads_before"]["load"]["p50_ms"] for companies in (10, 10_000))
    note = "from bench.scale's last run"
    if "gathered" in by_size[10_000]:
        gathered = [by_size[companies]["gathered"]["loads"]["load"]["p50_ms"] for companies in (10, 10_000)]
        note += f"; {gathered[1] / gathered[0]:.2f} × once gathered (docs/scaling.md)"
    shown = f"{many / few:.2f} × ({many:.2f} ms)"
    return Target("scale", what, target, round(many / few, 2), shown, many <= 1.3 * few, note)


def document(figures: Figures, machine: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What goes into the JSON."""
    return {
        "taken_at": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": dict(machine),
        "targets": [asdict(one) for one in targets(figures)],
        "figures": figures,
    }


def main(args: Sequence[str] | None = None) -> int:
    """Measures everything; 1 when a target is missed or something can't be measured."""
    parser = argparse.ArgumentParser(
        "python -m bench.targets",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--scale", type=Path, metavar="FILE", default=FIGURES / "scale.json", help="the figures of bench.scale"
    )
    given = parser.parse_args(args)
    try:
        if given.json:
            given.json.touch()  # Before the work, not after it.
        scale = json.loads(given.scale.read_text(encoding="utf-8")) if given.scale.exists() else None
        with progress_bar("targets") as told:
            figures, machine = measure(told)
        found = document({**figures, "scale": scale}, machine, datetime.now(UTC))
        if given.json:
            given.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except KeystoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = [Target(**one) for one in found["targets"]]
    print(table(lines))
    return 1 if any(one.met is False for one in lines) else 0


def table(lines: Sequence[Target]) -> str:
    """As text, for a terminal."""
    verdicts = {True: "pass", False: "MISS", None: "–"}
    rows = [("what", "target", "measured", "", "")] + [
        (one.what, one.target, one.shown, verdicts[one.met], one.note) for one in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main())
