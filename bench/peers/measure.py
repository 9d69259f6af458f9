"""The store against what bots use without it: Baileys' own `useMultiFileAuthState`, and the legacy adapter.

The legacy adapter is a plain `pg` adapter, written as the bots of the original operator had theirs (`legacy.mjs`).

All three hold the same 721 real keys and take turns: the store and the adapter on one Postgres server, the files in a
temporary folder. A load is creds and every key; a burst is one set of new pre-keys. The store is timed from Python, the
others inside a Node process that runs for the whole measurement.

Two things differ. The times of the others contain the conversion of Baileys' values from and to JSON, which a bot on
the store does itself. So Baileys' own `BufferJSON` is timed on the same values too (`json_ms`). And the files are not
synced to the disk.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from statistics import median

import psycopg
from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import Progress, no_progress, timed_ms
from bench.peers.node import Answer, Node, install, node_and_npm, started
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.schema import MIGRATIONS
from keystore.store import Store
from rig.baileys_state import BAILEYS_7_BURST_KEYS, BURST_KEYS, STATE, pre_keys, real_keys
from rig.postgres_server import database_on

ROUNDS = 15
WARM_UP_ROUNDS = 3
"""Rounds that don't count, in which Node compiles what runs often."""

CALLS_PER_TURN = 4
"""Calls in a row, of which the first doesn't count: after the others' turns it takes up to twice as long."""

KEYS_PER_INSERT = 100
"""Keys in one INSERT of the legacy adapter, as the original operator's bots had it; more are faster, fewer slower."""

MOST_KEYS_PER_INSERT = 10_000
"""The limit of Postgres' protocol: a key is six parameters, and a statement takes 65,535."""

LOAD_LIMIT, BURST_LIMIT = Limit(8, "× faster", at_least=True), Limit(1.8, "× faster", at_least=True)

TARGETS = (
    ("load_peers", "load of an account", LOAD_LIMIT),
    ("burst_250_peers", "burst of 250 pre-keys", BURST_LIMIT),
    ("burst_812_peers", "burst of 812 pre-keys", BURST_LIMIT),
)
"""The name, the text and the limit of each act's target."""

COMPANY, BURSTS_COMPANY = "79990000000", "79990000001"
CREDS = STATE.with_name("baileys_creds.json")
FIRST_BURST_ID = 100_000

LEGACY_FILES = ("20251007_create_whatsapp_auth_tables.sql", "20251008_optimize_whatsapp_keys.sql")
"""The migrations that make the original operator's tables, with their indexes and their trigger."""

PEERS = ("legacy", "files")
"""The names of the peers in the Node program."""

Texts = Mapping[str, Mapping[str, str]]

Turns = dict[str, list[float]]
"""The milliseconds of each call in a turn, by the name of the peer."""


class Act(Struct, frozen=True):
    """Medians of one act: of the store, the legacy adapter, the files, and Baileys' JSON of the same values alone."""

    store_ms: float
    diary_ms: float
    files_ms: float
    json_ms: float

    @property
    def legacy_ratio(self) -> float:
        """The time of the legacy adapter as a multiple of the store's."""
        return self.diary_ms / self.store_ms

    @property
    def files_ratio(self) -> float:
        """The time of the files as a multiple of the store's."""
        return self.files_ms / self.store_ms


class Peers(Struct, frozen=True):
    """The figures of one run; `digest` is the hash of the keys that all three loaded."""

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
    def acts(self) -> dict[str, Act]:
        """The acts by the name that tables and charts show."""
        return {"load": self.load, "burst of 250": self.burst_250, "burst of 812": self.burst_812}


def targets(peers: Peers | None) -> list[Target]:
    """The factors by which the store must be faster than the legacy adapter; without figures they are unmeasured."""
    rows = []
    acts = peers.acts.values() if peers else (None, None, None)
    for (name, what, limit), act in zip(TARGETS, acts, strict=True):
        what = f"{what}, against the legacy adapter"
        if act is None:
            rows.append(Target.unmeasured(name, what, limit, "no Node here"))
        else:
            shown = f"{act.legacy_ratio:.1f} × ({act.store_ms:.2f} against {act.diary_ms:.1f} ms)"
            rows.append(Target.judged(name, what, shown, (act.legacy_ratio, limit)))
    return rows


def measure(
    url: str, rounds: int = ROUNDS, progress: Progress = no_progress, *, keys_per_insert: int = KEYS_PER_INSERT
) -> Peers | None:
    """The figures on the Postgres server at `url`, in databases made for them; None if Node or npm is absent.

    Raises KeystoreError, also when the three don't hold the same keys.
    """
    programs = node_and_npm()
    if programs is None:
        return None
    node, npm = programs
    install(npm)
    with (
        database_on(url, "bench_peers_store") as store_url,
        database_on(url, "bench_peers_legacy") as peers_url,
        tempfile.TemporaryDirectory(prefix="keystore-peers-") as folder,
        closing(open_store(store_url)) as store,
        started(node) as peers,
    ):
        for file in LEGACY_FILES:
            with psycopg.connect(peers_url) as conn:
                conn.execute((MIGRATIONS / "postgres" / file).read_bytes())
        versions = peers.ask("open", url=peers_url, folder=folder, keys_per_insert=keys_per_insert)
        return _Measurement(store, peers).figures(rounds, versions, keys_per_insert, progress)


