"""Postgres over a network: round trips of each operation, and errors when the connection fails."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from time import monotonic

import pytest

from keystore import LeaseLost, Store, StoreUnavailable, open_store
from keystore.records import Keys
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import PASSWORD, OwnServer
from rig.relay import Relay
from rig.waiting import eventually
from tests.conformance.links import postgres_link

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
ANSWER_TIMEOUT_S = 1.0
GIVES_UP_WITHIN_S = 12.0
"""Limit of a failing call: two bounded waits (for a connection, for an answer), with room for a busy machine."""


@pytest.fixture
def relayed(relay: Relay, migrated_postgres_url: str, clock: Clock) -> Iterator[Store]:
    """A store connected through the relay, with its first connection made."""
    with open_store(relay.url(migrated_postgres_url), clock=clock) as store:
        store.set("bot", real_keys(), creds=real_creds())
        yield store


@pytest.fixture
def impatient(relayed: Store) -> Store:
    """The same store with a short timeout for answers."""
    postgres_link(relayed).answer_timeout_s = ANSWER_TIMEOUT_S
    return relayed


def mixed_set() -> Keys:
    """250 pre-keys and deletions over three types."""
    pre_keys: dict[str, bytes | None] = {f"{n}": b"pre-key %d" % n for n in range(5_000, 5_250)}
    real = real_keys()
    return {
        "pre-key": pre_keys | dict.fromkeys(list(real["pre-key"])[:20]),
        "session": dict.fromkeys(list(real["session"])[:20]),
        "sender-key": dict.fromkeys(list(real["sender-key"])[:5]),
    }


ONE_ROUND_TRIP: dict[str, Callable[[Store], object]] = {
    "load of 721 keys": lambda store: store.load("bot"),
    "load of an unknown company": lambda store: store.load("nobody"),
    "get of 1 id": lambda store: store.get("bot", "session", [next(iter(real_keys()["session"]))]),
    "get of 500 ids": lambda store: store.get("bot", "pre-key", [f"{n}" for n in range(1, 501)]),
    "get of absent ids": lambda store: store.get("bot", "pre-key", ["nothing"]),
    "touch of 3 types": lambda store: store.touch(
        "bot", {key_type: real_keys()[key_type] for key_type in ("session", "pre-key", "device-list")}
    ),
    "set of 250 pre-keys with deletions over three types and creds": lambda store: store.set(
        "bot", mixed_set(), creds=b"C"
    ),
    "set of 250 pre-keys": lambda store: store.set("bot", {"pre-key": mixed_set()["pre-key"]}),
    "set of one session": lambda store: store.set("bot", {"session": {"a": b"A"}}),
    "set of deletions alone": lambda store: store.set("bot", {"session": {"a": None}, "pre-key": {"1": None}}),
    "set of creds alone": lambda store: store.set("bot", {}, creds=b"C"),
    "set of one 16 MiB value": lambda store: store.set("bot", {"x": {"a": bytes(16 * 1024 * 1024)}}),
    "get_creds": lambda store: store.get_creds("bot"),
    "set_creds": lambda store: store.set_creds("bot", b"C"),
    "clear": lambda store: store.clear("bot"),
    "lease_company": lambda store: store.lease_company("bot", "a", 60),
    "release_company": lambda store: store.release_company("bot", "a", 1),
}

UNDER_A_LEASE: dict[str, Callable[[Store, int], object]] = {
    "set of one session": lambda store, epoch: store.set("bot", {"session": {"a": b"A"}}, epoch=epoch),
    "set of 250 pre-keys with deletions over three types and creds": lambda store, epoch: store.set(
        "bot", mixed_set(), creds=b"C", epoch=epoch
    ),
    "set_creds": lambda store, epoch: store.set_creds("bot", b"C", epoch=epoch),
    "clear": lambda store, epoch: store.clear("bot", epoch=epoch),
    "clear of keys": lambda store, epoch: store.clear("bot", keys_only=True, epoch=epoch),
    "a renewal": lambda store, epoch: store.lease_company("bot", "a", 60, epoch=epoch),
    "a takeover": lambda store, _: store.lease_company("bot", "b", 60, force=True),
    "a release": lambda store, epoch: store.release_company("bot", "a", epoch),
}


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("operation", UNDER_A_LEASE)
def test_a_lease_costs_no_round_trip(relayed: Store, relay: Relay, operation: str, stale: bool) -> None:
    lease = relayed.lease_company("bot", "a", 60)
    before = relay.round_trips
    with suppress(LeaseLost):
        UNDER_A_LEASE[operation](relayed, lease.epoch + stale)
    assert relay.round_trips - before == 1


@pytest.mark.parametrize("renewal_due", [False, True])
@pytest.mark.parametrize("operation", ONE_ROUND_TRIP)
def test_an_operation_of_any_size_is_one_round_trip(
    relayed: Store, relay: Relay, clock: Clock, operation: str, renewal_due: bool
) -> None:
    if renewal_due:
        clock.advance(6 * DAY)
    before, connections = relay.round_trips, relay.connections
    ONE_ROUND_TRIP[operation](relayed)
    assert relay.round_trips - before == 1
    assert relay.connections == connections


def test_the_relay_sees_a_second_round_trip(relayed: Store, relay: Relay) -> None:
    before = relay.round_trips
    relayed.load("bot")
    relayed.load("bot")
    assert relay.round_trips - before == 2


@pytest.mark.parametrize("times", [1, 3])
def test_connections_cut_between_calls_cause_no_error(relayed: Store, relay: Relay, times: int) -> None:
    for turn in range(times):
        assert relay.cut() >= 1
        assert relayed.load("bot").total == 721 + bool(turn)
        assert relay.cut() >= 1
        relayed.set("bot", {"session": {"a": b"A"}})
        assert relay.cut() >= 1
        assert relayed.get("bot", "session", ["a"]) == {"a": b"A"}


def test_cutting_every_pooled_connection_causes_no_error(relayed: Store, relay: Relay) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: relayed.load("bot"), range(40)))
        assert relay.cut() > 1
        assert {state.total for state in pool.map(lambda _: relayed.load("bot"), range(40))} == {721}


READS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("bot", "session", list(real_keys()["session"])),
    "load": lambda store: store.load("bot"),
    "get_creds": lambda store: store.get_creds("bot"),
}
WRITES: dict[str, Callable[[Store], object]] = {
    "set": lambda store: store.set("bot", mixed_set(), creds=b"C"),
    "touch": lambda store: store.touch("bot", {"session": ["a"]}),
    "clear": lambda store: store.clear("bot"),
}


def raises_unavailable(call: Callable[[Store], object], store: Store) -> float:
    """Check that the error names the database and shows no secret, and return the call's duration in seconds."""
    begun = monotonic()
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as error:
        call(store)
    assert PASSWORD not in str(error.value)
    assert error.value.__cause__ is not None
    return monotonic() - begun


