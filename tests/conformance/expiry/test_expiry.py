"""Expiry counts from the last use and is rounded up. A write always renews it, a read only when it is due."""

from datetime import UTC, datetime, timedelta

import pytest

from keystore import Store, ttl
from keystore.records import KeyRow
from keystore.ttl import DIARY, NEVER, Policy
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LIVES_DAYS = {
    "pre-key": 7,
    "session": 7,
    "sender-key": 7,
    "lid-mapping": 7,
    "my-lid-mapping-too": 7,
    "sender-key-memory": 14,
    "app-state-sync-key": 14,
    "device-list": 14,
    "anything else": 14,
}


def row(store: Store, key_type: str, key_id: str = "a", company: str = "1") -> KeyRow:
    (match,) = [row for row in store.export_rows(company) if (row.key_type, row.key_id) == (key_type, key_id)]
    return match


def expiry(store: Store, key_type: str = "session", key_id: str = "a") -> datetime:
    expires = row(store, key_type, key_id).expires_at
    assert expires is not None
    return expires


def test_a_write_gives_each_type_its_life_rounded_up_to_a_day(store: Store, clock: Clock) -> None:
    store.set("1", {key_type: {"a": b"A"} for key_type in LIVES_DAYS})
    for key_type, days in LIVES_DAYS.items():
        written = row(store, key_type)
        assert written.expires_at is not None
        assert written.expires_at == ttl.expires_at(DIARY, key_type, clock())
        assert timedelta(0) <= written.expires_at - (START + days * DAY) < DAY
        assert written.expires_at.timestamp() % 86_400 == 0
        assert written.created_at == written.updated_at == START
        assert not written.never_expires


def test_a_store_without_a_clock_uses_the_databases(make_store: MakeStore) -> None:
    store = make_store()
    before = datetime.now(UTC)
    store.set("1", {"session": {"a": b"A"}})
    now = store.now()
    after = datetime.now(UTC)
    slack = timedelta(seconds=5)
    assert before - slack <= now <= after + slack
    assert before - slack <= row(store, "session").updated_at <= after + slack
    assert before - slack <= expiry(store) - 7 * DAY <= after + DAY + slack
    assert sweep(store).deleted == 0


