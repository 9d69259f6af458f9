"""Numbered writes under a lease: a retry is written once, and a write that arrives late changes nothing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystore import InvalidInput, LeaseLost, QuotaExceeded, Store, StoreUnavailable, open_store
from keystore.records import Keys, Quota
from rig.fixtures.citus import not_on_citus
from rig.fixtures.clock import Clock
from rig.relay import Relay
from rig.waiting import eventually
from tests.conformance.conftest import MakeStore
from tests.conformance.links import postgres_link

ROUNDS = 1_000
"""Random deliveries for each database in the slow test."""

WRITES: dict[str, Callable[[Store, int, int], None]] = {
    "set": lambda store, epoch, seq: store.set("7", {"session": {"a": b"X"}}, epoch=epoch, seq=seq),
    "set of deletions": lambda store, epoch, seq: store.set("7", {"session": {"a": None}}, epoch=epoch, seq=seq),
    "set_creds": lambda store, epoch, seq: store.set_creds("7", b"X", epoch=epoch, seq=seq),
    "clear": lambda store, epoch, seq: store.clear("7", epoch=epoch, seq=seq),
    "clear of keys": lambda store, epoch, seq: store.clear("7", keys_only=True, epoch=epoch, seq=seq),
}


@pytest.fixture
def epoch(store: Store) -> int:
    """The epoch of a lease of company 7, which has a state, and under which five writes were made."""
    store.set("7", {"session": {"a": b"A"}, "pre-key": {"1": b"P"}}, creds=b"C")
    epoch = store.lease_company("7", "holder", 600).epoch
    for seq in range(1, 6):
        store.set("7", {"session": {"a": b"%d" % seq}}, epoch=epoch, seq=seq)
    return epoch


@pytest.mark.parametrize("seq", [5, 4, 1])
@pytest.mark.parametrize("write", WRITES)
def test_a_repeated_or_a_late_write_is_done_and_changes_nothing(
    store: Store, clock: Clock, epoch: int, write: str, seq: int
) -> None:
    before = store.export_rows("7"), store.load("7"), store.counts(clock())
    WRITES[write](store, epoch, seq)
    assert (store.export_rows("7"), store.load("7"), store.counts(clock())) == before


@pytest.mark.parametrize("write", WRITES)
def test_the_next_number_is_written_and_kept(store: Store, epoch: int, write: str) -> None:
    before = store.load("7")
    WRITES[write](store, epoch, 6)
    after = store.load("7")
    assert (after.creds, after.keys) != (before.creds, before.keys)
    assert (after.epoch, after.seq) == (epoch, 6)


def test_a_number_may_be_skipped_and_then_it_is_late(store: Store, epoch: int) -> None:
    store.set("7", {"session": {"a": b"eight"}}, epoch=epoch, seq=8)
    store.set("7", {"session": {"a": b"six"}}, epoch=epoch, seq=6)
    assert store.get("7", "session", ["a"]) == {"a": b"eight"}
    assert store.load("7").seq == 8


def test_a_refused_write_leaves_its_number_unused(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, quota=Quota(keys=2))
    epoch = store.lease_company("7", "holder", 600).epoch
    with pytest.raises(QuotaExceeded):
        store.set("7", {"session": {"a": b"A", "b": b"B", "c": b"C"}}, epoch=epoch, seq=1)
    assert (store.load("7").total, store.load("7").seq) == (0, 0)
    store.set("7", {"session": {"a": b"A"}}, epoch=epoch, seq=1)
    assert (store.load("7").total, store.load("7").seq) == (1, 1)


def test_a_repetition_leaves_the_allowance_of_the_quota_as_it_is(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, quota=Quota(keys=2))
    epoch = store.lease_company("7", "holder", 600).epoch
    store.set("7", {"session": {"a": b"A", "b": b"B"}}, epoch=epoch, seq=1)
    store.set("7", {"session": {"a": b"A", "b": b"B"}}, epoch=epoch, seq=1)
    with pytest.raises(QuotaExceeded):
        store.set("7", {"session": {"c": b"C"}}, epoch=epoch, seq=2)


def test_the_numbers_of_a_new_epoch_begin_again(store: Store, epoch: int) -> None:
    assert store.lease_company("7", "holder", 600, epoch=epoch).seq == 5
    taken = store.lease_company("7", "holder", 600)
    assert (taken.epoch, taken.seq) == (epoch + 1, 0)
    assert (store.load("7").epoch, store.load("7").seq) == (epoch + 1, 0)
    store.set("7", {"session": {"a": b"new"}}, epoch=taken.epoch, seq=1)
    assert store.get("7", "session", ["a"]) == {"a": b"new"}


@pytest.mark.parametrize("seq", [1, 5, 6])
def test_a_number_of_another_epoch_is_refused_and_never_done(store: Store, epoch: int, seq: int) -> None:
    store.lease_company("7", "newer", 600, force=True)
    with pytest.raises(LeaseLost):
        store.set("7", {"session": {"a": b"X"}}, epoch=epoch, seq=seq)
    store.release_company("7", "newer", epoch + 1)
    with pytest.raises(LeaseLost):
        store.set("7", {"session": {"a": b"X"}}, epoch=epoch, seq=seq)


def test_a_write_without_a_number_is_written_and_counts_for_none(store: Store, epoch: int) -> None:
    store.set("7", {"session": {"a": b"plain"}}, epoch=epoch)
    assert store.get("7", "session", ["a"]) == {"a": b"plain"}
    assert store.load("7").seq == 5


def test_the_numbers_stay_after_the_lease_has_ended(store: Store, epoch: int) -> None:
    store.release_company("7", "holder", epoch)
    assert (store.load("7").epoch, store.load("7").seq) == (epoch, 5)
    assert (store.load("nobody").epoch, store.load("nobody").seq) == (0, 0)


@pytest.mark.parametrize(("carried", "seq"), [(None, 1), (1, 0), (1, -1), (1, 2**63), (1, 1.0), (1, True), (1, "1")])
def test_a_number_that_none_can_be_is_refused(store: Store, epoch: int, carried: int | None, seq: object) -> None:
    with pytest.raises(InvalidInput, match="seq"):
        store.set("7", {"session": {"a": b"X"}}, epoch=carried, seq=seq)  # type: ignore[arg-type]


KEYS = st.dictionaries(
    st.sampled_from(["session", "pre-key"]),
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.binary(min_size=1, max_size=2)), min_size=1),
    min_size=1,
)


@dataclass
class Delivery:
    """A write of the holder, and the writes before which it arrives: at first, and once more for each copy.

    The holder repeats a write until it is acknowledged, or gives it up and goes on with the next.
    """

    keys: Keys
    creds: bytes | None
    acknowledged: bool
    copies_after: list[int] = field(default_factory=list)


DELIVERIES = st.lists(
    st.builds(
        Delivery,
        KEYS,
        st.one_of(st.none(), st.binary(min_size=1, max_size=2)),
        st.booleans(),
        st.lists(st.integers(0, 4), max_size=3),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture
def companies() -> Iterator[str]:
    """Ids of new companies."""
    return (f"c{number}" for number in count())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=DELIVERIES)
def test_any_delays_repetitions_and_orders_equal_a_dict(
    store: Store, companies: Iterator[str], deliveries: list[Delivery]
) -> None:
    require_equal_to_a_dict(store, next(companies), deliveries)


@pytest.mark.slow
@not_on_citus("it would take some minutes there")
@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
def test_a_thousand_delays_repetitions_and_orders_equal_a_dict(store: Store, companies: Iterator[str]) -> None:
    for seed in range(ROUNDS):
        deliveries = random_deliveries(Random(seed))
        try:
            require_equal_to_a_dict(store, next(companies), deliveries)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


def random_deliveries(random: Random) -> list[Delivery]:
    """Return deliveries like those of `DELIVERIES`; it makes them faster."""

    def value() -> bytes | None:
        return random.choice((None, random.randbytes(1), random.randbytes(2)))

    return [
        Delivery(
            {
                key_type: {key_id: value() for key_id in random.sample("abc", random.randint(1, 3))}
                for key_type in random.sample(["session", "pre-key"], random.randint(1, 2))
            },
            value(),
            random.random() < 0.5,
            [random.randint(0, 4) for _ in range(random.randint(0, 3))],
        )
        for _ in range(random.randint(1, 8))
    ]


def require_equal_to_a_dict(store: Store, company: str, deliveries: list[Delivery]) -> None:
    """Deliver the writes to a store and to a dict, and compare the two."""
    epoch = store.lease_company(company, "holder", 600).epoch
    keys: dict[tuple[str, str], bytes] = {}
    creds: bytes | None = None
    last = 0

    def deliver(seq: int) -> None:
        """Deliver a write; in the dict it counts if no later one did."""
        nonlocal last, creds
        write = deliveries[seq - 1]
        store.set(company, write.keys, write.creds, epoch=epoch, seq=seq)
        if seq <= last:
            return
        last = seq
        creds = write.creds or creds
        for key_type, by_id in write.keys.items():
            for key_id, value in by_id.items():
                keys.pop((key_type, key_id), None)
                if value is not None:
                    keys[key_type, key_id] = value

    late: list[tuple[int, int]] = []
    for seq, write in enumerate(deliveries, 1):
        if write.acknowledged:
            deliver(seq)
        late += [(seq + after, seq) for after in write.copies_after]
        for copy in [copy for copy in late if copy[0] <= seq]:
            late.remove(copy)
            deliver(copy[1])
    for _, seq in late:
        deliver(seq)
    state = store.load(company)
    stored = {(key_type, key_id): value for key_type, by_id in state.keys.items() for key_id, value in by_id.items()}
    assert (state.creds, stored, state.epoch, state.seq) == (creds, keys, epoch, last)


@pytest.mark.slow
@pytest.mark.parametrize("numbered", [True, False])
def test_a_write_held_back_by_the_network_changes_nothing_when_it_arrives(
    relay: Relay, migrated_postgres_url: str, numbered: bool
) -> None:
    with open_store(relay.url(migrated_postgres_url)) as held, open_store(migrated_postgres_url) as store:
        postgres_link(held).answer_timeout_s = 1.0
        epoch = held.lease_company("7", "holder", 600).epoch

        def write(by: Store, seq: int) -> None:
            by.set("7", {"session": {"a": b"%d" % seq}}, epoch=epoch, seq=seq if numbered else None)

        with ThreadPoolExecutor(1) as threads, relay.holding_back():
            first = threads.submit(write, held, 1)
            with pytest.raises(StoreUnavailable):
                first.result(30)
            for seq in (1, 2, 3, 4):
                write(store, seq)
        held.close()
        eventually(lambda: alone(store), "the held write has arrived and its session has ended")
        assert store.get("7", "session", ["a"]) == {"a": b"4" if numbered else b"1"}
        assert store.load("7").seq == (4 if numbered else 0)


def alone(store: Store) -> bool:
    """True when no other store has a session in the database."""
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name = 'signal-keystore'"
    )
    return postgres_link(store).rows(sessions, {}) == [(0,)]
