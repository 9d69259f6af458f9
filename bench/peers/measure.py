"""The store beside what bots use without it: Baileys' own `useMultiFileAuthState`, and a diary-shaped `pg` adapter.

All three hold the same 721 real keys and take turns: ours and the adapter on one Postgres server, the files in a
temporary folder. A load is creds and every key; a burst is one set of new pre-keys. Ours is
timed from Python, theirs inside a Node process that runs all along.

What is not alike: their times hold the making of Baileys' values from JSON, or of JSON from them, which a bot on our
store does itself. So what Baileys' own `BufferJSON` takes for the same values is measured too (`json_ms`). And nothing
waits for the disk where the files are.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

import psycopg

from bench.peers.node import Node, install, node_and_npm, started
from keystore.errors import KeystoreError
from keystore.migrate import MIGRATIONS
from keystore.opening import open_store
from keystore.store import Store
from rig.baileys_state import BAILEYS_7_BURST_KEYS, BURST_KEYS, STATE, pre_keys, real_state
from rig.postgres_server import database_on

ROUNDS = 15
WARM_UP_ROUNDS = 3
"""Node compiles what it has run a few times."""

CALLS_PER_TURN = 4
"""In a row, and the first doesn't count: after a pause, the others' turns, everything takes up to twice as long."""

KEYS_PER_INSERT = 100
"""Of the diary-shaped adapter: as the diary's bots had it. All of a burst in one is faster, one key in each slower."""

MOST_KEYS_PER_INSERT = 10_000
"""Six parameters each, and Postgres' protocol takes 65,535."""

LOAD_TIMES, BURST_TIMES = 8.0, 1.8
"""How many times as long the diary-shaped adapter must take."""

COMPANY, BURSTS_COMPANY = "79990000000", "79990000001"
CREDS = STATE.with_name("baileys_creds.json")
FIRST_BURST_ID = 100_000

DIARYS_FILES = ("20251007_create_whatsapp_auth_tables.sql", "20251008_optimize_whatsapp_keys.sql")
"""The diary's tables with its indexes and its trigger, as its bots made them."""

PEERS = ("diary", "files")

Texts = Mapping[str, Mapping[str, str]]

Turns = dict[str, list[float]]
"""How long each call of each one's turn took; milliseconds."""


@dataclass(frozen=True)
class Act:
    """Medians of one act: ours, the diary-shaped adapter's, the files'; and Baileys' JSON of the same values alone."""

    store_ms: float
    diary_ms: float
    files_ms: float
    json_ms: float

    @property
    def diary_times(self) -> float:
        """How many times our time the diary-shaped adapter takes."""
        return self.diary_ms / self.store_ms

    @property
    def files_times(self) -> float:
        """How many times our time the files take."""
        return self.files_ms / self.store_ms


@dataclass(frozen=True)
class Peers:
    """The figures of one run; `digest` is of the keys that all three loaded."""

    keys: int
    digest: str
    rounds: int
    node: str
    baileys: str
    pg: str
    keys_per_insert: int
    load: Act
    burst_250: Act
    burst_812: Act

    @property
    def met(self) -> bool:
        """Whether ours is as much faster than the diary-shaped adapter as it must be."""
        bursts = (self.burst_250, self.burst_812)
        return self.load.diary_times >= LOAD_TIMES and all(one.diary_times >= BURST_TIMES for one in bursts)


def measure(
    url: str,
    rounds: int = ROUNDS,
    told: Callable[[int, int], None] = lambda _done, _of: None,
    *,
    keys_per_insert: int = KEYS_PER_INSERT,
) -> Peers | None:
    """The figures on the Postgres server at `url`, in databases made for them; None where Node or npm is absent.

    Raises KeystoreError, also when the three don't hold the same keys.
    """
    programs = node_and_npm()
    if programs is None:
        return None
    node, npm = programs
    install(npm)
    try:
        with (
            database_on(url, "bench_peers_ours") as ours,
            database_on(url, "bench_peers_diary") as theirs,
            tempfile.TemporaryDirectory(prefix="keystore-peers-") as folder,
            closing(open_store(ours)) as store,
            started(node) as peers,
        ):
            _make_diarys_tables(theirs)
            versions = peers.ask("open", url=theirs, folder=folder, keys_per_insert=keys_per_insert)
            return _Measurement(store, peers, {**versions, "keys_per_insert": keys_per_insert}).figures(rounds, told)
    except psycopg.Error as error:
        raise KeystoreError(f"the server can't be used: {type(error).__name__}") from error


