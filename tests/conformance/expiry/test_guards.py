"""The guards that keep expired keys, each switched on and off."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import Store, open_store
from keystore.records import Keys
from keystore.ttl import DIARY, Policy, parse_policy
from rig.fixtures.clock import Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

GROUP = "120363041234567890@g.us"
OWN = f"{GROUP}::4915112345678::0"
MEMBER = f"{GROUP}::4915198765432::3"
OTHER_GROUP = "120363049876543210@g.us"


def left(store: Store, key_type: str, company: str = "1") -> set[str]:
    """The ids of the type that the company still has."""
    return set(store.load(company).keys.get(key_type, {}))


def batch(first: int, size: int = 250) -> Keys:
    """A burst of pre-keys."""
    return {"pre-key": {f"{n}": b"pre-key %d" % n for n in range(first, first + size)}}


@pytest.fixture
def unguarded(make_store: MakeStore, clock: Clock) -> Store:
    """A store with KEYSTORE_GUARD off."""
    return make_store(clock=clock, guard=False)


# App state


def test_app_state_survives_a_year_of_sweeps(store: Store, clock: Clock) -> None:
    app_state: Keys = {"app-state-sync-key": {"AAAAAKxq": b"A"}, "app-state-sync-version": {"regular": b"V"}}
    store.set("1", app_state)
    for _ in range(53):
        clock.advance(7 * DAY)
        sweep(store)
    assert store.load("1").keys == app_state
    census = store.census()
    assert (census.guarded, census.expired, census.total) == (2, 0, 2)


def test_an_app_state_sync_key_is_swept_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", {"app-state-sync-key": {"AAAAAKxq": b"A"}})
    clock.advance(13 * DAY)
    assert sweep(unguarded).deleted == 0
    clock.advance(2 * DAY)
    assert sweep(unguarded).by_type == {"app-state-sync-key": 1}


# A group: sender keys and their sender-key-memory


def test_a_silent_group_keeps_or_loses_sender_key_and_memory_together(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    present: list[bool] = []
    for _ in range(20):
        clock.advance(DAY)
        sweep(store)
        memory, keys = left(store, "sender-key-memory"), left(store, "sender-key")
        assert (memory, keys) in [({GROUP}, {OWN, MEMBER}), (set(), set())]
        present.append(bool(memory))
    assert present[7], "silent for 8 days: the sender key is past its 7 days, the memory isn't past its 14"
    assert not present[-1], "silent for 20 days: both are past"


def test_a_group_is_swept_at_once_when_all_of_it_has_expired(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    clock.advance(9 * DAY)
    assert store.census().guarded == 2
    assert sweep(store).deleted == 0
    clock.advance(6 * DAY)
    assert store.census().expired == 3
    assert sweep(store).by_type == {"sender-key": 2, "sender-key-memory": 1}


def test_a_sender_key_in_use_keeps_the_memory_of_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    for _ in range(10):
        clock.advance(3 * DAY)
        store.set("1", {"sender-key": {OWN: b"S"}})
        sweep(store)
    assert left(store, "sender-key") == {OWN}
    assert left(store, "sender-key-memory") == {GROUP}


def test_a_memory_in_use_keeps_the_sender_keys_of_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}, "sender-key-memory": {GROUP: b"{}"}})
    for _ in range(10):
        clock.advance(3 * DAY)
        store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
        sweep(store)
    assert left(store, "sender-key") == {OWN, MEMBER}


def test_a_group_in_use_keeps_no_other_group_or_company(store: Store, clock: Clock) -> None:
    for company in ("1", "2"):
        store.set(company, {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    other = f"{OTHER_GROUP}::4915112345678::0"
    store.set("1", {"sender-key": {other: b"S"}, "sender-key-memory": {OTHER_GROUP: b"{}"}})
    clock.advance(16 * DAY)
    store.set("1", {"sender-key": {OWN: b"S"}})
    sweep(store)
    assert store.load("1").keys == {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}}
    assert store.load("2").keys == {}


def test_sender_keys_of_a_listen_only_group_expire_one_by_one(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S", MEMBER: b"M"}})
    clock.advance(6 * DAY)
    store.set("1", {"sender-key": {MEMBER: b"M"}})
    clock.advance(2 * DAY)
    assert sweep(store).by_type == {"sender-key": 1}
    assert left(store, "sender-key") == {MEMBER}


def test_a_memory_without_any_sender_key_is_swept_at_its_expiry(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
    clock.advance(15 * DAY)
    assert sweep(store).by_type == {"sender-key-memory": 1}


def test_a_key_without_expiry_keeps_its_group(store: Store, clock: Clock) -> None:
    store.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    rows = [replace(row, expires_at=None) for row in store.export_rows("1") if row.key_type == "sender-key"]
    store.restore_rows("1", rows)
    clock.advance(100 * DAY)
    assert sweep(store).deleted == 0
    assert store.census().guarded == 1


def test_a_sender_key_is_swept_alone_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", {"sender-key": {OWN: b"S"}, "sender-key-memory": {GROUP: b"{}"}})
    clock.advance(8 * DAY)
    assert sweep(unguarded).by_type == {"sender-key": 1}
    assert left(unguarded, "sender-key-memory") == {GROUP}


# The newest 1,000 pre-keys


def test_pre_keys_of_a_pairing_outlive_later_batches(store: Store, clock: Clock) -> None:
    store.set("1", batch(1, 812), creds=b"C")
    clock.advance(DAY)
    store.set("1", {"pre-key": {"812": None}})
    store.set("1", batch(813, 5))
    for _ in range(20):
        clock.advance(5 * DAY)
        assert sweep(store).deleted == 0
    assert left(store, "pre-key") == {f"{n}" for n in range(1, 818)} - {"812"}
    assert store.census().guarded == 816


def test_an_older_pre_key_goes_when_it_expires(store: Store, clock: Clock) -> None:
    for first in (1, 401, 801):
        store.set("1", batch(first, 400))
        clock.advance(3 * DAY)
    clock.advance(-2 * DAY)
    assert sweep(store).deleted == 0, "the first batch is 7 days old"
    clock.advance(DAY)
    assert (store.census().expired, store.census().guarded) == (200, 200)
    assert sweep(store).by_type == {"pre-key": 200}
    assert left(store, "pre-key") == {f"{n}" for n in range(201, 1_201)}
    clock.advance(100 * DAY)
    assert sweep(store).deleted == 0


def test_of_pre_keys_written_at_once_the_highest_ids_are_the_newest(store: Store, clock: Clock) -> None:
    store.set("1", batch(1, 1_200))
    clock.advance(8 * DAY)
    assert sweep(store).by_type == {"pre-key": 200}
    assert left(store, "pre-key") == {f"{n}" for n in range(201, 1_201)}


def test_pre_keys_of_a_new_pairing_are_newer_than_higher_ids_of_the_last_one(store: Store, clock: Clock) -> None:
    store.set("1", batch(5_000, 600))
    clock.advance(DAY)
    store.set("1", batch(1, 600))
    clock.advance(8 * DAY)
    assert sweep(store).by_type == {"pre-key": 200}
    assert set(batch(1, 600)["pre-key"]) <= left(store, "pre-key")


def test_reading_an_old_pre_key_does_not_make_it_one_of_the_newest(store: Store, clock: Clock) -> None:
    store.set("1", {"pre-key": {"0": b"P"}})
    clock.advance(5 * DAY)
    store.get("1", "pre-key", ["0"])
    store.touch("1", {"pre-key": ["0"]})
    clock.advance(2 * HOUR)
    store.set("1", batch(1, 1_000))
    clock.advance(30 * DAY)
    assert sweep(store).deleted == 1
    assert left(store, "pre-key") == set(batch(1, 1_000)["pre-key"])


def test_each_company_has_its_own_newest_pre_keys(store: Store, clock: Clock) -> None:
    store.set("1", batch(1, 5))
    clock.advance(20 * DAY)
    store.set("2", batch(1, 1_001))
    clock.advance(20 * DAY)
    assert sweep(store).deleted == 1
    assert left(store, "pre-key", "1") == set(batch(1, 5)["pre-key"])
    assert left(store, "pre-key", "2") == set(batch(2, 1_000)["pre-key"])


def test_every_expired_pre_key_is_swept_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", batch(1))
    clock.advance(8 * DAY)
    assert unguarded.census().expired == 250
    assert sweep(unguarded).by_type == {"pre-key": 250}


# Pairs of lid-mapping, and the keys of a contact

NUMBER, LID = "4915112345678", "200000000000001"
PAIR: Keys = {"lid-mapping": {NUMBER: b'"200000000000001"', f"{LID}_reverse": b'"4915112345678"'}}


@pytest.mark.parametrize("used", [NUMBER, f"{LID}_reverse"])
def test_a_pair_lives_by_the_later_of_its_rows(store: Store, clock: Clock, used: str) -> None:
    store.set("1", PAIR)
    for _ in range(5):
        clock.advance(6 * DAY)
        assert list(store.get("1", "lid-mapping", [used])) == [used]
        assert sweep(store).deleted == 0
    clock.advance(8 * DAY)
    assert sweep(store).by_type == {"lid-mapping": 2}


@pytest.mark.parametrize(
    "alive",
    [
        ("session", f"{NUMBER}.0"),
        ("session", f"{LID}_1.33"),
        ("tctoken", f"{NUMBER}@s.whatsapp.net"),
        ("tctoken", f"{LID}@lid"),
    ],
)
def test_a_pair_stays_while_either_address_lives(store: Store, clock: Clock, alive: tuple[str, str]) -> None:
    key_type, key_id = alive
    store.set("1", {**PAIR, key_type: {key_id: b"{}"}})
    store.set("2", PAIR)
    for _ in range(6):
        clock.advance(6 * DAY)
        store.touch("1", {key_type: [key_id]})
        sweep(store)
    assert left(store, "lid-mapping") == set(PAIR["lid-mapping"])
    assert left(store, "lid-mapping", "2") == set(), "another company's session keeps nothing"
    clock.advance(16 * DAY)
    assert sweep(store).by_type == {"lid-mapping": 2, key_type: 1}


def test_a_pair_is_known_whatever_form_the_server_writes_bytes_in(migrated_postgres_url: str, clock: Clock) -> None:
    address = f"{migrated_postgres_url}?options=-c%20bytea_output%3Descape"
    with open_store(address, clock=clock, policy=DIARY) as store:
        store.set("1", PAIR)
        clock.advance(9 * DAY)
        assert (store.census().expired, store.census().guarded) == (2, 0)
        assert sweep(store).by_type == {"lid-mapping": 2}


def test_a_mapping_whose_value_can_not_be_read_stays(store: Store, clock: Clock) -> None:
    store.set("1", {"lid-mapping": {NUMBER: b"sealed", f"{LID}_reverse": b"sealed, too"}})
    clock.advance(100 * DAY)
    assert sweep(store).deleted == 0
    assert store.census().guarded == 2


@pytest.mark.parametrize("address", [f"{NUMBER}.0", f"{NUMBER}.7", f"{LID}_1.0"])
def test_identity_and_device_list_stay_while_a_session_of_their_user_stays(
    store: Store, clock: Clock, address: str
) -> None:
    contact: Keys = {
        "identity-key": {f"{NUMBER}.0": b"I", f"{LID}_1.0": b"I"},
        "device-list": {NUMBER: b"[]", LID: b"[]"},
    }
    stranger: Keys = {"identity-key": {"4915100000000.0": b"I"}, "device-list": {"4915100000000": b"[]"}}
    store.set("1", {**PAIR, "session": {address: b"{}"}})
    store.set("1", contact)
    store.set("1", stranger)
    for _ in range(6):
        clock.advance(6 * DAY)
        assert store.get("1", "session", [address])
        sweep(store)
    assert store.load("1").keys == {**PAIR, **contact, "session": {address: b"{}"}}
    assert store.census().guarded == 6
    clock.advance(8 * DAY)
    assert sweep(store).by_type == {"session": 1, "identity-key": 2, "device-list": 2, "lid-mapping": 2}


def test_a_tctoken_keeps_no_identity(store: Store, clock: Clock) -> None:
    store.set("1", {**PAIR, "identity-key": {f"{NUMBER}.0": b"I"}, "tctoken": {f"{NUMBER}@s.whatsapp.net": b"{}"}})
    clock.advance(10 * DAY)
    store.touch("1", {"tctoken": [f"{NUMBER}@s.whatsapp.net"]})
    clock.advance(5 * DAY)
    assert sweep(store).by_type == {"identity-key": 1}
    assert left(store, "lid-mapping") == set(PAIR["lid-mapping"])


def test_contacts_are_swept_key_by_key_when_the_guard_is_off(unguarded: Store, clock: Clock) -> None:
    unguarded.set("1", {**PAIR, "session": {f"{NUMBER}.0": b"{}"}, "identity-key": {f"{NUMBER}.0": b"I"}})
    clock.advance(6 * DAY)
    unguarded.touch("1", {"session": [f"{NUMBER}.0"]})
    unguarded.get("1", "lid-mapping", [NUMBER])
    clock.advance(2 * DAY)
    assert sweep(unguarded).by_type == {"lid-mapping": 1}
    clock.advance(4 * DAY)
    unguarded.touch("1", {"session": [f"{NUMBER}.0"]})
    clock.advance(3 * DAY)
    assert sweep(unguarded).by_type == {"lid-mapping": 1, "identity-key": 1}


# A lifetime that became longer


def test_no_key_is_due_by_an_expiry_of_a_shorter_lifetime(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=DIARY)
    store.set("1", {"session": {"4915.0": b"S"}, "lid-mapping": {"4915": b"?"}, "other-type": {"a": b"O"}})
    clock.advance(6 * DAY)
    store = make_store(clock=clock, policy=parse_policy("session=90d,lid-mapping=never", DIARY), guard=False)
    clock.advance(10 * DAY)
    assert sweep(store).by_type == {"other": 1}, "a lifetime that stayed as it was"
    for _ in range(8):
        clock.advance(10 * DAY - HOUR)
        assert store.census().expired == 0
        assert sweep(store).deleted == 0
    assert set(store.load("1").keys) == {"session", "lid-mapping"}
    assert store.due_companies() == []
    clock.advance(2 * DAY)
    assert store.census().expired == 1
    assert sweep(store).by_type == {"session": 1}
    clock.advance(1_000 * DAY)
    assert sweep(store).deleted == 0


def test_a_shorter_lifetime_and_the_longer_one_again_take_no_key_early(make_store: MakeStore, clock: Clock) -> None:
    for days in (90, 30, 90):
        store = make_store(clock=clock, policy=Policy(default_s=days * 86_400.0), guard=False)
        store.set("1", {"session": {f"{days}": b"S"}})
        clock.advance(DAY)
    clock.advance(60 * DAY)
    assert sweep(store).deleted == 0
    clock.advance(40 * DAY)
    assert sweep(store).deleted == 2


def test_a_lifetime_goes_on_waiting_when_another_one_changes(make_store: MakeStore, clock: Clock) -> None:
    make_store(clock=clock, policy=DIARY).set("1", {"session": {"4915.0": b"S"}})
    clock.advance(6 * DAY)
    make_store(clock=clock, policy=parse_policy("session=90d", DIARY))
    clock.advance(DAY)
    store = make_store(clock=clock, policy=parse_policy("session=90d,tctoken=90d", DIARY))
    clock.advance(30 * DAY)
    assert (store.census().expired, sweep(store).deleted) == (0, 0)


# All of them


@pytest.mark.parametrize("guard", [True, False])
def test_the_guard_switch_changes_the_sweep_and_the_census(make_store: MakeStore, clock: Clock, guard: bool) -> None:
    store = make_store(clock=clock, guard=guard)
    guarded: Keys = {"app-state-sync-key": {"a": b"A"}, "pre-key": {"1": b"P"}}
    store.set("1", {**guarded, "sender-key": {OWN: b"S"}, "session": {"s": b"S"}})
    clock.advance(8 * DAY)
    store.set("1", {"sender-key-memory": {GROUP: b"{}"}})
    clock.advance(8 * DAY)
    census = store.census()
    assert (census.total, census.active) == (5, 1)
    assert (census.guarded, census.expired) == ((3, 1) if guard else (0, 4))
    assert sweep(store).deleted == census.expired
    remaining = {**guarded, "sender-key": {OWN: b"S"}} if guard else {}
    assert store.load("1").keys == {**remaining, "sender-key-memory": {GROUP: b"{}"}}
