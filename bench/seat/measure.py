"""Our client and the stores that bots use without it, measured from the bot's seat: inside Node, on the same 721 keys.

Our client goes straight to Postgres, with plain values and with sealed ones, and over HTTP to a service with one
worker, on Postgres and on SQLite. Beside it are a plain `pg` adapter as the original operator's bots had it, Baileys'
own `useMultiFileAuthState`, and `redis-baileys` on a Redis that syncs each write or once a second. The limit is the
least that a client must do: one query reads everything, and one prepared upsert writes.

Each store has a Node process of its own, and the stores take turns. A bot's start is a new connection that reads creds
and every key; closing it is not timed. A message is the durable write of one session.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from itertools import chain, count
from statistics import median
from typing import TypeVar

import psutil
from msgspec import Struct
from msgspec.structs import replace

from bench.machine import commit, this_machine
from bench.measuring import Progress, Times, no_progress
from bench.seat import stores
from bench.seat.figures import Cpu, Far, Row, Seat
from bench.seat.program import Answer, Bot, Texts, as_texts, node_with_packages, started
from bench.seat.stores import Store
from keystore.errors import KeystoreError
from keystore.opening import open_store
from rig.baileys_state import BURST_KEYS, pre_keys, real_creds, real_keys
from rig.relay import relay_to

ROUNDS = 9
WARM_UP_MS, WARM_UP_ROUNDS = 2_000.0, 2
"""The messages and the rounds that don't count, in which Node compiles what runs often."""

STARTS, MESSAGES, BURSTS = 4, 40, 4
"""Calls in a turn, of which the first doesn't count: after the others' turns it takes longer."""

FAR_STARTS, FAR_MESSAGES = 3, 8
ROUND_TRIP_MS = 20.0
"""The distance between bot and server at which starts and messages are measured too."""

ACCOUNTS = (1, 16, 200)
TURN_MS = 400.0
"""The time for which accounts write their messages in a turn."""

CPU_ACCOUNTS = 16
"""The number of accounts whose messages' processor time is measured."""

PHASES = 2 + len(ACCOUNTS)
"""Starts, messages and bursts near the server; each number of accounts; starts and messages far from it."""

STARTING, WRITING = "79990000000", "79990000001"
"""The accounts that only start, and that write messages and bursts."""

CROWD = [WRITING, *(f"7999001{number:04}" for number in range(1, max(ACCOUNTS)))]
CROWD_SESSIONS = 10
"""The accounts that write at the same time. All but the first have a few sessions only."""

WARM_UP_ACCOUNTS = 5
IN_MEMORY = [[f"7999003{process}{number:03}" for number in range(55)] for process in range(3)]
"""The accounts whose memory is measured in each of these processes, after that of the first ones has been given to Node
and its libraries. The median counts: what Node's collector leaves differs by a few kilobytes for an account."""

FIRST_BURST_ID = 100_000

KB = 1_000

T = TypeVar("T")


class Single(Struct, frozen=True):
    """The milliseconds of the calls in one turn of a single account, without the first call of each kind."""

    starts: list[float]
    opened: list[float]
    messages: list[float]
    bursts: list[float] = []


class Crowd(Struct, frozen=True):
    """The messages of one turn of several accounts, the time that it took, and the processor time of the programs."""

    messages: int
    s: float
    node_s: float
    service_s: float
    database_s: float


def measure(server: str, rounds: int = ROUNDS, progress: Progress = no_progress) -> Seat | None:
    """The figures with the Postgres server at `server`, in databases made for them; None if Node or npm is absent.

    Raises KeystoreError, also when the stores don't hold the same keys at the end.
    """
    node = node_with_packages()
    if node is None:
        return None
    taken_at = datetime.now(UTC).replace(microsecond=0)
    companies = [STARTING, *CROWD, *chain.from_iterable(IN_MEMORY)]
    with stores.opened(server, companies) as at:
        return _Measurement(node, at, rounds, progress).figures(server, taken_at)


