"""The time of each operation of the store, as a multiple of its driver's time for the same rows on the same server.

Absolute times say more about the machine than about the code. So store and driver take turns in one run, and a slow
moment of the machine hits both. The limit holds for the ratio of the medians.
"""

import gc
import random
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import cache, partial
from statistics import median
from urllib.parse import urlsplit

from msgspec import Struct
from structlog.testing import capture_logs

from bench.gates.bare_drivers import LIFE, Bare, BarePostgres, BareSqlite
from bench.limits import Limit, Target
from bench.measuring import timed, timed_ms
from keystore.opening import open_store
from keystore.store import Store
from monitor.sweeper import BATCH_KEYS, sweep
from rig.baileys_state import BAILEYS_7_BURST_KEYS, BURST_KEYS, STATE_KEYS, pre_keys, real_keys

SEED = 721
WARM_UP_ROUNDS = 5

NO_FSYNC = "options=-c%20synchronous_commit%3Doff"
"""Turns off the wait for the disk, which is equal for both sides and hides the cost of the store itself."""

COMPANIES = [f"company-{number:03}" for number in range(60)]
"""The companies of a sweep, a backfill and a census, each with the real keys."""

EXPIRING = ("session", "tctoken")
"""The key types whose keys are due or have no expiry. No guard holds them, so both sides change equally many."""

PAST = timedelta(days=-2)
BACKFILL_BATCH_KEYS = 1_000

Turn = Callable[[int], float]
"""A turn in the round with this number: prepares untimed, and returns the milliseconds of the operation itself."""


class Compared(Struct, frozen=True):
    """The medians of one operation in milliseconds, and the store's divided by the driver's."""

    backend: str
    operation: str
    store_ms: float
    driver_ms: float
    ratio: float

    def target(self, name: str, what: str, limit: Limit) -> Target:
        """The ratio, held to this limit."""
        return Target.judged(name, what, f"{self.ratio:.2f} × ({self.store_ms:.2f} ms)", (self.ratio, limit))


class Operation(Struct, frozen=True):
    """One operation, the turns of both sides, and the limits of its gates as multiples of the driver's median.

    Without `durable`, Postgres doesn't wait for the disk.
    """

    name: str
    sides: Callable[[Store, Bare], tuple[Turn, Turn]]
    limit: float
    sqlite_limit: float
    rounds: int = 100
    durable: bool = True

    def compare(self, url: str, rounds: int | None = None, pooled_url: str | None = None) -> Compared:
        """Measure on the empty, migrated database at `url`; with `pooled_url` both sides go through a pooler.

        A pooler takes no options of a connection, so the caller turns off the wait for the disk.
        """
        backend = "sqlite" if urlsplit(url).scheme == "sqlite" else "pgbouncer" if pooled_url else "postgresql"
        if not self.durable and backend == "postgresql":
            url = f"{url}?{NO_FSYNC}"
        at = pooled_url or url
        bare: Bare = BareSqlite(at) if backend == "sqlite" else BarePostgres(at, prepares=not pooled_url)
        with closing(bare), open_store(at) as store, capture_logs():
            store_ms, driver_ms = in_turn(*self.sides(store, bare), rounds or self.rounds)
        return Compared(backend, self.name, round(store_ms, 3), round(driver_ms, 3), round(store_ms / driver_ms, 3))


