"""Company leases: one writer at a time for each account; every write of an older one is refused as a whole."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keystore import AuthState, InvalidInput, LeaseHeld, LeaseLost, Store
from keystore.records import Keys
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.full_sweep import sweep

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)

KEYS: Keys = {"session": {"a": b"A"}, "pre-key": {"1": b"P"}}
STATE = AuthState(b"C", {"session": {"a": b"A"}, "pre-key": {"1": b"P"}})

Write = Callable[[Store, int | None], None]

WRITES: dict[str, Write] = {
    "set of sessions": lambda store, epoch: store.set("7", {"session": {"a": b"X", "b": b"X"}}, epoch=epoch),
    "set of pre-keys": lambda store, epoch: store.set("7", {"pre-key": {"1": b"X", "2": b"X"}}, epoch=epoch),
    "set of deletions": lambda store, epoch: store.set("7", {"session": {"a": None}}, epoch=epoch),
    "set of everything": lambda store, epoch: store.set(
        "7", {"session": {"a": None, "b": b"X"}, "pre-key": {"1": b"X"}}, creds=b"X", epoch=epoch
    ),
    "set of creds": lambda store, epoch: store.set("7", {}, creds=b"X", epoch=epoch),
    "set_creds": lambda store, epoch: store.set_creds("7", b"X", epoch=epoch),
    "clear": lambda store, epoch: store.clear("7", epoch=epoch),
    "clear of keys": lambda store, epoch: store.clear("7", keys_only=True, epoch=epoch),
}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> Write:
    """Every way to write company 7."""
    return WRITES[request.param]


@pytest.fixture
def filled(store: Store) -> Store:
    """The store with a state of company 7."""
    store.set("7", KEYS, creds=b"C")
    return store


def written(store: Store) -> AuthState:
    """Company 7's state, without the numbers of its lease."""
    return replace(store.load("7"), epoch=0, seq=0)


def refused(store: Store, write: Write, epoch: int | None) -> str:
    """The message of a refused write, of which nothing may be written or counted."""
    before = store.export_rows("7"), store.load("7"), store.counts(START), store.census().pre_keys_rewritten_7d
    with pytest.raises(LeaseLost) as refusal:
        write(store, epoch)
    assert (
        store.export_rows("7"),
        store.load("7"),
        store.counts(START),
        store.census().pre_keys_rewritten_7d,
    ) == before
    return str(refusal.value)


def test_a_write_needs_no_epoch_while_there_is_no_lease(filled: Store, write: Write) -> None:
    write(filled, None)
    assert written(filled) != STATE


def test_a_write_with_the_current_epoch_is_written(filled: Store, write: Write) -> None:
    lease = filled.lease_company("7", "a", 60)
    write(filled, lease.epoch)
    assert written(filled) != STATE


def test_a_write_without_an_epoch_is_refused_while_there_is_a_lease(filled: Store, write: Write) -> None:
    lease = filled.lease_company("7", "host a", 60)
    message = refused(filled, write, None)
    assert "host a" in message
    assert f"epoch {lease.epoch}" in message


def test_a_write_with_an_older_epoch_is_refused(filled: Store, write: Write, clock: Clock) -> None:
    stale = filled.lease_company("7", "a", 60)
    clock.advance(60 * SECOND)
    lease = filled.lease_company("7", "b", 60)
    assert "b has the lease" in refused(filled, write, stale.epoch)
    write(filled, lease.epoch)


def test_a_write_is_refused_once_its_lease_has_expired(filled: Store, write: Write, clock: Clock) -> None:
    lease = filled.lease_company("7", "a", 60)
    clock.advance(60 * SECOND - timedelta(microseconds=1))
    filled.set("7", {}, creds=b"C", epoch=lease.epoch)
    clock.advance(timedelta(microseconds=1))
    assert "run out" in refused(filled, write, lease.epoch)
    write(filled, None)


def test_a_write_with_an_epoch_is_refused_if_there_was_never_a_lease(filled: Store, write: Write) -> None:
    refused(filled, write, 1)


def test_a_write_with_a_future_epoch_is_refused(filled: Store, write: Write) -> None:
    lease = filled.lease_company("7", "a", 60)
    refused(filled, write, lease.epoch + 1)


def test_a_lease_binds_only_its_own_company(filled: Store) -> None:
    lease = filled.lease_company("7", "a", 60)
    filled.set("8", KEYS)
    with pytest.raises(LeaseLost):
        filled.set("8", KEYS, epoch=lease.epoch)
    other = filled.lease_company("8", "b", 60)
    filled.set("8", KEYS, epoch=other.epoch)


