"""Storms: many companies at once on one store, held against the bare driver, the clock and the pool.

Three, each on a database of its own: 8 threads reconnect companies one after another, in turn through the store and
through bare psycopg; 90 accounts restart at the same moment; 1,000 companies send messages. A reconnect reads the creds
and the 721 real keys, and writes a burst of 250 pre-keys.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep

import psycopg

from bench.command import errors_in_one_line
from bench.storms.companies import (
    CONSUME_EVERY,
    MESSAGE_EVERY_S,
    at_once,
    burst,
    driver_errors_told,
    fill,
    reconnect,
    state,
)
from bench.storms.reconnect import RATIO_LIMIT, ROUNDS, ReconnectStorm, reconnect_storm
from keystore.errors import KeystoreError, StoreUnavailable
from keystore.opening import open_store
from keystore.records import AuthState
from keystore.store import Store
from monitor.alerts.samples import percentile_95
from monitor.running.progress import progress_bar
from rig.baileys_state import real_state
from rig.postgres_server import database_on, own_postgres

EPILOG = """
Without --url it runs a Postgres of its own; with it, it makes databases on that server, and drops them again.
Exits with 1 when the store reconnects less than 0.6 times as many companies a second as bare psycopg, when the restart
takes more than 5 s, or when the messages needed more than 16 connections, or one had to wait too long for one.
"""

RESTART_LIMIT_S = 5.0
CONNECTIONS_LIMIT = 16

ACCOUNTS = 90
COMPANIES = 1_000
STEADY_S = 20.0
LONGEST_S = 3_600.0
SAMPLE_EVERY_S = 0.05

COUNT_CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Restart:
    """Accounts that came back at the same moment: how long until the last one's burst was durable."""

    accounts: int
    keys_read: int
    keys_written: int
    took_s: float
    slowest_ms: float

    @property
    def met(self) -> bool:
        """Whether all were back in time."""
        return self.took_s <= RESTART_LIMIT_S


@dataclass(frozen=True)
class Steady:
    """Messages of many companies. `rush_s`: until the last was through with its first, which they sent all at once."""

    companies: int
    messages: int
    per_s: float
    rush_s: float
    get_p95_ms: float
    set_p95_ms: float
    connections: int
    pool_timeouts: int

    @property
    def met(self) -> bool:
        """Whether few connections were enough for everybody."""
        return self.connections <= CONNECTIONS_LIMIT and self.pool_timeouts == 0


@dataclass(frozen=True)
class Storms:
    """All three."""

    reconnect_storm: ReconnectStorm
    restart: Restart
    steady: Steady

    @property
    def met(self) -> bool:
        """Whether none is over its limit."""
        return self.reconnect_storm.met and self.restart.met and self.steady.met


def restart(url: str, accounts: int = ACCOUNTS) -> Restart:
    """Each account is a thread, and none has a connection yet. On an empty database. Raises KeystoreError.

    What each has read, and what stands there afterwards, is compared with what should be.
    """
    with driver_errors_told():
        with open_store(url) as store:
            names = fill(store, url, accounts)
        with open_store(url) as store:
            took_s, back = at_once([partial(_come_back, store, name) for name in names])
            written = [store.load(name) for name in names]
    before = state()
    after = AuthState(before.creds, {**before.keys, "pre-key": before.keys["pre-key"] | burst()})
    wrong = sum(read != before for read, _ in back) + sum(found != after for found in written)
    if wrong:
        raise KeystoreError(f"{wrong} of {2 * accounts} states read are not what was written")
    return Restart(
        accounts=accounts,
        keys_read=sum(read.total for read, _ in back),
        keys_written=sum(found.total for found in written) - accounts * before.total,
        took_s=round(took_s, 2),
        slowest_ms=round(max(ms for _, ms in back), 1),
    )


def _come_back(store: Store, name: str) -> tuple[AuthState, float]:
    began = perf_counter()
    read = reconnect(store, name)
    return read, (perf_counter() - began) * 1000


@dataclass(frozen=True)
class _Talk:
    """What became of one company's messages; `began_at` and `first_at` are when the first was sent and was through."""

    messages: int
    began_at: float
    first_at: float
    gets_ms: list[float]
    sets_ms: list[float]
    timeouts: int


def steady(url: str, companies: int = COMPANIES, seconds: float = STEADY_S, every_s: float = MESSAGE_EVERY_S) -> Steady:
    """Each company is a thread: its first message at the same moment as everybody's, then one every `every_s`.

    A message reads a session and writes it back changed; one in 50 also uses up a pre-key. That all call at once is the
    hard case: far more callers than connections, and each must be served before he gives up waiting for one. After that
    they come evenly, and only these are in `get_p95_ms` and `set_p95_ms`. On an empty database. Raises KeystoreError.
    """
    with driver_errors_told(), open_store(url) as store:
        names = fill(store, url, companies)
        talks = [
            partial(_talk, store, name, number, every_s * number / companies, seconds, every_s)
            for number, name in enumerate(names)
        ]
        with _counting_connections(url) as most:
            took_s, talked = at_once(talks)
        connections = most()
    gets_ms = [ms for talk in talked for ms in talk.gets_ms]
    sets_ms = [ms for talk in talked for ms in talk.sets_ms]
    if not sets_ms:
        raise KeystoreError("no message after the first got through")
    messages = sum(talk.messages for talk in talked)
    return Steady(
        companies=companies,
        messages=messages,
        per_s=round(messages / took_s, 1),
        rush_s=round(max(talk.first_at for talk in talked) - min(talk.began_at for talk in talked), 2),
        get_p95_ms=round(percentile_95(gets_ms), 1),
        set_p95_ms=round(percentile_95(sets_ms), 1),
        connections=connections,
        pool_timeouts=sum(talk.timeouts for talk in talked),
    )


