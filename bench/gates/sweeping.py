"""What a sweep costs: its speed against a bare DELETE in the same batches, and what gets feel of it meanwhile.

The table is one as traffic makes it: many companies' keys in one another's pages, of which some are due. The sweep
that gets go on beside runs in a process of its own and rests between its batches, as the service's does; the one that
is held against the DELETE doesn't rest.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter

from bench.gates.bare import LIFE, BarePostgres
from bench.gates.operations import EXPIRING, PAST, SEED
from keystore.opening import open_store
from keystore.store import Store
from monitor.sweeper import BATCH_KEYS, REST, sweep
from rig.baileys_state import real_state

COMPANIES = 300
ROUNDS = 8
ALONE_S = 0.4
"""How long gets are timed without a sweep, in each round."""

DUE_SHARE = 0.25
JOIN_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Sweeping:
    """Medians over the rounds. `ratio` is of the speeds, `p99_ratio` of a get's 99th percentile with and without."""

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


def measure(url: str, told: Callable[[int, int], None], companies: int = COMPANIES, rounds: int = ROUNDS) -> Sweeping:
    """Measures on the empty Postgres database at `url`."""
    rng = random.Random(SEED)
    names = [f"company-{number:04}" for number in range(companies)]
    rows = [
        (name, key_type, key_id, value)
        for key_type, keys in real_state().items()
        if key_type != "pre-key"  # These come in bursts, and so lie together.
        for key_id, value in keys.items()
        for name in names
    ]
    rng.shuffle(rows)
    due = [row for row in rows if row[1] in EXPIRING and rng.random() < DUE_SHARE]
    read = list({row[:3] for row in rows if row[1] == "session"} - {row[:3] for row in due})
    at_once = max(1, BATCH_KEYS * companies // len(due))
    batches = [names[first : first + at_once] for first in range(0, companies, at_once)]
    speeds, bare_speeds, alone, during = [], [], [], []
    with open_store(url) as store, BarePostgres(url) as bare, _sweeper(url) as sweeper:
        for name in names:
            bare.upsert(name, "pre-key", real_state()["pre-key"])
        bare.arrive(rows, LIFE)
        for number in range(rounds):
            told(number, rounds)
            bare.arrive(due, PAST)
            alone += _gets(store, rng, read, _for(ALONE_S))
            sweeper.send("sweep")
            during += _gets(store, rng, read, lambda: not sweeper.poll())
            assert sweeper.recv() == len(due)
            bare.arrive(due, PAST)
            speeds.append(len(due) / (sweep(store).took_ms / 1000))
            bare.arrive(due, PAST)
            began = perf_counter()
            assert sum(bare.delete_due(batch) for batch in batches) == len(due)
            bare_speeds.append(len(due) / (perf_counter() - began))
    p99_ms, p99_ms_during = _p99(alone), _p99(during)
    return Sweeping(
        companies,
        len(due),
        round(median(speeds)),
        round(median(bare_speeds)),
        round(median(speeds) / median(bare_speeds), 3),
        len(during),
        round(median(alone), 3),
        round(p99_ms, 3),
        round(median(during), 3),
        round(p99_ms_during, 3),
        round(p99_ms_during / p99_ms, 3),
    )


def _gets(
    store: Store, rng: random.Random, names: list[tuple[str, str, str]], going_on: Callable[[], bool]
) -> list[float]:
    """Gets of one key after another, in milliseconds each."""
    took = []
    while going_on():
        company, key_type, key_id = rng.choice(names)
        began = perf_counter()
        store.get(company, key_type, [key_id])
        took.append((perf_counter() - began) * 1000)
    return took


def _for(seconds: float) -> Callable[[], bool]:
    until = perf_counter() + seconds
    return lambda: perf_counter() < until


def _p99(took: list[float]) -> float:
    return quantiles(took, n=100)[98]


@contextmanager
def _sweeper(url: str) -> Iterator[Connection]:
    """A process that sweeps when told anything, and answers how many keys it deleted."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_sweep_when_told, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield ours
    finally:
        ours.close()
        process.join(JOIN_TIMEOUT_S)


def _sweep_when_told(url: str, pipe: Connection) -> None:
    with open_store(url) as store:
        pipe.send("ready")
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(sweep(store, rest=REST).deleted)