def test_both_spellings_of_a_company_are_one_lease(filled: Store) -> None:
    lease = filled.lease_company("company_7", "a", 60)
    assert lease.company_id == "7"
    filled.set("company_7", KEYS, epoch=lease.epoch)
    filled.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseHeld):
        filled.lease_company("7", "b", 60)
    filled.release_company("company_7", "a", lease.epoch)
    filled.set("7", KEYS)


def test_reads_and_touches_need_no_epoch(filled: Store) -> None:
    filled.lease_company("7", "a", 60)
    assert written(filled) == STATE
    assert filled.get("7", "session", ["a"]) == {"a": b"A"}
    assert filled.get_creds("7") == b"C"
    filled.touch("7", {"session": ["a"]})


def test_a_sweep_needs_no_epoch_and_an_import_is_refused_while_a_lease_lives(filled: Store, clock: Clock) -> None:
    filled.lease_company("7", "a", 86_400)
    rows = filled.export_rows("7")
    clock.advance(8 * DAY)
    lease = filled.lease_company("7", "a", 86_400)
    assert sweep(filled).deleted == 1
    left = filled.export_rows("7")
    with pytest.raises(LeaseLost, match="nothing was written, because a has the lease"):
        filled.restore_rows("7", rows, creds=b"D", removed=[("pre-key", "1")])
    assert (filled.export_rows("7"), filled.get_creds("7")) == (left, b"C")
    filled.release_company("7", "a", lease.epoch)
    filled.restore_rows("7", rows, creds=b"D")
    assert (filled.export_rows("7"), filled.get_creds("7")) == (rows, b"D")


def test_an_import_removes_the_named_keys_and_no_other(filled: Store) -> None:
    rows = [row for row in filled.export_rows("7") if row.key_type == "session"]
    filled.restore_rows("7", rows, removed=[("pre-key", "1"), ("session", "never")])
    assert (filled.export_rows("7"), filled.get_creds("7")) == (rows, b"C")


def test_a_lease_has_its_company_holder_and_expiry(store: Store, clock: Clock) -> None:
    lease = store.lease_company("7", "host/a", 60)
    assert (lease.company_id, lease.holder, lease.expires_at) == ("7", "host/a", START + 60 * SECOND)
    assert lease.expires_at.tzinfo is UTC
    assert store.lease_company("8", "a", 0.5).expires_at == START + SECOND / 2


def test_another_holder_waits_until_the_lease_expires(store: Store, make_store: MakeStore, clock: Clock) -> None:
    other = make_store(clock=clock)
    first = store.lease_company("7", "a", 60)
    clock.advance(59 * SECOND)
    with pytest.raises(LeaseHeld) as held:
        other.lease_company("7", "b", 60)
    assert (held.value.holder, held.value.expires_at) == ("a", first.expires_at)
    assert "a has the lease until 2025-10-08 09:42:27 UTC" in str(held.value)
    store.set("7", KEYS, epoch=first.epoch)
    clock.advance(SECOND)
    second = other.lease_company("7", "b", 60)
    assert (second.holder, second.expires_at) == ("b", clock() + 60 * SECOND)
    assert second.epoch > first.epoch
    with pytest.raises(LeaseHeld):
        store.lease_company("7", "a", 60)


def test_a_refused_lease_request_changes_nothing(store: Store, clock: Clock) -> None:
    lease = store.lease_company("7", "a", 60)
    clock.advance(SECOND)
    for _ in range(3):
        with pytest.raises(LeaseHeld):
            store.lease_company("7", "b", 600)
    store.set("7", KEYS, epoch=lease.epoch)
    assert store.company_page().companies[0].lease == lease


def test_another_holder_may_force_a_takeover(store: Store, make_store: MakeStore, clock: Clock) -> None:
    other = make_store(clock=clock)
    stale = store.lease_company("7", "a", 60)
    forced = other.lease_company("7", "b", 60, force=True)
    assert forced.epoch > stale.epoch
    with pytest.raises(LeaseLost):
        store.set("7", KEYS, epoch=stale.epoch)
    with pytest.raises(LeaseLost):
        store.lease_company("7", "a", 60, epoch=stale.epoch)
    other.set("7", KEYS, epoch=forced.epoch)


def test_a_free_lease_may_be_forced_too(store: Store) -> None:
    lease = store.lease_company("7", "a", 60, force=True)
    assert (lease.company_id, lease.holder) == ("7", "a")
    store.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseHeld):
        store.lease_company("7", "b", 60)


def test_a_crashed_holder_gets_its_lease_back_at_once_with_a_new_epoch(
    store: Store, make_store: MakeStore, clock: Clock
) -> None:
    crashed = store.lease_company("7", "host a", 60)
    again = make_store(clock=clock).lease_company("7", "host a", 60)
    assert again.epoch == crashed.epoch + 1, "one more, since no other holder had it in between"
    with pytest.raises(LeaseLost):
        store.set("7", KEYS, epoch=crashed.epoch)
    store.set("7", KEYS, epoch=again.epoch)