def test_a_store_with_a_clock_uses_it_for_everything(store: Store, clock: Clock) -> None:
    clock.set(datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    lease = store.acquire_lease("x", "me", 10)
    run = store.start_sweep("me")
    assert lease is not None
    assert store.now() == clock() == run.started_at == row(store, "session").updated_at
    assert lease.expires_at == clock() + 10 * SECOND
    assert expiry(store) == datetime(2000, 1, 8, tzinfo=UTC)
    assert store.census().taken_at == store.census().last_activity_at == clock()


def test_writes_within_one_step_leave_the_expiry_unchanged(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    first = expiry(store)
    for _ in range(10):
        clock.advance(timedelta(hours=1))
        store.set("1", {"session": {"a": b"B"}})
        assert expiry(store) == first
    clock.advance(DAY)
    store.set("1", {"session": {"a": b"B"}})
    assert expiry(store) == first + DAY


def test_an_expiry_on_a_step_is_not_pushed_a_step_further(store: Store, clock: Clock) -> None:
    clock.set(datetime(2025, 10, 8, tzinfo=UTC))
    store.set("1", {"session": {"a": b"A"}})
    assert expiry(store) == datetime(2025, 10, 15, tzinfo=UTC)


def test_a_short_life_is_rounded_to_a_finer_step(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=Policy(by_type={"session": 3_600, "x": 1}, default_s=90))
    store.set("1", {"session": {"a": b"A"}, "x": {"a": b"A"}, "y": {"a": b"A"}})
    for key_type, life_s, step_s in (("session", 3_600, 60), ("x", 1, 1), ("y", 90, 10)):
        late_s = (expiry(store, key_type) - START).total_seconds() - life_s
        assert 0 <= late_s < step_s
        assert expiry(store, key_type).timestamp() % step_s == 0


def test_a_write_renews_and_keeps_the_time_of_creation(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    clock.advance(2 * DAY)
    store.set("1", {"session": {"a": b"B"}})
    written = row(store, "session")
    assert written.expires_at == ttl.expires_at(DIARY, "session", START + 2 * DAY)
    assert (written.created_at, written.updated_at) == (START, START + 2 * DAY)


def test_a_key_deleted_and_written_again_is_a_new_key(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    store.set("1", {"session": {"a": None}})
    clock.advance(DAY)
    store.set("1", {"session": {"a": b"A"}})
    assert row(store, "session").created_at == START + DAY


@pytest.mark.parametrize("use", ["get", "touch"])
def test_a_use_renews_only_when_less_than_half_of_the_life_is_left(store: Store, clock: Clock, use: str) -> None:
    store.set("1", {"session": {"a": b"A"}, "device-list": {"a": b"A"}})

    def use_both() -> None:
        if use == "get":
            assert store.get("1", "session", ["a", "b"]) == {"a": b"A"}
            assert store.get("1", "device-list", ["a"]) == {"a": b"A"}
        else:
            store.touch("1", {"session": ["a", "b"], "device-list": ["a"]})

    first, other = expiry(store), expiry(store, "device-list")
    clock.set(first - timedelta(days=3.5))
    use_both()
    assert expiry(store) == first, "half is left, not less"
    clock.advance(timedelta(microseconds=1))
    use_both()
    assert expiry(store) == ttl.expires_at(DIARY, "session", clock()) == first + 4 * DAY
    assert expiry(store, "device-list") == other, "14 days: more than half is left"
    clock.set(other - 7 * DAY + SECOND)
    use_both()
    assert expiry(store, "device-list") == ttl.expires_at(DIARY, "device-list", clock())


@pytest.mark.parametrize("use", ["get", "touch"])
def test_a_use_renews_only_the_keys_it_names(store: Store, clock: Clock, use: str) -> None:
    for company in ("1", "2"):
        store.set(company, {"session": {"a": b"A", "b": b"B"}, "sender-key": {"a": b"A"}})
    first = expiry(store)
    clock.advance(5 * DAY)
    store.get("1", "session", ["a"]) if use == "get" else store.touch("1", {"session": ["a"]})
    assert expiry(store) > first
    rows = [*store.export_rows("1"), *store.export_rows("2")]
    assert [row.expires_at for row in rows].count(first) == len(rows) - 1


def test_a_touch_renews_each_type_by_its_own_life(store: Store, clock: Clock) -> None:
    keys = {key_type: {"a": b"A", "b": b"B"} for key_type in LIVES_DAYS}
    store.set("1", keys)
    clock.advance(12 * DAY)
    store.touch("1", {key_type: list(by_id) for key_type, by_id in keys.items()})
    for written in store.export_rows("1"):
        assert written.expires_at == ttl.expires_at(DIARY, written.key_type, clock())


def test_a_use_is_not_a_write(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    clock.advance(6 * DAY)
    store.get("1", "session", ["a"])
    store.touch("1", {"session": ["a"]})
    used = row(store, "session")
    assert (used.created_at, used.updated_at, used.value) == (START, START, b"A")
    assert store.census().last_activity_at == START


def test_load_renews_nothing(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}, "device-list": {"a": b"A"}}, creds=b"C")
    before = store.export_rows("1")
    clock.advance(7 * DAY)
    assert store.load("1").total == 2
    assert store.export_rows("1") == before


def test_a_key_read_every_few_days_survives_a_year_of_sweeps(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"read": b"A", "touched": b"B", "idle": b"C"}})
    for _ in range(0, 365, 4):
        clock.advance(4 * DAY)
        assert store.get("1", "session", ["read"]) == {"read": b"A"}
        store.touch("1", {"session": ["touched"]})
        sweep(store)
    assert store.load("1").keys == {"session": {"read": b"A", "touched": b"B"}}


def test_an_expired_key_is_read_and_renewed_before_a_sweep(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    clock.advance(30 * DAY)
    assert store.census().expired == 1
    assert store.load("1").keys == {"session": {"a": b"A"}}
    assert store.get("1", "session", ["a"]) == {"a": b"A"}
    assert store.census().expired == 0
    assert sweep(store).deleted == 0
    assert store.load("1").keys == {"session": {"a": b"A"}}


def test_a_key_is_swept_at_its_expiry_and_not_before(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}})
    expires = expiry(store)
    clock.set(expires - timedelta(microseconds=1))
    assert sweep(store).deleted == 0
    clock.set(expires)
    assert sweep(store).by_type == {"session": 1}
    assert store.load("1").keys == {}


def test_creds_never_expire(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    clock.advance(3_650 * DAY)
    assert sweep(store).deleted == 1
    assert store.load("1").creds == b"C"


def test_a_type_that_never_expires_never_does(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=Policy(by_type={"identity-key": NEVER}))
    store.set("1", {"identity-key": {"a": b"A"}, "session": {"a": b"A"}})
    written = row(store, "identity-key")
    assert (written.never_expires, written.expires_at) == (True, None)
    store.touch("1", {"identity-key": ["a"]})
    clock.advance(36_500 * DAY)
    assert [(due.company_id, due.keys) for due in store.due_companies()] == [("1", 1)]
    assert sweep(store).by_type == {"session": 1}
    assert store.get("1", "identity-key", ["a"]) == {"a": b"A"}
    census = store.census()
    assert (census.total, census.active, census.without_expiry) == (1, 1, 0)


@pytest.mark.parametrize("use", ["get", "touch"])
def test_a_use_under_a_policy_of_never_removes_the_expiry(make_store: MakeStore, clock: Clock, use: str) -> None:
    make_store(clock=clock).set("1", {"session": {"a": b"A"}})
    store = make_store(clock=clock, policy=Policy(default_s=NEVER))
    store.get("1", "session", ["a"]) if use == "get" else store.touch("1", {"session": ["a"]})
    assert row(store, "session").never_expires


def test_a_never_expiring_key_gets_a_life_by_a_write_but_not_by_a_use(make_store: MakeStore, clock: Clock) -> None:
    make_store(clock=clock, policy=Policy(default_s=NEVER)).set("1", {"session": {"a": b"A"}})
    store = make_store(clock=clock)
    store.get("1", "session", ["a"])
    store.touch("1", {"session": ["a"]})
    assert row(store, "session").never_expires
    store.set("1", {"session": {"a": b"A"}})
    assert expiry(store) == ttl.expires_at(DIARY, "session", START)