@pytest.mark.parametrize("operation", ["get", "load", "set"])
def test_a_call_is_unavailable_while_the_server_refuses_then_recovers(
    relayed: Store, relay: Relay, operation: str
) -> None:
    with relay.refusing():
        assert raises_unavailable((READS | WRITES)[operation], relayed) < GIVES_UP_WITHIN_S
    recovers(relayed)


@pytest.mark.parametrize("operation", [*READS, *WRITES])
def test_a_call_to_a_silent_server_ends_in_bounded_time(impatient: Store, relay: Relay, operation: str) -> None:
    with relay.swallowing():
        assert raises_unavailable((READS | WRITES)[operation], impatient) < GIVES_UP_WITHIN_S
    recovers(impatient)


def test_opening_a_store_on_a_silent_server_ends_in_bounded_time(relay: Relay, migrated_postgres_url: str) -> None:
    begun = monotonic()
    with relay.swallowing(), pytest.raises(StoreUnavailable):
        open_store(relay.url(migrated_postgres_url))
    assert monotonic() - begun < GIVES_UP_WITHIN_S


def recovers(store: Store) -> None:
    """Wait until the store works again by itself."""

    def works() -> bool:
        try:
            return store.load("bot").total == 721
        except StoreUnavailable:
            return False

    eventually(works, "the store works again by itself", 30.0)


def test_an_outage_is_reported_and_survived(own_server: OwnServer) -> None:
    with open_store(own_server.url) as store:
        store.set("bot", real_keys(), creds=real_creds())
        for end in (own_server.server.stop, own_server.server.crash):
            end()
            for call in READS.values():
                assert raises_unavailable(call, store) < GIVES_UP_WITHIN_S
            own_server.server.start()
            recovers(store)
        assert store.load("bot").keys == real_keys(), "an acknowledged write was lost"


def test_a_restart_between_calls_causes_no_error(own_server: OwnServer) -> None:
    with open_store(own_server.url) as store:
        store.set("bot", real_keys(), creds=real_creds())
        own_server.server.stop()
        own_server.server.start()
        assert store.get("bot", "session", list(real_keys()["session"])) == real_keys()["session"]


def test_a_wrong_password_is_reported_without_showing_any(own_server: OwnServer) -> None:
    with pytest.raises(StoreUnavailable, match="login") as error:
        open_store(own_server.site.url("bots", password="Wr0ng/pass word"))
    for secret in (PASSWORD, "Wr0ng"):
        assert secret not in str(error.value)
