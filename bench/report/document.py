"""The figures of `bench.targets` as one HTML page: which targets were met, charts, and the machine.

Beside its file, that of `bench.scale.run` may be given. What wasn't measured isn't on the page.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.distance import RECONNECT_BUDGET_MS, Distance
from bench.gates.operations import Compared
from bench.peers.measure import Act, Peers
from bench.report.charts import Bar, Limit, Line, bars, lines
from bench.report.page import Markup, page, table, tag
from bench.storms.reconnect import ReconnectStorm
from bench.storms.run import CONNECTIONS_LIMIT, RESTART_LIMIT_S, Restart, Steady
from keystore.errors import KeystoreError

TITLE = "Signal Keystore: how fast"

DATABASES = {"postgresql": "PostgreSQL", "postgres": "PostgreSQL", "sqlite": "SQLite"}
NO_BREAK = "\u00a0"
"""A space that keeps a number and its unit on one line."""

VERDICTS = {True: ("met", "✓ met"), False: ("missed", "✗ missed"), None: ("open", "–")}


@dataclass(frozen=True)
class Target:
    """One row of the issue's table; `met` None: not measured in this run."""

    name: str
    what: str
    target: str
    shown: str
    met: bool | None
    measured: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Storms:
    """Those that were measured."""

    reconnect_storm: ReconnectStorm | None = None
    restart: Restart | None = None
    steady: Steady | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Loads:
    """Loads at one size, a bare select's times, and how many pages one touches."""

    load: Times
    bare: Times
    pages: float


@dataclass(frozen=True)
class Size:
    """One size of `bench.scale.run`."""

    companies: int
    partitions: int
    keys: int
    loads_before: Loads
    loads_after: Loads


@dataclass(frozen=True)
class Scale:
    """What `bench.scale.run` wrote."""

    sizes: list[Size]


@dataclass(frozen=True)
class Figures:
    """What the targets were told from; None or empty where it wasn't measured."""

    compared: Sequence[Compared] = ()
    distance: Sequence[Distance] = ()
    peers: Peers | None = None
    storms: Storms | None = None
    scale: Scale | None = None
    rewrites: dict[str, Any] | None = None
    sweeping: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """What `bench.targets` wrote."""

    taken_at: datetime
    machine: dict[str, str | int | float | None]
    targets: list[Target]
    figures: Figures
    commit: str | None = None


def read(files: Sequence[Path]) -> Run:
    """The run of `bench.targets` in these files, with the sizes of `bench.scale.run` where one of them has those.

    Raises KeystoreError for a file of neither, and for any but one run.
    """
    runs, scales = [], []
    for file in files:
        found = _read(file)
        if isinstance(found, Run):
            runs.append(found)
        else:
            scales.append(found)
    if len(runs) != 1 or len(scales) > 1:
        raise KeystoreError("one file of bench.targets is wanted, and one of bench.scale at most")
    run = runs[0]
    return replace(run, figures=replace(run.figures, scale=scales[0])) if scales else run


def _read(file: Path) -> Run | Scale:
    text = file.read_bytes()
    wanted: TypeAdapter[Run | Scale] = TypeAdapter(Scale if b'"sizes"' in text and b'"targets"' not in text else Run)
    try:
        return wanted.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeystoreError(f"{file} is not what bench.targets writes: {where}: {first['msg']}") from error


def html(run: Run) -> str:
    """The page."""
    figures = run.figures
    sections: list[Markup] = [*_verdict(run), *_targets(run.targets)]
    sections += _compared(figures.compared)
    sections += _distance(figures.distance)
    sections += _peers(figures.peers) if figures.peers else []
    sections += _storms(figures.storms) if figures.storms else []
    sections += _scale(figures.scale) if figures.scale else []
    sections += _facts("Rewrites of sessions", figures.rewrites) if figures.rewrites else []
    sections += _facts("Sweeping", figures.sweeping) if figures.sweeping else []
    sections += _facts("Memory", figures.memory) if figures.memory else []
    sections += _facts("The machine", run.machine)
    return page(TITLE, *sections)