def test_epochs_rise_through_releases_expiries_and_clears(store: Store, clock: Clock) -> None:
    epochs = []
    for turn in range(4):
        lease = store.lease_company("7", f"h{turn}", 60)
        epochs.append(lease.epoch)
        store.clear("7", epoch=lease.epoch)
        if turn % 2:
            store.release_company("7", lease.holder, lease.epoch)
        else:
            clock.advance(DAY)
    assert epochs == [1, 2, 3, 4]


def test_a_clear_leaves_the_lease(filled: Store) -> None:
    lease = filled.lease_company("7", "a", 60)
    filled.clear("7", epoch=lease.epoch)
    assert written(filled) == AuthState(None, {})
    with pytest.raises(LeaseLost):
        filled.set("7", KEYS)
    filled.set("7", KEYS, epoch=lease.epoch)


def test_renewing_keeps_the_epoch(store: Store, clock: Clock) -> None:
    lease = store.lease_company("7", "a", 60)
    for _ in range(5):
        clock.advance(50 * SECOND)
        renewed = store.lease_company("7", "a", 60, epoch=lease.epoch)
        assert (renewed.epoch, renewed.expires_at) == (lease.epoch, clock() + 60 * SECOND)
    clock.advance(59 * SECOND)
    store.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseHeld):
        store.lease_company("7", "b", 60)


def test_a_lease_that_ran_out_is_renewed_if_nobody_wrote_since(filled: Store, clock: Clock) -> None:
    lease = filled.lease_company("7", "a", 60)
    filled.set("7", {"session": {"a": b"1"}}, epoch=lease.epoch, seq=3)
    clock.advance(DAY)
    refused(filled, WRITES["set of sessions"], lease.epoch)
    for _ in range(2):  # As often as its answer is lost.
        renewed = filled.lease_company("7", "a", 60, epoch=lease.epoch)
        assert (renewed.epoch, renewed.seq, renewed.expires_at) == (lease.epoch, 3, clock() + 60 * SECOND)
    filled.set("7", {"session": {"a": b"2"}}, epoch=lease.epoch, seq=4)
    with pytest.raises(LeaseHeld):
        filled.lease_company("7", "b", 60)


def test_a_lease_that_ran_out_is_not_renewed_after_a_write_without_a_lease(
    filled: Store, write: Write, clock: Clock
) -> None:
    lease = filled.lease_company("7", "a", 60)
    clock.advance(60 * SECOND)
    write(filled, None)
    with pytest.raises(LeaseLost, match="somebody else has written"):
        filled.lease_company("7", "a", 60, epoch=lease.epoch)
    assert filled.lease_company("7", "a", 60).epoch == lease.epoch + 1


@pytest.mark.parametrize("upkeep", ["an import", "a purge"])
def test_a_lease_that_ran_out_is_not_renewed_after_upkeep_of_its_keys(filled: Store, upkeep: str, clock: Clock) -> None:
    rows = filled.export_rows("7")
    lease = filled.lease_company("7", "a", 60)
    clock.advance(60 * SECOND)
    if upkeep == "an import":
        filled.restore_rows("7", rows)
    else:
        filled.purge("7")
    with pytest.raises(LeaseLost):
        filled.lease_company("7", "a", 60, epoch=lease.epoch)


def test_a_lease_that_ran_out_is_not_renewed_after_another_holder_had_it(store: Store, clock: Clock) -> None:
    lease = store.lease_company("7", "a", 60)
    clock.advance(60 * SECOND)
    other = store.lease_company("7", "b", 60)
    clock.advance(60 * SECOND)
    with pytest.raises(LeaseLost):
        store.lease_company("7", "a", 60, epoch=lease.epoch)
    store.release_company("7", "b", other.epoch)
    with pytest.raises(LeaseLost):
        store.lease_company("7", "a", 60, epoch=lease.epoch)


def test_reads_uses_and_refused_writes_leave_a_lease_that_ran_out_renewable(filled: Store, clock: Clock) -> None:
    lease = filled.lease_company("7", "a", 60)
    refused(filled, WRITES["set of creds"], None)
    clock.advance(60 * SECOND)
    filled.get("7", "session", ["a"])
    filled.touch("7", {"session": ["a"]})
    sweep(filled)
    refused(filled, WRITES["set of creds"], lease.epoch + 1)
    assert filled.lease_company("7", "a", 60, epoch=lease.epoch).epoch == lease.epoch


