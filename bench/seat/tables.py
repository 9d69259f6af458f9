"""The figures of `bench.seat` as Markdown: the tables of README.md and docs/performance.md."""

from collections.abc import Callable, Mapping, Sequence

from bench.scale.tables import markdown_table
from bench.seat.figures import Row, Seat

TITLES = {
    "straight": "**our client, straight to Postgres**",
    "straight_sealed": "the same, with values sealed by the bot",
    "http": "**our client over HTTP, on Postgres**",
    "http_sqlite": "our client over HTTP, on SQLite",
    "adapter": "a plain `pg` adapter",
    "limit": "one query in, one upsert out (the limit)",
    "files": "`useMultiFileAuthState`, not synced to the disk",
    "redis_always": "`redis-baileys`, Redis with `appendfsync always`",
    "redis_everysec": "`redis-baileys`, `everysec`: a crash loses a second",
}
"""The stores, as tables name them."""

Columns = Mapping[str, Callable[[Row], str]]

SUMMARY: Columns = {
    "connect and read all": lambda row: _ms(row.connect_ms),
    "one message’s durable write, p50 / p99": lambda row: f"{row.message.p50_ms:.2f} / {row.message.p99_ms:.1f} ms",
    "burst of 250": lambda row: _ms(row.burst_ms),
    "16 accounts, messages a second": lambda row: f"{row.per_s['16']:,.0f}",
}
"""The table of README."""

DETAILS: Columns = {
    "connect": lambda row: _ms(row.opened_ms),
    "messages a second, 1 account": lambda row: f"{row.per_s['1']:,.0f}",
    "16 accounts": lambda row: f"{row.per_s['16']:,.0f}",
    "200 accounts": lambda row: f"{row.per_s['200']:,.0f}",
    "processor time of a message: Node, service, database": lambda row: _cpu(row),
    "memory beyond the keys’ JSON": lambda row: "" if row.memory_kb is None else f"{row.memory_kb:,.0f} kB",
}

DISTANT: Columns = {
    "connect and read all": lambda row: _ms(row.far.connect_ms) if row.far else "",
    "one message’s durable write": lambda row: _ms(row.far.message_ms) if row.far else "",
}


NAMES = ("seat", "seat_accounts", "seat_distance")


def tables(seat: Seat) -> dict[str, str]:
    """The tables by the name of their block in the documents."""
    far = {name: row for name, row in seat.rows.items() if row.far}
    summary, details = _table(seat.rows, "", SUMMARY), _table(seat.rows, "", DETAILS)
    distant = _table(far, f"{seat.round_trip_ms:g} ms away", DISTANT)
    return dict(zip(NAMES, (summary, details, distant), strict=True))


def _table(rows: Mapping[str, Row], corner: str, columns: Columns) -> str:
    shown = {title: rows[name] for name, title in TITLES.items() if name in rows}
    lines = [(title, *(column(row) for column in columns.values())) for title, row in shown.items()]
    return markdown_table((corner, *columns), lines)


def _ms(ms: float) -> str:
    return f"{ms:,.{2 if ms < 1 else 1}f} ms"


def _cpu(row: Row) -> str:
    times: Sequence[float] = (row.cpu.node_us, row.cpu.service_us, row.cpu.database_us)
    return f"{row.cpu.all_us:,.0f} µs: {', '.join(f'{us:,.0f}' for us in times)}"