def _verdict(run: Run) -> Iterator[Markup]:
    told = [target for target in run.targets if target.met is not None]
    missed = [target.what for target in told if not target.met]
    yield tag("h1", TITLE)
    taken = run.taken_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield tag("p", f"Measured {taken}" + (f", commit {run.commit}" if run.commit else ""), of="faint")
    verdict = f"{len(told) - len(missed)} of {len(told)} targets met."
    if missed:
        yield tag("p", f"{verdict} Missed: {'; '.join(missed)}.", of="verdict missed")
    else:
        yield tag("p", verdict, of="verdict")


def _targets(targets: Sequence[Target]) -> Iterator[Markup]:
    yield tag("h2", "Targets")
    rows = []
    for target in targets:
        of, verdict = VERDICTS[target.met]
        note = [tag("span", target.note, of="note")] if target.note else []
        asked, shown = tag("td", target.target, of="target"), tag("td", target.shown, of="measured")
        cells = (asked, shown, tag("td", verdict, of=of))
        rows.append(tag("tr", tag("th", target.what, *note, scope="row"), *cells))
    heads = tag("tr", *(tag("th", head, scope="col") for head in ("what", "target", "measured", "")))
    yield tag("table", tag("thead", heads), tag("tbody", *rows), of="targets")


def _compared(compared: Sequence[Compared]) -> Iterator[Markup]:
    if not compared:
        return
    yield tag("h2", "Against the bare driver")
    yield tag("p", "How many times as long the store takes as the bare driver for the same rows; the line is at 1.")
    longest = max(one.ratio for one in compared)
    for backend in dict.fromkeys(one.backend for one in compared):
        ratios = [
            Bar(one.operation, one.ratio, "ours", _times(one.ratio), f"{_ms(one.store_ms)}, bare {_ms(one.driver_ms)}")
            for one in compared
            if one.backend == backend
        ]
        yield bars(DATABASES.get(backend, backend), ratios, mark=1.0, longest=longest)


def _distance(distances: Sequence[Distance]) -> Iterator[Markup]:
    if not distances:
        return
    yield tag("h2", "Far from the database")
    yield tag(
        "p",
        "A load and a reconnect (a load and a burst of 250 pre-keys) behind a relay that is as far away as it says; "
        "beside them a load as the diary did it: one question for each key type.",
    )
    acts = [
        Line("load", [(one.round_trip_ms, one.load.ms) for one in distances], "ours"),
        Line("reconnect", [(one.round_trip_ms, one.reconnect.ms) for one in distances], "ours", dashed=True),
        Line("the diary's load", [(one.round_trip_ms, one.diary_load.ms) for one in distances], "diary"),
    ]
    budget = Limit(f"budget, {RECONNECT_BUDGET_MS:g} ms", RECONNECT_BUDGET_MS)
    yield lines("Time over round-trip time; the table below has the numbers", "round-trip time, ms", "ms", acts, budget)
    yield table(
        ["round trip", "load", "reconnect", "the diary's load"],
        [
            [f"{one.round_trip_ms:g}{NO_BREAK}ms"]
            + [f"{_ms(took.ms)} in {took.round_trips}" for took in (one.load, one.reconnect, one.diary_load)]
            for one in distances
        ],
        "Time, and in how many round trips",
        numbers=3,
    )


def _peers(peers: Peers) -> Iterator[Markup]:
    yield tag("h2", "Against what bots use")
    yield tag(
        "p",
        f"The same {peers.keys:,} keys in the store, in a pg adapter of the diary's shape and in Baileys' own "
        f"useMultiFileAuthState; medians of {peers.rounds} rounds in turn. Node {peers.node}, Baileys {peers.baileys}, "
        f"pg {peers.pg}. Theirs hold the making of JSON and of Baileys' values, which a bot on the store does itself; "
        "nothing waits for the disk where the files are.",
    )
    yield _peers_bars("load", peers.load)
    yield _peers_bars("burst of 250", peers.burst_250)
    yield _peers_bars("burst of 812", peers.burst_812)


def _peers_bars(name: str, act: Act) -> Markup:
    return bars(
        name,
        [
            Bar("store", act.store_ms, "ours", _ms(act.store_ms)),
            Bar("diary-shaped adapter", act.diary_ms, "diary", _ms(act.diary_ms), _times(act.diary_times)),
            Bar("multi-file", act.files_ms, "files", _ms(act.files_ms), _times(act.files_times)),
            Bar("Baileys' JSON alone", act.json_ms, "bare", _ms(act.json_ms)),
        ],
    )