class _Measurement:
    """The stores of one run, and the ids of the bursts so far."""

    def __init__(self, node: str, at: Mapping[str, Store], rounds: int, progress: Progress) -> None:
        self._node = node
        self._stores = at
        self._rounds = rounds
        self._progress = progress
        self._steps = count()
        self._state = real_keys()
        self._ids = {key_type: list(by_id) for key_type, by_id in self._state.items()}
        self._sessions = list(self._state["session"].items())
        self._few = as_texts({"session": dict(self._sessions[:CROWD_SESSIONS])})

    def figures(self, server: str, taken_at: datetime) -> Seat:
        """Measure near, then at a distance, then the memory; each with new Node processes."""
        with ExitStack() as stack:
            near = {name: stack.enter_context(started(self._node, at)) for name, at in self._stores.items()}
            for bot in near.values():
                self._fill(bot)
                self._write(bot, 1, WARM_UP_MS)
            single = self._turns(near, self._single(STARTS, MESSAGES, BURSTS))
            crowds = {accounts: self._turns(near, self._crowd(accounts)) for accounts in ACCOUNTS}
            keys, digest = self._same_keys(near)
            versions = near["limit"].versions
        with ExitStack() as stack:
            far = {
                name: stack.enter_context(started(self._node, self._behind_a_relay(stack, at)))
                for name, at in self._stores.items()
                if "url" in at.address
            }
            distant = self._turns(far, self._single(FAR_STARTS, FAR_MESSAGES, 0))
        memory = {
            name: median(self._memory_kb(at, companies) for companies in IN_MEMORY)
            for name, at in self._stores.items()
            if at.database_url
        }
        return Seat(
            taken_at=taken_at,
            commit=commit(),
            machine=this_machine(server, versions.node),
            baileys=versions.baileys,
            pg=versions.pg,
            keys=keys,
            digest=digest,
            rounds=self._rounds,
            round_trip_ms=ROUND_TRIP_MS,
            rows={
                name: _row(
                    single[name],
                    {accounts: turns[name] for accounts, turns in crowds.items()},
                    distant.get(name),
                    memory.get(name),
                )
                for name in self._stores
            },
            unmeasured=stores.missing(),
        )

    def _fill(self, bot: Bot) -> None:
        """Store the real keys in the first accounts, and a few sessions in the others of the crowd."""
        for companies, keys in (([STARTING, WRITING], as_texts(self._state)), (CROWD[1:], self._few)):
            bot.ask("fill", companies=companies, creds=real_creds().decode(), keys=keys)

    def _turns(self, bots: Mapping[str, Bot], turn: Callable[[str, Bot, int], T]) -> dict[str, list[T]]:
        """The turns of each store that count; another one begins in each round."""
        turns: dict[str, list[T]] = {name: [] for name in bots}
        names = list(bots)
        for number in range(WARM_UP_ROUNDS + self._rounds):
            self._progress(next(self._steps), PHASES * (WARM_UP_ROUNDS + self._rounds))
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turned = turn(name, bots[name], number)
                if number >= WARM_UP_ROUNDS:
                    turns[name].append(turned)
        return turns

    def _single(self, starts: int, messages: int, bursts: int) -> Callable[[str, Bot, int], Single]:
        """Turns with so many calls of each kind."""

        def turn(_: str, bot: Bot, number: int) -> Single:
            start = bot.ask("connect", company=STARTING, ids=self._ids, times=starts)
            return Single(
                start.ms[1:],
                start.opened_ms[1:],
                bot.ask("set", company=WRITING, sets=self._messages(number, messages)).ms[1:],
                bot.ask("set", company=WRITING, sets=_bursts(number, bursts)).ms[1:],
            )

        return turn

    def _messages(self, number: int, messages: int) -> list[Texts]:
        """The writes of one session each in the round with this number, the same in every store."""
        sessions = self._sessions
        at = [(number * messages + message) % len(sessions) for message in range(messages)]
        return [as_texts({"session": {sessions[n][0]: sessions[(n + number + 1) % len(sessions)][1]}}) for n in at]

    def _write(self, bot: Bot, accounts: int, for_ms: float) -> Answer:
        """Let so many accounts write messages for this time."""
        return bot.ask("messages", companies=CROWD[:accounts], keys=self._few, for_ms=for_ms)

    def _crowd(self, accounts: int) -> Callable[[str, Bot, int], Crowd]:
        """Turns of so many accounts."""

        def turn(name: str, bot: Bot, _: int) -> Crowd:
            programs = bot.pid, self._stores[name].service, self._stores[name].database
            before = list(map(_cpu_s, programs))
            answer = self._write(bot, accounts, TURN_MS)
            node_s, service_s, database_s = (_cpu_s(pid) - was for pid, was in zip(programs, before, strict=True))
            return Crowd(answer.messages, answer.ms[0] / 1000, node_s, service_s, database_s)

        return turn

    def _behind_a_relay(self, stack: ExitStack, store: Store) -> Store:
        url = str(store.address["url"])
        relay = stack.enter_context(relay_to(url, ROUND_TRIP_MS / 1000))
        return replace(store, address={**store.address, "url": relay.url(url)})

    def _memory_kb(self, store: Store, companies: Sequence[str]) -> float:
        """The memory of an account beyond its keys' JSON, in a new process that loads these."""
        assert store.database_url is not None
        with closing(open_store(store.database_url)) as python_side:
            for number, company in enumerate(companies):
                python_side.set(company, self._with_own_ids(number), creds=real_creds())
        first, measured = companies[:WARM_UP_ACCOUNTS], companies[WARM_UP_ACCOUNTS:]
        with started(self._node, store) as bot:
            all_bytes = bot.ask("memory", first=first, companies=measured).bytes
        # In JSON each key has quotes, a colon and a comma.
        types = self._with_own_ids(0).values()
        json_bytes = sum(len(key_id) + len(value) + 4 for by_id in types for key_id, value in by_id.items())
        return round((all_bytes / len(measured) - json_bytes) / KB, 1)

    def _with_own_ids(self, number: int) -> dict[str, dict[str, bytes]]:
        """The real keys with ids that no other account has: Node may hold equal texts once."""
        return {
            key_type: {f"{number:02}{key_id}": value for key_id, value in by_id.items()}
            for key_type, by_id in self._state.items()
        }

    def _same_keys(self, bots: Mapping[str, Bot]) -> tuple[int, str]:
        """The number of an account's keys in every store, and their digest. Raises KeystoreError if they differ."""
        looks = {name: bot.ask("look", company=WRITING, ids=self._ids) for name, bot in bots.items()}
        expected = looks["limit"]
        for name, look in looks.items():
            if look != expected:
                raise KeystoreError(f"{name} loads {look.keys:,} keys, others than the {expected.keys:,} of the limit")
        return expected.keys, expected.digest