@pytest.mark.parametrize(("holder", "epoch"), [("a", 2), ("b", 1)])
def test_only_the_holder_with_its_epoch_renews_and_releases(store: Store, holder: str, epoch: int) -> None:
    lease = store.lease_company("7", "a", 60)
    with pytest.raises(LeaseLost):
        store.lease_company("7", holder, 600, epoch=epoch)
    assert not store.release_company("7", holder, epoch)
    assert store.lease_company("7", "a", 60, epoch=lease.epoch) == lease


def test_a_lease_that_nobody_took_cannot_be_renewed(store: Store) -> None:
    with pytest.raises(LeaseLost):
        store.lease_company("7", "a", 60, epoch=1)
    assert not store.release_company("7", "a", 1)
    store.set("7", KEYS)


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    lease = store.lease_company("7", "a", 60)
    assert store.release_company("7", "a", lease.epoch)
    assert not store.release_company("7", "a", lease.epoch)
    with pytest.raises(LeaseLost):
        store.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseLost):
        store.lease_company("7", "a", 60, epoch=lease.epoch)
    store.set("7", KEYS)
    assert store.lease_company("7", "b", 60).epoch == lease.epoch + 1


def test_a_stale_release_leaves_the_next_lease_alone(store: Store) -> None:
    stale = store.lease_company("7", "a", 60)
    lease = store.lease_company("7", "a", 60)
    assert not store.release_company("7", "a", stale.epoch)
    store.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseHeld):
        store.lease_company("7", "b", 60)


def test_a_store_without_a_clock_uses_the_databases(make_store: MakeStore) -> None:
    store = make_store()
    lease = store.lease_company("7", "a", 60)
    assert timedelta(seconds=50) < lease.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    store.set("7", KEYS, epoch=lease.epoch)
    with pytest.raises(LeaseLost):
        store.set("7", KEYS)
    with pytest.raises(LeaseHeld):
        store.lease_company("7", "b", 60)


@pytest.mark.parametrize("ttl_s", [0, -1, 86_401, float("nan"), float("inf"), "60", True])
def test_a_bad_lease_length_is_refused(store: Store, ttl_s: float) -> None:
    with pytest.raises(InvalidInput, match="ttl_s"):
        store.lease_company("7", "a", ttl_s)


@pytest.mark.parametrize("holder", ["", "a\nb", "x" * 256])
def test_a_holder_name_that_cannot_be_shown_is_refused(store: Store, holder: str) -> None:
    with pytest.raises(InvalidInput, match="holder"):
        store.lease_company("7", holder, 60)


@pytest.mark.parametrize("epoch", [0, -1, 2**63, True, 1.0, "1"])
def test_an_epoch_that_no_lease_can_have_is_invalid(store: Store, epoch: int) -> None:
    for write in WRITES.values():
        with pytest.raises(InvalidInput, match="epoch"):
            write(store, epoch)
    with pytest.raises(InvalidInput, match="epoch"):
        store.lease_company("7", "a", 60, epoch=epoch)
    with pytest.raises(InvalidInput, match="epoch"):
        store.release_company("7", "a", epoch)


def test_the_greatest_epoch_is_valid(store: Store) -> None:
    with pytest.raises(LeaseLost):
        store.set("7", KEYS, epoch=2**63 - 1)


def test_a_lease_is_renewed_or_forced_but_not_both(store: Store) -> None:
    lease = store.lease_company("7", "a", 60)
    with pytest.raises(InvalidInput, match="force"):
        store.lease_company("7", "a", 60, epoch=lease.epoch, force=True)


def test_a_lease_of_a_bad_company_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="company_id"):
        store.lease_company("no such/company", "a", 60)
    with pytest.raises(InvalidInput, match="company_id"):
        store.release_company("no such/company", "a", 1)


@pytest.mark.parametrize("by", ["another holder", "its own holder", "a write without an epoch"])
def test_a_lease_from_before_the_clock_was_set_back_protects_nothing(filled: Store, clock: Clock, by: str) -> None:
    clock.advance(40 * DAY)
    lease = filled.lease_company("7", "a", 3_600)
    filled.set("7", KEYS, epoch=lease.epoch)
    clock.advance(-40 * DAY)
    with pytest.raises(LeaseLost):
        filled.set("7", KEYS, epoch=lease.epoch)
    assert [company.lease for company in filled.company_page().companies] == [None]
    if by == "a write without an epoch":
        filled.set("7", KEYS)
    else:
        holder = "a" if by == "its own holder" else "b"
        assert filled.lease_company("7", holder, 3_600).epoch == lease.epoch + 1


def test_the_longest_lease_protects_from_its_first_moment(filled: Store) -> None:
    lease = filled.lease_company("7", "a", 86_400)
    with pytest.raises(LeaseLost):
        filled.set("7", KEYS)
    filled.set("7", KEYS, epoch=lease.epoch)