class _Measurement:
    """One store, one Node process, and which ids the bursts have come to."""

    def __init__(self, store: Store, peers: Node, versions: dict[str, Any]) -> None:
        self._store = store
        self._peers = peers
        self._versions = versions
        self._first_ids = count(FIRST_BURST_ID, BAILEYS_7_BURST_KEYS)
        self._state = real_state()
        self._ids = {key_type: list(by_id) for key_type, by_id in self._state.items()}
        self._last_burst: dict[str, list[str]] = {}

    def figures(self, rounds: int, told: Callable[[int, int], None]) -> Peers:
        self._fill()
        turns: list[tuple[Turns, Turns, Turns]] = []
        for number in range(WARM_UP_ROUNDS + rounds):
            told(number, WARM_UP_ROUNDS + rounds)
            bursts_250, bursts_812 = (self._bursts(number, keys) for keys in (BURST_KEYS, BAILEYS_7_BURST_KEYS))
            turns.append((self._loads(number), bursts_250, bursts_812))
        keys, digest = self._same(COMPANY, self._ids)
        self._same(BURSTS_COMPANY, self._last_burst)
        load, burst_250, burst_812 = (_medians(of_act) for of_act in zip(*turns[WARM_UP_ROUNDS:], strict=True))
        return Peers(keys, digest, rounds, **self._versions, load=load, burst_250=burst_250, burst_812=burst_812)

    def _fill(self) -> None:
        creds = CREDS.read_bytes()
        for company in (COMPANY, BURSTS_COMPANY):
            self._store.set(company, self._state, creds=creds)
            for who in PEERS:
                self._peers.ask("creds", who=who, company=company, creds=creds.decode())
                self._peers.ask("set", who=who, company=company, sets=[_texts(self._state)])

    def _loads(self, number: int) -> Turns:
        load = partial(self._store.load, COMPANY)
        turns = _in_turn(
            number,
            lambda: [_timed_ms(load) for _ in range(CALLS_PER_TURN)],
            lambda who: self._peers.ask_ms("load", who=who, company=COMPANY, ids=self._ids, times=CALLS_PER_TURN),
        )
        return turns | {"json": self._peers.ask_ms("read", keys=_texts(self._state), times=CALLS_PER_TURN)}

    def _bursts(self, number: int, keys: int) -> Turns:
        """New pre-keys, the same for all three."""
        bursts = [{"pre-key": pre_keys(keys, next(self._first_ids))} for _ in range(CALLS_PER_TURN)]
        self._last_burst = {"pre-key": list(bursts[-1]["pre-key"])}
        texts = [_texts(burst) for burst in bursts]
        turns = _in_turn(
            number,
            lambda: [_timed_ms(partial(self._store.set, BURSTS_COMPANY, burst)) for burst in bursts],
            lambda who: self._peers.ask_ms("set", who=who, company=BURSTS_COMPANY, sets=texts),
        )
        return turns | {"json": self._peers.ask_ms("write", keys=texts[-1], times=CALLS_PER_TURN)}

    def _same(self, company: str, ids: dict[str, list[str]]) -> tuple[int, str]:
        """How many of these keys all three hold, and their digest. Raises KeystoreError where one holds others."""
        asked = {key_type: self._store.get(company, key_type, key_ids) for key_type, key_ids in ids.items()}
        ours = self._peers.ask("look at", keys=_texts(asked))
        for who in PEERS:
            theirs = self._peers.ask("look", who=who, company=company, ids=ids)
            if theirs != ours:
                raise KeystoreError(f"{who} loads {theirs['keys']:,} keys, others than our {ours['keys']:,}")
        return ours["keys"], ours["digest"]


def _make_diarys_tables(url: str) -> None:
    for file in DIARYS_FILES:
        with psycopg.connect(url) as conn:
            conn.execute((MIGRATIONS / "postgres" / file).read_bytes())


def _texts(keys: Mapping[str, Mapping[str, bytes]]) -> Texts:
    return {key_type: {key_id: value.decode() for key_id, value in by_id.items()} for key_type, by_id in keys.items()}


def _in_turn(number: int, ours: Callable[[], list[float]], theirs: Callable[[str], list[float]]) -> Turns:
    """What each call of each takes; another goes first in each round."""
    first = number % 3
    order = ("store", *PEERS)
    return {who: ours() if who == "store" else theirs(who) for who in order[first:] + order[:first]}


def _timed_ms(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return (perf_counter() - began) * 1000


def _medians(rounds: Sequence[Turns]) -> Act:
    calls = {who: [ms for turns in rounds for ms in turns[who][1:]] for who in rounds[0]}
    return Act(**{f"{who}_ms": round(median(of_who), 3) for who, of_who in calls.items()})
