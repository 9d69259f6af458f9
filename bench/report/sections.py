"""The contents of the report page, section by section, as values that `page.html` renders."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import asdict

from bench.distance import RECONNECT_BUDGET, Distance
from bench.gates.operations import Compared
from bench.gates.sealed import Sealed
from bench.gates.sweeping import Sweeping
from bench.idle import Idle
from bench.machine import Machine
from bench.measuring import Times
from bench.peers.measure import Act, Peers
from bench.report.charts import Bar, Bars, Line, drawing
from bench.report.tables import DATABASES
from bench.scale.figures import Scale
from bench.scale.pages import Rewrites
from bench.seat.figures import Row, Seat
from bench.seat.tables import TITLES
from bench.storms.measure import Storms
from bench.storms.restart import RESTART_LIMIT
from bench.storms.steady import CONNECTIONS_LIMIT
from bench.targets import Run

DISTANCE_LINES = (("load", "ours", False), ("reconnect", "ours", True), ("legacy load", "legacy", False))
"""The lines of the chart of distances: the act, the colour, and True for a dashed line."""

SEAT_COLOURS = {
    "straight": "ours",
    "straight_sealed": "ours",
    "http": "ours",
    "http_sqlite": "ours",
    "adapter": "legacy",
    "limit": "bare",
}
"""The colours of the stores in the charts of the bot's seat; the others have that of files."""

NO_BREAK = "\u00a0"
"""A space that keeps a number and its unit on one line."""


class Table(Struct, frozen=True):
    """Rows under their heads; the first cell names its row, the others are numbers."""

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    caption: str = ""


class Section(Struct, frozen=True):
    """One section of the page, rendered in this order."""

    title: str
    text: str = ""
    bars: Sequence[Bars] = ()
    drawings: Sequence[Markup] = ()
    table: Table | None = None


def sections(run: Run) -> Iterator[Section]:
    """The sections after the table of targets; those that were not measured are left out."""
    figures = run.figures
    if figures.compared:
        yield _compared(figures.compared)
    if figures.distance:
        yield _distance(figures.distance)
    if figures.seat:
        yield _seat(figures.seat)
    if figures.peers:
        yield _peers(figures.peers)
    if figures.storms:
        yield _storms(figures.storms)
    if figures.scale:
        yield _scale(figures.scale)
    titles = ("Rewrites of sessions", "Sweeping", "Sealed values", "Memory", "The machine")
    results = (figures.rewrites, figures.sweeping, figures.sealed, figures.memory, run.machine)
    yield from (_facts(title, result) for title, result in zip(titles, results, strict=True) if result)


def _compared(compared: Sequence[Compared]) -> Section:
    longest = max(result.ratio for result in compared)

    def bar(result: Compared) -> Bar:
        times = f"{_ms(result.store_ms)}, driver alone {_ms(result.driver_ms)}"
        return Bar(result.operation, result.ratio, "ours", _ratio(result.ratio), times)

    return Section(
        "Against the drivers alone",
        "The time of the store as a multiple of the driver's time for the same rows; the line is at 1.",
        bars=[
            Bars(DATABASES[backend], [bar(result) for result in compared if result.backend == backend], 1.0, longest)
            for backend in dict.fromkeys(result.backend for result in compared)
        ],
    )


def _distance(distances: Sequence[Distance]) -> Section:
    lines = [
        Line(name, [(distance.round_trip_ms, distance.acts[name].ms) for distance in distances], colour, dashed)
        for name, colour, dashed in DISTANCE_LINES
    ]
    title = "Time by round-trip time; the table below has the numbers"
    return Section(
        "Far from the database",
        "A load and a reconnect (a load and a burst of 250 pre-keys) behind a relay that delays each round trip. "
        "The legacy load is that of the original operator's bots: one query for each key type.",
        drawings=[drawing(title, "round-trip time, ms", "ms", lines, RECONNECT_BUDGET)],
        table=Table(
            [
                [
                    f"{distance.round_trip_ms:g}{NO_BREAK}ms",
                    *(f"{_ms(took.ms)} in {took.round_trips}" for took in distance.acts.values()),
                ]
                for distance in distances
            ],
            ["round trip", "load", "reconnect", "legacy load"],
            "Time, and number of round trips",
        ),
    )


def _seat(seat: Seat) -> Section:
    return Section(
        "From the bot’s seat",
        f"Inside Node, on the same {seat.keys:,} keys; medians of {seat.rounds} rounds in turn. The limit is the least "
        "that a client must do on Postgres: one query reads everything, and one prepared upsert writes. Files are not "
        f"synced to the disk. Node {seat.machine.node}, Baileys {seat.baileys}, pg {seat.pg}.",
        bars=[
            _seat_bars("connect and read all", seat, lambda row: (row.connect_ms, _ms(row.connect_ms))),
            _seat_bars(
                "one message’s durable write, p50 / p99", seat, lambda row: (row.message.p50_ms, _p50_p99(row.message))
            ),
            _seat_bars("burst of 250 pre-keys", seat, lambda row: (row.burst_ms, _ms(row.burst_ms))),
            *(
                _seat_bars(f"messages a second, {accounts} accounts", seat, partial(_rate, accounts))
                for accounts in ("16", "200")
            ),
        ],
    )