def _storms(storms: Storms) -> Iterator[Markup]:
    yield tag("h2", "Storms")
    if storms.reconnect_storm:
        storm = storms.reconnect_storm
        what = f"{storm.companies:,} companies reconnect on {storm.threads} threads: companies a second"
        yield bars(
            f"{what}; the store's are {storm.ratio:.2f} × the bare driver's",
            [
                Bar("store", storm.store_per_s, "ours", f"{storm.store_per_s:,.0f}/s"),
                Bar("bare driver", storm.bare_per_s, "bare", f"{storm.bare_per_s:,.0f}/s"),
            ],
        )
    if storms.restart:
        back = storms.restart
        told = f"{back.keys_read:,} keys read and {back.keys_written:,} written"
        yield bars(
            f"{back.accounts:,} accounts restart at once: {told}; the line is the limit, {RESTART_LIMIT_S:g} s",
            [Bar("until the last is back", back.took_s, "ours", f"{back.took_s:,.2f} s")],
            mark=RESTART_LIMIT_S,
        )
    if storms.steady:
        steady = storms.steady
        yield bars(
            f"{steady.companies:,} companies with steady traffic, {steady.per_s:,.0f} messages a second, "
            f"{steady.pool_timeouts:,} pool time-outs; the line is the limit, {CONNECTIONS_LIMIT:,}",
            [Bar("connections", steady.connections, "ours", f"{steady.connections:,}")],
            mark=CONNECTIONS_LIMIT,
        )


def _scale(scale: Scale) -> Iterator[Markup]:
    yield tag("h2", "Many companies")
    ways = {0: [one for one in scale.sizes if not one.partitions], 1: [one for one in scale.sizes if one.partitions]}
    drawn, pages = [], []
    for partitioned, sizes in ways.items():
        if sizes:
            whose, way = ("diary", ", partitioned") if partitioned else ("ours", "")
            loads = [(one.companies, one.loads_before.load) for one in sizes]
            drawn.append(Line(f"p50{way}", [(at, times.p50_ms) for at, times in loads], whose))
            drawn.append(Line(f"p99{way}", [(at, times.p99_ms) for at, times in loads], whose, dashed=True))
            pages.append(Line(f"pages{way}", [(one.companies, one.loads_before.pages) for one in sizes], whose))
    told = "over the number of companies; the table below has the numbers"
    yield lines(f"Time of a load {told}", "companies", "a load, ms", drawn, log=True)
    yield lines(f"Pages that a load touches {told}", "companies", "pages a load touches", pages, log=True)
    yield table(
        ["companies", "keys", "load p50 / p99", "bare select", "pages", "after rewrites"],
        [
            [
                f"{one.companies:,}" + (f", {one.partitions} partitions" if one.partitions else ""),
                f"{one.keys:,}",
                _both(one.loads_before.load),
                _both(one.loads_before.bare),
                f"{one.loads_before.pages:,.0f}",
                f"{_both(one.loads_after.load)}, {one.loads_after.pages:,.0f} pages",
            ]
            for one in scale.sizes
        ],
        numbers=5,
    )


def _facts(title: str, facts: Mapping[str, Any]) -> Iterator[Markup]:
    """Whatever is in there, as name and value."""
    yield tag("h2", title)
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", told, of="number")) for name, told in _named(facts))
    yield tag("div", tag("table", tag("tbody", *rows)), of="wide")


def _named(facts: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        called = within + name.replace("_", " ")
        if isinstance(value, dict):
            yield from _named(value, f"{called}: ")
        elif value is not None:
            yield called, f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _ms(ms: float) -> str:
    """With so many decimals as matter."""
    return f"{ms:,.{3 if ms < 0.1 else 2 if ms < 10 else 1 if ms < 1_000 else 0}f}{NO_BREAK}ms"


def _times(ratio: float) -> str:
    return f"{ratio:,.2f}{NO_BREAK}×"


def _both(times: Times) -> str:
    return f"{_ms(times.p50_ms)} / {_ms(times.p99_ms)}"


def main(args: Sequence[str] | None = None) -> int:
    """Writes the page; 1 when a file can't be read or isn't one of ours."""
    parser = argparse.ArgumentParser("python -m bench.report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="of bench.targets, and of bench.scale")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page to write")
    given = parser.parse_args(args)
    try:
        given.out.write_text(html(read(given.files)), encoding="utf-8")
    except KeystoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {given.out}")
    return 0
