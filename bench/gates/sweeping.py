"""The cost of a sweep: its speed against a plain DELETE in the same batches, and the times of gets meanwhile.

The table is like one in use: the keys of many companies share pages, and some are due. While gets are timed, the sweep
runs in a process of its own and rests between its batches, as the service's sweep does. For the comparison with the
DELETE it doesn't rest.
"""

import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import cache, partial
from multiprocessing import get_context
from statistics import median
from time import perf_counter

from msgspec import Struct

from bench.gates.bare_drivers import LIFE, BarePostgres
from bench.gates.operations import EXPIRING, PAST, SEED
from bench.limits import Limit, Target
from bench.measuring import Progress, leave_interrupts_to_parent, no_progress, percentile, timed, timed_ms
from keystore.opening import open_store
from keystore.store import Store
from monitor.sweeper import BATCH_KEYS, REST, sweep
from rig.baileys_state import real_keys

COMPANIES = 300
ROUNDS = 8
ALONE_S = 0.4
"""The seconds in each round for which gets are timed without a sweep."""

DUE_SHARE = 0.25

GETS_DURING, GETS_LIMIT = "gets during a sweep, 99th percentile", Limit(1.5, "× without a sweep")
SPEED_LIMIT = Limit(5_000, "keys a second", at_least=True)
"""Sweeps 10,000 companies that each have 60 due keys a day within two minutes (decision 28)."""


class Sweeping(Struct, frozen=True):
    """Medians over the rounds; `ratio` compares speeds, `p99_ratio` times of gets with and without a sweep."""

    companies: int
    due_keys: int
    keys_per_s: float
    bare_keys_per_s: float
    ratio: float
    gets_during: int
    get_p50_ms: float
    get_p99_ms: float
    get_p50_ms_during: float
    get_p99_ms_during: float
    p99_ratio: float

    @property
    def targets(self) -> tuple[Target, ...]:
        """The limits for gets during a sweep and for the speed of a sweep."""
        gets = f"{self.p99_ratio:.2f} × ({self.get_p99_ms_during:.2f} ms)"
        speed = f"{self.keys_per_s:,.0f} a second ({self.ratio:.2f} × a plain DELETE)"
        return (
            Target.judged("gets_during_sweep", GETS_DURING, gets, (self.p99_ratio, GETS_LIMIT)),
            Target.judged("sweep", "speed of a sweep", speed, (self.keys_per_s, SPEED_LIMIT)),
        )


def measure(url: str, progress: Progress = no_progress, companies: int = COMPANIES, rounds: int = ROUNDS) -> Sweeping:
    """Measure on the empty Postgres database at `url`."""
    rng = random.Random(SEED)
    names = [f"company-{number:04}" for number in range(companies)]
    rows = [
        (name, key_type, key_id, value)
        for key_type, keys in real_keys().items()
        if key_type != "pre-key"  # They come in bursts, and so share pages with their own kind.
        for key_id, value in keys.items()
        for name in names
    ]
    rng.shuffle(rows)
    due = [row for row in rows if row[1] in EXPIRING and rng.random() < DUE_SHARE]
    read = list({row[:3] for row in rows if row[1] == "session"} - {row[:3] for row in due})
    at_once = max(1, BATCH_KEYS * companies // len(due))
    batches = [names[first : first + at_once] for first in range(0, companies, at_once)]
    speeds, bare_speeds, alone, during = [], [], [], []
    with (
        open_store(url) as store,
        closing(BarePostgres(url)) as bare,
        ProcessPoolExecutor(1, get_context("spawn"), _start, (url,)) as process,
    ):
        for name in names:
            bare.upsert(name, "pre-key", real_keys()["pre-key"])
        process.submit(int).result()  # This starts the process and opens its store.
        bare.arrive(rows, LIFE)
        for number in range(rounds):
            progress(number, rounds)
            bare.arrive(due, PAST)
            until = perf_counter() + ALONE_S
            alone += _gets(store, rng, read, lambda: perf_counter() < until)  # noqa: B023
            sweeping = process.submit(_sweep, url)
            during += _gets(store, rng, read, lambda: not sweeping.done())  # noqa: B023
            assert sweeping.result() == len(due)
            bare.arrive(due, PAST)
            speeds.append(len(due) / (sweep(store).took_ms / 1000))
            bare.arrive(due, PAST)
            deleted, took_ms = timed(lambda: sum(map(bare.delete_due, batches)))
            assert deleted == len(due)
            bare_speeds.append(len(due) / (took_ms / 1000))
    speed, bare_speed = median(speeds), median(bare_speeds)
    p99_ms, p99_ms_during = percentile(alone, 0.99), percentile(during, 0.99)
    return Sweeping(
        companies=companies,
        due_keys=len(due),
        keys_per_s=round(speed),
        bare_keys_per_s=round(bare_speed),
        ratio=round(speed / bare_speed, 3),
        gets_during=len(during),
        get_p50_ms=round(median(alone), 3),
        get_p99_ms=round(p99_ms, 3),
        get_p50_ms_during=round(median(during), 3),
        get_p99_ms_during=round(p99_ms_during, 3),
        p99_ratio=round(p99_ms_during / p99_ms, 3),
    )


def _gets(
    store: Store, rng: random.Random, names: list[tuple[str, str, str]], going_on: Callable[[], bool]
) -> list[float]:
    """Get one key after another, and return the milliseconds of each get."""
    took_ms = []
    while going_on():
        company, key_type, key_id = rng.choice(names)
        took_ms.append(timed_ms(partial(store.get, company, key_type, [key_id])))
    return took_ms


def _start(url: str) -> None:
    leave_interrupts_to_parent()
    _store(url)


@cache
def _store(url: str) -> Store:
    """The store of the process that sweeps, which stays open as long as the process runs."""
    return open_store(url)


def _sweep(url: str) -> int:
    return sweep(_store(url), rest=REST).deleted