def _bursts(number: int, bursts: int) -> list[Texts]:
    """Bursts of new pre-keys for the round with this number."""
    first = FIRST_BURST_ID + number * bursts * BURST_KEYS
    return [as_texts({"pre-key": pre_keys(first=first + burst * BURST_KEYS)}) for burst in range(bursts)]


def _cpu_s(pid: int | None) -> float:
    """The processor time of a program and of its children; 0 without one."""
    if pid is None:
        return 0.0
    program = psutil.Process(pid)
    seconds = 0.0
    for process in (program, *program.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def _row(
    single: Sequence[Single],
    crowds: Mapping[int, Sequence[Crowd]],
    far: Sequence[Single] | None,
    memory_kb: float | None,
) -> Row:
    rates = {str(accounts): median(turn.messages / turn.s for turn in turns) for accounts, turns in crowds.items()}
    return Row(
        connect_ms=_median_ms(turn.starts for turn in single),
        opened_ms=_median_ms(turn.opened for turn in single),
        message=Times.summary([ms for turn in single for ms in turn.messages]),
        burst_ms=_median_ms(turn.bursts for turn in single),
        per_s={accounts: round(rate, 1) for accounts, rate in rates.items()},
        cpu=_cpu(crowds[CPU_ACCOUNTS]),
        far=_far(far) if far else None,
        memory_kb=memory_kb,
    )


def _far(turns: Sequence[Single]) -> Far:
    return Far(_median_ms(turn.starts for turn in turns), _median_ms(turn.messages for turn in turns))


def _cpu(turns: Sequence[Crowd]) -> Cpu:
    """The mean processor time of a message; a turn alone is too short for the clock of /proc."""
    messages = sum(turn.messages for turn in turns)
    programs = zip(*((turn.node_s, turn.service_s, turn.database_s) for turn in turns), strict=True)
    return Cpu(*(round(1e6 * sum(seconds) / messages, 1) for seconds in programs))


def _median_ms(turns: Iterable[Sequence[float]]) -> float:
    return round(median(chain.from_iterable(turns)), 3)
