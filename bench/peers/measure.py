"""The store against what bots use without it: Baileys' own `useMultiFileAuthState`, and the legacy adapter.

The legacy adapter is a plain `pg` adapter, written as the bots of the original operator had theirs
(`bench/seat/legacy.mjs`).

All three hold the same 721 real keys and take turns: the store and the adapter on one Postgres server, the files in a
temporary folder. A load is creds and every key; a burst is one set of new pre-keys. The store is timed from Python, the
others inside Node processes that run for the whole measurement (`bench/seat/seat.mjs`).

Two things differ. The times of the others contain the conversion of Baileys' values from and to JSON, which a bot on
the store does itself. So Baileys' own `BufferJSON` is timed on the same values too (`json_ms`). And the files are not
synced to the disk.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench.limits import Limit, Target
from bench.measuring import Progress, no_progress, timed_ms
from bench.seat.program import Bot, Texts, as_texts, node_with_packages, started
from bench.seat.stores import KEYS_PER_INSERT, files, legacy
from keystore.errors import KeystoreError
from keystore.opening import open_store
from keystore.store import Store
from rig.baileys_state import BAILEYS_7_BURST_KEYS, BURST_KEYS, pre_keys, real_creds, real_keys
from rig.postgres_server import database_on

ROUNDS = 15
WARM_UP_ROUNDS = 3
"""Rounds that don't count, in which Node compiles what runs often."""

CALLS_PER_TURN = 4
"""Calls in a row, of which the first doesn't count: after the others' turns it takes up to twice as long."""

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
FIRST_BURST_ID = 100_000

PEERS = ("legacy", "files")
"""The peers, by their names in the Node program."""

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
    node = node_with_packages()
    if node is None:
        return None
    with (
        database_on(url, "bench_peers_store") as store_url,
        database_on(url, "bench_peers_legacy") as peers_url,
        tempfile.TemporaryDirectory(prefix="keystore-peers-") as folder,
        closing(open_store(store_url)) as store,
        started(node, legacy(peers_url, keys_per_insert)) as legacy_bot,
        started(node, files(Path(folder))) as files_bot,
    ):
        return _Measurement(store, legacy_bot, files_bot).figures(rounds, keys_per_insert, progress)


class _Measurement:
    """One store and two Node processes that hold the same keys, and the ids of the bursts so far."""

    def __init__(self, store: Store, legacy: Bot, files: Bot) -> None:
        self._store = store
        self._peers = dict(zip(PEERS, (legacy, files), strict=True))
        self._first_ids = count(FIRST_BURST_ID, BAILEYS_7_BURST_KEYS)
        self._state = real_keys()
        self._ids = {key_type: list(by_id) for key_type, by_id in self._state.items()}
        self._last_burst: dict[str, list[str]] = {}

    def figures(self, rounds: int, keys_per_insert: int, progress: Progress) -> Peers:
        self._fill()
        turns: list[list[Turns]] = []
        for number in range(WARM_UP_ROUNDS + rounds):
            progress(number, WARM_UP_ROUNDS + rounds)
            bursts = [self._bursts(number, keys) for keys in (BURST_KEYS, BAILEYS_7_BURST_KEYS)]
            turns.append([self._loads(number), *bursts])
        keys, digest = self._same_keys(COMPANY, self._ids)
        self._same_keys(BURSTS_COMPANY, self._last_burst)
        acts = map(_medians, zip(*turns[WARM_UP_ROUNDS:], strict=True))
        versions = self._peers["legacy"].versions
        return Peers(keys, digest, rounds, versions.node, versions.baileys, versions.pg, keys_per_insert, *acts)

    def _fill(self) -> None:
        self._store.set(COMPANY, self._state, creds=real_creds())
        self._store.set(BURSTS_COMPANY, self._state, creds=real_creds())
        for peer in self._peers.values():
            companies = [COMPANY, BURSTS_COMPANY]
            peer.ask("fill", companies=companies, creds=real_creds().decode(), keys=as_texts(self._state))

    def _loads(self, number: int) -> Turns:
        load = partial(self._store.load, COMPANY)
        turns = _in_turn(
            number,
            lambda: [timed_ms(load) for _ in range(CALLS_PER_TURN)],
            lambda peer: self._peers[peer].ask("load", company=COMPANY, ids=self._ids, times=CALLS_PER_TURN).ms,
        )
        return turns | {"json": self._json("read", as_texts(self._state))}

    def _bursts(self, number: int, keys: int) -> Turns:
        """Write new pre-keys, the same into all three."""
        bursts = [{"pre-key": pre_keys(keys, next(self._first_ids))} for _ in range(CALLS_PER_TURN)]
        self._last_burst = {"pre-key": list(bursts[-1]["pre-key"])}
        texts = [as_texts(burst) for burst in bursts]
        turns = _in_turn(
            number,
            lambda: [timed_ms(partial(self._store.set, BURSTS_COMPANY, burst)) for burst in bursts],
            lambda peer: self._peers[peer].ask("set", company=BURSTS_COMPANY, sets=texts).ms,
        )
        return turns | {"json": self._json("write", texts[-1])}

    def _json(self, act: str, texts: Texts) -> list[float]:
        """The times of Baileys' conversion alone, in one of the Node processes."""
        return self._peers["files"].ask(act, keys=texts, times=CALLS_PER_TURN).ms

    def _same_keys(self, company: str, ids: dict[str, list[str]]) -> tuple[int, str]:
        """The number of these keys in all three, and their digest. Raises KeystoreError if the keys differ."""
        loaded = {key_type: self._store.get(company, key_type, key_ids) for key_type, key_ids in ids.items()}
        expected = self._peers["files"].ask("look at", keys=as_texts(loaded))
        for name, peer in self._peers.items():
            look = peer.ask("look", company=company, ids=ids)
            if look != expected:
                raise KeystoreError(f"{name} loads {look.keys:,} keys, others than the store's {expected.keys:,}")
        return expected.keys, expected.digest


def _in_turn(number: int, time_store: Callable[[], list[float]], time_peer: Callable[[str], list[float]]) -> Turns:
    """The times of each call of all three; another begins in each round."""
    first = number % 3
    order = ("store", *PEERS)
    return {name: time_store() if name == "store" else time_peer(name) for name in order[first:] + order[:first]}


def _medians(rounds: Sequence[Turns]) -> Act:
    calls = {name: [ms for turns in rounds for ms in turns[name][1:]] for name in rounds[0]}
    medians = {name: round(median(calls_ms), 3) for name, calls_ms in calls.items()}
    return Act(medians["store"], medians["legacy"], medians["files"], medians["json"])
