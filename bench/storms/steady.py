"""Steady traffic: a thousand companies send messages through the few connections of one store."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from time import perf_counter, sleep

import psycopg
from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import percentile
from bench.storms.companies import CONSUME_EVERY, MESSAGE_EVERY_S, at_once, fill
from keystore.errors import KeystoreError, StoreUnavailable
from keystore.opening import open_store
from keystore.store import Store
from rig.baileys_state import real_keys

COMPANIES = 1_000
STEADY_S = 20.0
SAMPLE_EVERY_S = 0.05
CONNECTIONS_LIMIT, TIMEOUTS_LIMIT = Limit(16, "connections"), Limit(0, "time-outs")

COUNT_CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Steady(Struct, frozen=True):
    """Messages of many companies. Their first ones are sent at the same moment; `rush_s` is how long those took."""

    companies: int
    messages: int
    per_s: float
    rush_s: float
    get_p95_ms: float
    set_p95_ms: float
    connections: int
    pool_timeouts: int

    @property
    def target(self) -> Target:
        """The limits for connections, and for callers that waited too long for one."""
        return Target.judged(
            "steady",
            f"{self.companies:,} companies with steady traffic",
            f"{self.connections} connections, {self.pool_timeouts} time-outs",
            (self.connections, CONNECTIONS_LIMIT),
            (self.pool_timeouts, TIMEOUTS_LIMIT),
        )


class _Traffic(Struct, frozen=True):
    """The messages of one company; the first was sent at `began_at` and finished at `first_at`."""

    messages: int
    began_at: float
    first_at: float
    gets_ms: list[float]
    sets_ms: list[float]
    timeouts: int


def steady(url: str, companies: int = COMPANIES, seconds: float = STEADY_S, every_s: float = MESSAGE_EVERY_S) -> Steady:
    """Let each company send messages from a thread of its own, on an empty database. Raises KeystoreError.

    All send their first message at the same moment, then one every `every_s`. A message reads a session and writes it
    back changed; one in 50 also uses up a pre-key. The first moment is the hard case: there are far more callers than
    connections, and each must be served before it gives up. The later messages come evenly, and only these count for
    `get_p95_ms` and `set_p95_ms`.
    """
    with open_store(url) as store:
        names = fill(store, url, companies)
        acts = [
            partial(_send_messages, store, name, number, every_s * number / companies, seconds, every_s)
            for number, name in enumerate(names)
        ]
        with _counting_connections(url) as most_connections:
            took_s, traffic = at_once(acts)
        connections = most_connections()
    gets_ms = [ms for company in traffic for ms in company.gets_ms]
    sets_ms = [ms for company in traffic for ms in company.sets_ms]
    if not sets_ms:
        raise KeystoreError("no message after the first got through")
    messages = sum(company.messages for company in traffic)
    return Steady(
        companies=companies,
        messages=messages,
        per_s=round(messages / took_s, 1),
        rush_s=round(max(company.first_at for company in traffic) - min(company.began_at for company in traffic), 2),
        get_p95_ms=round(percentile(gets_ms, 0.95), 1),
        set_p95_ms=round(percentile(sets_ms, 0.95), 1),
        connections=connections,
        pool_timeouts=sum(company.timeouts for company in traffic),
    )


def _send_messages(store: Store, name: str, number: int, offset_s: float, seconds: float, every_s: float) -> _Traffic:
    """Send one company's messages: at 0, then from `offset_s` after the first interval on, until `seconds` are over."""
    dice = random.Random(number)
    sessions, pre_keys = list(real_keys()["session"]), iter(real_keys()["pre-key"])
    began = perf_counter()
    gets_ms: list[float] = []
    sets_ms: list[float] = []
    sent = timeouts = 0
    due_s = 0.0
    first_at = began
    while due_s < seconds:
        sleep(max(0.0, began + due_s - perf_counter()))
        started = perf_counter()
        try:
            session = dice.choice(sessions)
            value = store.get(name, "session", [session])[session]
            read_at = perf_counter()
            store.set(name, {"session": {session: value[::-1]}})
            if sent:
                gets_ms.append((read_at - started) * 1000)
                sets_ms.append((perf_counter() - read_at) * 1000)
            if (number + sent) % CONSUME_EVERY == 0:
                store.set(name, {"pre-key": {next(pre_keys): None}})
        except StoreUnavailable:
            timeouts += 1
        if not sent:
            first_at = perf_counter()
        sent += 1
        due_s = offset_s + sent * every_s
    return _Traffic(sent, began, first_at, gets_ms, sets_ms, timeouts)


@contextmanager
def _counting_connections(url: str) -> Iterator[Callable[[], int]]:
    """Sample the number of the database's connections in the background; the function returns the most so far."""
    samples = [0]
    over = Event()

    def sample() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            while not over.wait(SAMPLE_EVERY_S):
                (connections,) = conn.execute(COUNT_CONNECTIONS).fetchone() or (0,)
                samples.append(connections)

    sampling = Thread(target=sample, name="connections")
    sampling.start()
    try:
        yield lambda: max(samples)
    finally:
        over.set()
        sampling.join()