def _rate(accounts: str, row: Row) -> tuple[float, str]:
    return row.per_s[accounts], f"{row.per_s[accounts]:,.0f}/s"


def _seat_bars(caption: str, seat: Seat, measured: Callable[[Row], tuple[float, str]]) -> Bars:
    """A bar for each store, with the length and the label that `measured` returns."""
    bars = []
    for name, title in TITLES.items():
        if name in seat.rows:
            value, label = measured(seat.rows[name])
            bars.append(Bar(re.sub("[*`]", "", title), value, SEAT_COLOURS.get(name, "files"), label))
    return Bars(caption, bars)


def _peers(peers: Peers) -> Section:
    return Section(
        "Against other stores for bots",
        f"The same {peers.keys:,} keys in the store, in the legacy adapter (a pg adapter as the original operator's "
        f"bots had it) and in Baileys' own useMultiFileAuthState; medians of {peers.rounds} rounds in turn. "
        f"Node {peers.node}, Baileys {peers.baileys}, pg {peers.pg}. The times of the others contain the conversion "
        "of Baileys' values from and to JSON, which a bot on the store does itself; files are not synced to the disk.",
        bars=[_peers_bars(name, act) for name, act in peers.acts.items()],
    )


def _peers_bars(name: str, act: Act) -> Bars:
    return Bars(
        name,
        [
            Bar("store", act.store_ms, "ours", _ms(act.store_ms)),
            Bar("legacy adapter", act.diary_ms, "legacy", _ms(act.diary_ms), _ratio(act.legacy_ratio)),
            Bar("files", act.files_ms, "files", _ms(act.files_ms), _ratio(act.files_ratio)),
            Bar("Baileys' JSON alone", act.json_ms, "bare", _ms(act.json_ms)),
        ],
    )


def _storms(storms: Storms) -> Section:
    storm, restart, steady = storms.reconnect_storm, storms.restart, storms.steady
    return Section(
        "Storms",
        bars=[
            Bars(
                f"{storm.companies:,} companies reconnect on {storm.threads} threads: companies a second; "
                f"the store's are {storm.ratio:.2f} × those of psycopg alone",
                [
                    Bar("store", storm.store_per_s, "ours", f"{storm.store_per_s:,.0f}/s"),
                    Bar("psycopg alone", storm.bare_per_s, "bare", f"{storm.bare_per_s:,.0f}/s"),
                ],
            ),
            Bars(
                f"{restart.accounts:,} accounts restart at once: {restart.keys_read:,} keys read and "
                f"{restart.keys_written:,} written; the line is the limit, {RESTART_LIMIT.value:g} s",
                [Bar("until the last has reconnected", restart.took_s, "ours", f"{restart.took_s:,.2f} s")],
                mark=RESTART_LIMIT.value,
            ),
            Bars(
                f"{steady.companies:,} companies with steady traffic, {steady.per_s:,.0f} messages a second, "
                f"{steady.pool_timeouts:,} pool time-outs; the line is the limit, {CONNECTIONS_LIMIT.value:g}",
                [Bar("connections", steady.connections, "ours", f"{steady.connections:,}")],
                mark=CONNECTIONS_LIMIT.value,
            ),
        ],
    )


def _scale(scale: Scale) -> Section:
    times, pages = [], []
    for partitioned, colour, suffix in ((False, "ours", ""), (True, "legacy", ", partitioned")):
        loads = [(size.companies, size.loads_before) for size in scale.sizes if bool(size.partitions) == partitioned]
        if loads:
            times.append(Line(f"p50{suffix}", [(number, at.load.p50_ms) for number, at in loads], colour))
            times.append(Line(f"p99{suffix}", [(number, at.load.p99_ms) for number, at in loads], colour, True))
            pages.append(Line(f"pages{suffix}", [(number, at.pages) for number, at in loads], colour))
    note = "by number of companies; the table below has the numbers"
    return Section(
        "Many companies",
        drawings=[
            drawing(f"Time of a load {note}", "companies", "a load, ms", times, log=True),
            drawing(f"Pages that a load touches {note}", "companies", "pages a load touches", pages, log=True),
        ],
        table=Table(
            [
                [
                    size.name,
                    f"{size.keys:,}",
                    _p50_p99(size.loads_before.load),
                    _p50_p99(size.loads_before.bare),
                    f"{size.loads_before.pages:,.0f}",
                    f"{_p50_p99(size.loads_after.load)}, {size.loads_after.pages:,.0f} pages",
                ]
                for size in scale.sizes
            ],
            ["companies", "keys", "load p50 / p99", "plain SELECT", "pages", "after rewrites"],
        ),
    )


def _facts(title: str, result: Rewrites | Sweeping | Sealed | Idle | Machine) -> Section:
    """The fields of a result as names and values, without those that are None."""
    rows = [
        [name.replace("_", " "), value if isinstance(value, str) else f"{value:,}"]
        for name, value in asdict(result).items()
        if value is not None
    ]
    return Section(title, table=Table(rows))


def _ms(ms: float) -> str:
    """Milliseconds with the decimals that matter."""
    return f"{ms:,.{3 if ms < 0.1 else 2 if ms < 10 else 1 if ms < 1_000 else 0}f}{NO_BREAK}ms"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.2f}{NO_BREAK}×"


def _p50_p99(times: Times) -> str:
    return f"{_ms(times.p50_ms)} / {_ms(times.p99_ms)}"