def _talk(store: Store, name: str, number: int, offset_s: float, seconds: float, every_s: float) -> _Talk:
    """One company's messages: at 0, then from `offset_s` after the first interval on, until `seconds` are over."""
    dice = random.Random(number)
    sessions, pre_keys = list(real_state()["session"]), iter(real_state()["pre-key"])
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
            got = perf_counter()
            store.set(name, {"session": {session: value[::-1]}})
            if sent:
                gets_ms.append((got - started) * 1000)
                sets_ms.append((perf_counter() - got) * 1000)
            if (number + sent) % CONSUME_EVERY == 0:
                store.set(name, {"pre-key": {next(pre_keys): None}})
        except StoreUnavailable:
            timeouts += 1
        if not sent:
            first_at = perf_counter()
        sent += 1
        due_s = offset_s + sent * every_s
    return _Talk(sent, began, first_at, gets_ms, sets_ms, timeouts)


@contextmanager
def _counting_connections(url: str) -> Iterator[Callable[[], int]]:
    """Looks again and again how many connections the database has, ours apart; gives the most seen so far."""
    seen = [0]
    over = Event()

    def look() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            while not over.wait(SAMPLE_EVERY_S):
                (connections,) = conn.execute(COUNT_CONNECTIONS).fetchone() or (0,)
                seen.append(connections)

    looking = Thread(target=look, name="connections")
    looking.start()
    try:
        yield lambda: max(seen)
    finally:
        over.set()
        looking.join()


def measure(
    server_url: str, rounds: int, accounts: int, companies: int, seconds: float, told: Callable[[int, int], None]
) -> Storms:
    """The three on the server at this address, each in a database made for it. Raises KeystoreError."""
    with driver_errors_told():
        told(0, 3)
        with database_on(server_url, "bench_storms") as url:
            storm = reconnect_storm(url, rounds=rounds)
        told(1, 3)
        with database_on(server_url, "bench_storms") as url:
            back = restart(url, accounts)
        told(2, 3)
        with database_on(server_url, "bench_storms") as url:
            return Storms(storm, back, steady(url, companies, seconds))


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Measures; 1 when a limit is missed or the server can't be used."""
    parser = argparse.ArgumentParser(
        "python -m bench.storms",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", metavar="SERVER", help="a Postgres address, of a role that may make databases")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the reconnect storm ({ROUNDS})")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, help=f"that restart ({ACCOUNTS})")
    parser.add_argument("--companies", type=int, default=COMPANIES, help=f"with steady traffic ({COMPANIES:,})")
    parser.add_argument("--seconds", type=float, default=STEADY_S, help=f"of steady traffic ({STEADY_S:g})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(args)
    if given.url and not given.url.startswith(("postgresql://", "postgres://")):
        parser.error("--url is a PostgreSQL address: postgresql://user:password@host:5432/database")
    if min(given.rounds, given.accounts, given.companies) < 1 or not 2 * MESSAGE_EVERY_S <= given.seconds <= LONGEST_S:
        parser.error(
            "--rounds, --accounts and --companies are 1 or more, "
            f"and --seconds from {2 * MESSAGE_EVERY_S:g} to {LONGEST_S:,g}"
        )
    if given.json:
        given.json.touch()  # Before the work, not after it.
    with progress_bar("storms") as told, nullcontext(given.url) if given.url else own_postgres() as server_url:
        storms = measure(server_url, given.rounds, given.accounts, given.companies, given.seconds, told)
    if given.json:
        given.json.write_text(json.dumps(asdict(storms), indent=2) + "\n", encoding="utf-8")
    _print(storms)
    return 0 if storms.met else 1


def _print(storms: Storms) -> None:
    storm, back, talk = storms.reconnect_storm, storms.restart, storms.steady
    print(
        f"reconnect storm, {storm.threads} threads: {storm.store_per_s:,.0f} companies a second, bare psycopg "
        f"{storm.bare_per_s:,.0f}: {storm.ratio:.2f} of it (limit {RATIO_LIMIT}) {_verdict(storm.met)}\n"
        f"  each {storm.store_p50_ms:.1f} ms (p95 {storm.store_p95_ms:.1f}), bare {storm.bare_p50_ms:.1f} ms "
        f"(p95 {storm.bare_p95_ms:.1f}); median of {storm.rounds} rounds of {storm.companies} companies\n"
        f"{back.accounts} accounts restart at once: all back in {back.took_s:.2f} s "
        f"(limit {RESTART_LIMIT_S:g}) {_verdict(back.met)}\n"
        f"  {back.keys_read:,} keys read, {back.keys_written:,} written\n"
        f"{talk.companies:,} companies with steady traffic: {talk.connections} connections "
        f"(limit {CONNECTIONS_LIMIT}), {talk.pool_timeouts} time-outs (limit 0) {_verdict(talk.met)}\n"
        f"  {talk.messages:,} messages, {talk.per_s:,.0f} a second; get p95 {talk.get_p95_ms:.1f} ms, "
        f"set p95 {talk.set_p95_ms:.1f} ms; the first of all at once through in {talk.rush_s:.2f} s"
    )


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