def in_turn(store: Turn, driver: Turn, rounds: int) -> tuple[float, float]:
    """The medians of both sides in milliseconds. They take turns, and the side that begins alternates."""
    took: dict[Turn, list[float]] = {store: [], driver: []}
    gc.collect()
    warm_up = min(WARM_UP_ROUNDS, rounds // 4)
    for number in range(warm_up + rounds):
        for turn in (store, driver) if number % 2 else (driver, store):
            took[turn].append(turn(number))
    store_ms, driver_ms = (median(took[turn][warm_up:]) for turn in (store, driver))
    return store_ms, driver_ms


def _timed(store_act: Callable[[], object], driver_act: Callable[[], object]) -> tuple[Turn, Turn]:
    """Turns that prepare nothing."""
    return lambda _: timed_ms(store_act), lambda _: timed_ms(driver_act)


def _load(store: Store, bare: Bare) -> tuple[Turn, Turn]:
    store.set("one", real_keys())
    assert store.load("one").total == len(bare.load("one")) == STATE_KEYS
    return _timed(lambda: store.load("one"), lambda: bare.load("one"))


def _get(keys: int, store: Store, bare: Bare) -> tuple[Turn, Turn]:
    store.set("one", real_keys())
    wanted = list(real_keys()["session"])[:keys]
    assert len(store.get("one", "session", wanted)) == len(bare.get("one", "session", wanted)) == keys
    return _timed(lambda: store.get("one", "session", wanted), lambda: bare.get("one", "session", wanted))


def _burst(keys: int, into: str, key_type: str, store: Store, bare: Bare) -> tuple[Turn, Turn]:
    """Bursts into companies that belong to the store or to the driver alone.

    Each burst goes into a `new` company, under new ids into one company that is `growing` (as a bot's reconnects do),
    or is `rewritten`, with other values under the ids of the last burst.
    """
    source = pre_keys(keys) if key_type == "pre-key" else dict(list(real_keys()[key_type].items())[:keys])

    def turn(side: str, write: Callable[[str, dict[str, bytes]], object]) -> Turn:
        def timed(number: int) -> float:
            company, prefix = f"{side}-{number}" if into == "new" else side, f"{number}0" if into == "growing" else ""
            burst = {prefix + key_id: b"%d" % (number % 10) + value[1:] for key_id, value in source.items()}
            return timed_ms(lambda: write(company, burst))

        return timed

    return (
        turn("store", lambda company, burst: store.set(company, {key_type: burst})),
        turn("driver", lambda company, burst: bare.upsert(company, key_type, burst)),
    )


def _reconnect(store: Store, bare: Bare) -> tuple[Turn, Turn]:
    """A read of creds and all keys, then a write of a burst; the last round's burst is deleted before."""

    def turn(company: str, act: Callable[[str, dict[str, bytes]], object]) -> Turn:
        store.set(company, real_keys(), creds=b"{}" * 1_000)

        def timed(number: int) -> float:
            store.set(company, {"pre-key": dict.fromkeys(_reconnect_burst(number - 1))})
            burst = _reconnect_burst(number)
            return timed_ms(lambda: act(company, burst))

        return timed

    return (
        turn("store", lambda own, burst: (store.load(own), store.set(own, {"pre-key": burst}))),
        turn("driver", lambda own, burst: (bare.load_creds(own), bare.load(own), bare.upsert(own, "pre-key", burst))),
    )


def _reconnect_burst(number: int) -> dict[str, bytes]:
    return pre_keys(BURST_KEYS, first=100_000 + number * BURST_KEYS)


def _fill(store: Store) -> None:
    """Give the companies all keys of the other types; the expiring ones are still to come."""
    lasting = {key_type: keys for key_type, keys in real_keys().items() if key_type not in EXPIRING}
    for company in COMPANIES:
        store.set(company, lasting, creds=b"{}")


@cache
def _expiring() -> list[tuple[str, str, str, bytes]]:
    """Rows of `(company, key_type, key_id, value)` of the expiring types, shuffled as traffic brings them."""
    rows = [
        (company, key_type, key_id, value)
        for company in COMPANIES
        for key_type in EXPIRING
        for key_id, value in real_keys()[key_type].items()
    ]
    random.Random(SEED).shuffle(rows)
    return rows


def _arriving(bare: Bare, life: timedelta | None, act: Callable[[], int]) -> Turn:
    """Turns before which the expiring keys arrive with this life; the act returns the number of those it changed."""

    def turn(_: int) -> float:
        bare.arrive(_expiring(), life)
        changed, took_ms = timed(act)
        assert changed == len(_expiring())
        return took_ms

    return turn


def _sweep(store: Store, bare: Bare) -> tuple[Turn, Turn]:
    """A sweep in batches, from its lease to its record; the count for the history that follows is a census."""
    _fill(store)
    due = len(_expiring())
    at_once = BATCH_KEYS // (due // len(COMPANIES))
    batches = [COMPANIES[first : first + at_once] for first in range(0, len(COMPANIES), at_once)]

    def store_turn(_: int) -> float:
        bare.arrive(_expiring(), PAST)
        report = sweep(store)
        assert report.deleted == due
        return report.took_ms

    return store_turn, _arriving(bare, PAST, lambda: sum(map(bare.delete_due, batches)))


def _backfill(store: Store, bare: Bare) -> tuple[Turn, Turn]:
    _fill(store)
    return (
        _arriving(bare, None, lambda: sum(iter(lambda: sum(store.backfill(BACKFILL_BATCH_KEYS).values()), 0))),
        _arriving(bare, None, lambda: sum(iter(lambda: bare.backfill(BACKFILL_BATCH_KEYS), 0))),
    )


def _census(store: Store, bare: Bare) -> tuple[Turn, Turn]:
    _fill(store)
    bare.arrive(_expiring(), LIFE)
    assert store.census().total == sum(row[1] for row in bare.census()) == len(COMPANIES) * STATE_KEYS
    return _timed(store.census, bare.census)


LOAD = Operation("load", _load, 2.5, 2.5)
GETS = (Operation("get 1", partial(_get, 1), 5.5, 4.0), Operation("get 20", partial(_get, 20), 5.5, 4.0))
SET = Operation("set 1", partial(_burst, 1, "rewritten", "session"), 4.5, 2.5, durable=False)
BURSTS = tuple(Operation(f"burst {keys}", partial(_burst, keys, "growing", "pre-key"), 1.5, 2.5) for keys in (250, 812))
RECONNECT = Operation("reconnect", _reconnect, 1.8, 2.5)
SWEEP = Operation("sweep", _sweep, 5.0, 4.0, rounds=9)
BACKFILL = Operation("backfill", _backfill, 3.0, 3.5, rounds=5)
CENSUS = Operation("census", _census, 8.0, 8.0, rounds=30)
UNIT = "× psycopg alone"
BOT_LIMITS: tuple[tuple[Operation, Limit], ...] = (
    (LOAD, Limit(1.3, UNIT)),
    (GETS[0], Limit(1.25, UNIT)),
    (SET, Limit(2, UNIT)),
    *((burst, Limit(1, UNIT)) for burst in BURSTS),
)
"""The targets of the operations of a bot on Postgres."""

OPERATIONS = (LOAD, *GETS, SET, *BURSTS, RECONNECT, SWEEP, BACKFILL, CENSUS)
"""The operations that the gates and `bench.targets` measure."""

QUICK = (LOAD, BURSTS[0], RECONNECT)
"""The operations whose gates CI runs."""

OTHER_BURSTS = tuple(
    Operation(
        f"burst {keys}, {into}{'' if durable else ', no fsync'}",
        partial(_burst, keys, into, "pre-key"),
        1.5 if durable and into != "rewritten" else 2.0,
        2.5,
        durable=durable,
    )
    for keys in (BURST_KEYS, BAILEYS_7_BURST_KEYS)
    for into in ("new", "growing", "rewritten")
    for durable in (True, False)
    if (into, durable) != ("growing", True)
)
"""The other kinds of bursts, on Postgres. The limit is wider without the wait for the disk and for rewritten pre-keys.
Then the store compares each key with the one that it replaces, counts the rewritten ones and warns."""
