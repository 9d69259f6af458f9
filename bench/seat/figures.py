"""The figures of `bench.seat`, and its targets."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from bench.limits import Limit, Target
from bench.machine import Machine
from bench.measuring import Times

PREFIX = "seat_"
"""The names of all targets begin with it."""

PEERS_ON_A_SERVER = ("adapter", "redis_always", "redis_everysec")

THE_LIMIT, FASTEST_PEER = "× the limit", "× the fastest peer on a server"

CONNECT_LIMIT, HTTP_CONNECT_LIMIT = Limit(1.5, THE_LIMIT), Limit(2.5, THE_LIMIT)
PEERS_LIMIT = Limit(1, FASTEST_PEER)
MESSAGE_LIMIT, HTTP_MESSAGE_LIMIT = Limit(1.6, THE_LIMIT), Limit(3, THE_LIMIT)
BURST_LIMIT, HTTP_BURST_LIMIT = Limit(1.3, THE_LIMIT), Limit(1.8, THE_LIMIT)
SIXTEEN_LIMIT, HTTP_SIXTEEN_LIMIT = Limit(0.8, THE_LIMIT, at_least=True), Limit(0.5, THE_LIMIT, at_least=True)
MANY_LIMIT, HTTP_MANY_LIMIT = Limit(1, THE_LIMIT, at_least=True), Limit(0.6, THE_LIMIT, at_least=True)
MEMORY_LIMIT = Limit(40, "kB")
SEALED_CONNECT_LIMIT, SEALED_MESSAGE_LIMIT = Limit(1.6, "× unsealed"), Limit(1.1, "× unsealed")


class Cpu(Struct, frozen=True):
    """The processor time of one message in microseconds, of each of the programs that have a part in it."""

    node_us: float
    service_us: float
    database_us: float

    @property
    def all_us(self) -> float:
        """The time of all programs."""
        return self.node_us + self.service_us + self.database_us


class Far(Struct, frozen=True):
    """Medians with a distance between the bot and the store's server."""

    connect_ms: float
    message_ms: float


class Row(Struct, frozen=True):
    """The figures of one store: medians, and messages a second by the number of accounts.

    `connect_ms` is a whole start: a new connection, and every key as Baileys gets it. `opened_ms` is the part until the
    state was open; our client and the limit then have everything in memory, as JSON. `cpu` is that of a message of 16
    accounts. `memory_kb` is the memory of an account beyond its keys' JSON, in kilobytes of 1,000 bytes: only our
    client holds keys in memory.
    """

    connect_ms: float
    opened_ms: float
    message: Times
    burst_ms: float
    per_s: dict[str, float]
    cpu: Cpu
    far: Far | None
    memory_kb: float | None


class Seat(Struct, frozen=True):
    """The figures of one run. `digest` is the hash of the keys that every store held at its end.

    `unmeasured` has the reason for each store that this machine doesn't have.
    """

    taken_at: datetime
    commit: str | None
    machine: Machine
    baileys: str
    pg: str
    keys: int
    digest: str
    rounds: int
    round_trip_ms: float
    rows: dict[str, Row]
    unmeasured: dict[str, str]


class Judgement(Struct, frozen=True):
    """One target: a figure of a row, judged as a multiple of the limit's or by itself."""

    name: str
    what: str
    straight: Limit
    http: Limit


JUDGEMENTS = (
    Judgement("connect", "connect and read all", CONNECT_LIMIT, HTTP_CONNECT_LIMIT),
    Judgement("message", "one message’s write", MESSAGE_LIMIT, HTTP_MESSAGE_LIMIT),
    Judgement("burst", "burst of 250 pre-keys", BURST_LIMIT, HTTP_BURST_LIMIT),
    Judgement("16", "messages a second, 16 accounts", SIXTEEN_LIMIT, HTTP_SIXTEEN_LIMIT),
    Judgement("200", "messages a second, 200 accounts", MANY_LIMIT, HTTP_MANY_LIMIT),
    Judgement("memory", "memory of an account beyond its keys’ JSON", MEMORY_LIMIT, MEMORY_LIMIT),
)
SEALED_JUDGEMENTS = {
    "connect": ("connect and read all, sealed by the bot", SEALED_CONNECT_LIMIT),
    "message": ("one message’s write, sealed by the bot", SEALED_MESSAGE_LIMIT),
}
WAYS = {"straight": "straight from Node", "http": "over HTTP from Node"}


def targets(seat: Seat | None) -> Iterator[Target]:
    """The targets of our client on Postgres; without figures they are unmeasured."""
    for way, from_node in WAYS.items():
        for judgement in JUDGEMENTS:
            name, what = f"{PREFIX}{way}_{judgement.name}", f"{judgement.what}, {from_node}"
            limit = judgement.straight if way == "straight" else judgement.http
            if seat is None:
                yield Target.unmeasured(name, what, limit, "a run of its own: python -m bench.seat")
            else:
                shown, checks = _judged(seat, way, judgement.name, limit)
                yield Target.judged(name, what, shown, *checks)
    yield from _sealed_targets(seat)


def _sealed_targets(seat: Seat | None) -> Iterator[Target]:
    """The targets of our client with sealed values, straight on Postgres: multiples of the plain ones."""
    for figure, (what, limit) in SEALED_JUDGEMENTS.items():
        name = f"{PREFIX}sealed_{figure}"
        if seat is None or "straight_sealed" not in seat.rows:
            yield Target.unmeasured(name, what, limit, "a run of its own: python -m bench.seat")
        else:
            ms, plain_ms = (_ms(seat.rows[way], figure) for way in ("straight_sealed", "straight"))
            shown = f"{ms / plain_ms:.2f} × ({ms:.2f} against {plain_ms:.2f} ms)"
            yield Target.judged(name, what, shown, (ms / plain_ms, limit))


def _judged(seat: Seat, way: str, name: str, limit: Limit) -> tuple[str, list[tuple[float, Limit]]]:
    """A figure as text, and its checks."""
    row, least = seat.rows[way], seat.rows["limit"]
    if name == "memory":
        kilobytes = row.memory_kb or 0.0
        return f"{kilobytes:,.1f} kB", [(kilobytes, limit)]
    if name in row.per_s:
        ratio = row.per_s[name] / least.per_s[name]
        return f"{ratio:.2f} × ({row.per_s[name]:,.0f} against {least.per_s[name]:,.0f})", [(ratio, limit)]
    ms, least_ms = _ms(row, name), _ms(least, name)
    checks = [(ms / least_ms, limit)]
    shown = f"{ms / least_ms:.2f} × ({ms:.2f} against {least_ms:.2f} ms)"
    if (way, name) == ("straight", "connect"):
        fastest = min(seat.rows[peer].connect_ms for peer in PEERS_ON_A_SERVER if peer in seat.rows)
        checks.append((row.connect_ms / fastest, PEERS_LIMIT))
        shown += f", with the conversion of values {row.connect_ms / fastest:.2f} × the fastest peer"
    return shown, checks


def _ms(row: Row, name: str) -> float:
    return {"connect": row.opened_ms, "message": row.message.p50_ms, "burst": row.burst_ms}[name]