class _Measurement:
    """One store and one Node process that hold the same keys, and the ids of the bursts so far."""

    def __init__(self, store: Store, peers: Node) -> None:
        self._store = store
        self._peers = peers
        self._first_ids = count(FIRST_BURST_ID, BAILEYS_7_BURST_KEYS)
        self._state = real_keys()
        self._ids = {key_type: list(by_id) for key_type, by_id in self._state.items()}
        self._last_burst: dict[str, list[str]] = {}

    def figures(self, rounds: int, versions: Answer, keys_per_insert: int, progress: Progress) -> Peers:
        self._fill()
        turns: list[list[Turns]] = []
        for number in range(WARM_UP_ROUNDS + rounds):
            progress(number, WARM_UP_ROUNDS + rounds)
            bursts = [self._bursts(number, keys) for keys in (BURST_KEYS, BAILEYS_7_BURST_KEYS)]
            turns.append([self._loads(number), *bursts])
        keys, digest = self._same_keys(COMPANY, self._ids)
        self._same_keys(BURSTS_COMPANY, self._last_burst)
        acts = map(_medians, zip(*turns[WARM_UP_ROUNDS:], strict=True))
        return Peers(keys, digest, rounds, versions.node, versions.baileys, versions.pg, keys_per_insert, *acts)

    def _fill(self) -> None:
        creds = CREDS.read_bytes()
        for company in (COMPANY, BURSTS_COMPANY):
            self._store.set(company, self._state, creds=creds)
            for peer in PEERS:
                self._peers.ask("creds", who=peer, company=company, creds=creds.decode())
                self._peers.ask("set", who=peer, company=company, sets=[_texts(self._state)])

    def _loads(self, number: int) -> Turns:
        load = partial(self._store.load, COMPANY)
        turns = _in_turn(
            number,
            lambda: [timed_ms(load) for _ in range(CALLS_PER_TURN)],
            lambda peer: self._peers.ask("load", who=peer, company=COMPANY, ids=self._ids, times=CALLS_PER_TURN).ms,
        )
        return turns | {"json": self._peers.ask("read", keys=_texts(self._state), times=CALLS_PER_TURN).ms}

    def _bursts(self, number: int, keys: int) -> Turns:
        """Write new pre-keys, the same into all three."""
        bursts = [{"pre-key": pre_keys(keys, next(self._first_ids))} for _ in range(CALLS_PER_TURN)]
        self._last_burst = {"pre-key": list(bursts[-1]["pre-key"])}
        texts = [_texts(burst) for burst in bursts]
        turns = _in_turn(
            number,
            lambda: [timed_ms(partial(self._store.set, BURSTS_COMPANY, burst)) for burst in bursts],
            lambda peer: self._peers.ask("set", who=peer, company=BURSTS_COMPANY, sets=texts).ms,
        )
        return turns | {"json": self._peers.ask("write", keys=texts[-1], times=CALLS_PER_TURN).ms}

    def _same_keys(self, company: str, ids: dict[str, list[str]]) -> tuple[int, str]:
        """The number of these keys in all three, and their digest. Raises KeystoreError if the keys differ."""
        loaded = {key_type: self._store.get(company, key_type, key_ids) for key_type, key_ids in ids.items()}
        expected = self._peers.ask("look at", keys=_texts(loaded))
        for peer in PEERS:
            look = self._peers.ask("look", who=peer, company=company, ids=ids)
            if look != expected:
                raise KeystoreError(f"{peer} loads {look.keys:,} keys, others than the store's {expected.keys:,}")
        return expected.keys, expected.digest


def _texts(keys: Mapping[str, Mapping[str, bytes]]) -> Texts:
    return {key_type: {key_id: value.decode() for key_id, value in by_id.items()} for key_type, by_id in keys.items()}


def _in_turn(number: int, time_store: Callable[[], list[float]], time_peer: Callable[[str], list[float]]) -> Turns:
    """The times of each call of all three; another begins in each round."""
    first = number % 3
    order = ("store", *PEERS)
    return {name: time_store() if name == "store" else time_peer(name) for name in order[first:] + order[:first]}


def _medians(rounds: Sequence[Turns]) -> Act:
    calls = {name: [ms for turns in rounds for ms in turns[name][1:]] for name in rounds[0]}
    medians = {name: round(median(calls_ms), 3) for name, calls_ms in calls.items()}
    return Act(medians["store"], medians["legacy"], medians["files"], medians["json"])
