"""Rows with their times: listed, moved to the type they belong to, exported and restored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from keystore import InvalidInput, Store
from keystore.records import KeyName, KeyRow
from keystore.ttl import DIARY, NEVER, Policy
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore

DAY = timedelta(days=1)


def name_of(store: Store, key_type: str, key_id: str) -> KeyName:
    (name,) = [name for name in store.key_names([key_type]) if name.key_id == key_id]
    return name


def test_key_names_lists_the_types_keys_of_every_company_sorted(store: Store, clock: Clock) -> None:
    store.set("2", {"lid": {"mapping-1": b"A"}, "session": {"x": b"A"}})
    clock.advance(DAY)
    store.set("1", {"lid": {"mapping-2": b"A", "mapping-10": b"A"}, "pre": {"key-1": b"A"}, "lid-mapping": {"9": b"A"}})
    assert list(store.key_names(["pre", "lid"])) == [
        KeyName("1", "lid", "mapping-10", START + DAY),
        KeyName("1", "lid", "mapping-2", START + DAY),
        KeyName("1", "pre", "key-1", START + DAY),
        KeyName("2", "lid", "mapping-1", START),
    ]
    assert list(store.key_names(["nothing"])) == []
    assert list(store.key_names([])) == []


def test_a_key_moves_with_its_value_and_its_times(store: Store, clock: Clock) -> None:
    store.set("1", {"lid": {"mapping-123": b"A", "mapping-4": b"B"}})
    before = store.export_rows("1")[0]
    clock.advance(3 * DAY)
    assert store.move_key(name_of(store, "lid", "mapping-123"), "lid-mapping", "123")
    rows = {(row.key_type, row.key_id): row for row in store.export_rows("1")}
    assert rows.keys() == {("lid", "mapping-4"), ("lid-mapping", "123")}
    assert rows["lid-mapping", "123"] == replace(before, key_type="lid-mapping", key_id="123")
    assert store.get("1", "lid-mapping", ["123"]) == {"123": b"A"}


def test_a_moved_key_replaces_an_older_one(store: Store, clock: Clock) -> None:
    store.set("1", {"lid-mapping": {"123": b"older"}})
    clock.advance(DAY)
    store.set("1", {"lid": {"mapping-123": b"newer"}})
    assert store.move_key(name_of(store, "lid", "mapping-123"), "lid-mapping", "123")
    assert store.load("1").keys == {"lid-mapping": {"123": b"newer"}}


def test_a_key_does_not_move_onto_a_newer_one(store: Store, clock: Clock) -> None:
    store.set("1", {"lid": {"mapping-123": b"older"}})
    clock.advance(DAY)
    store.set("1", {"lid-mapping": {"123": b"newer"}})
    before = store.export_rows("1")
    assert not store.move_key(name_of(store, "lid", "mapping-123"), "lid-mapping", "123")
    assert store.export_rows("1") == before


def test_a_deleted_key_does_not_move_and_deletes_nothing(store: Store, clock: Clock) -> None:
    store.set("1", {"lid-mapping": {"123": b"stays"}})
    clock.advance(DAY)
    store.set("1", {"lid": {"mapping-123": b"A"}})
    name = name_of(store, "lid", "mapping-123")
    store.set("1", {"lid": {"mapping-123": None}})
    assert not store.move_key(name, "lid-mapping", "123")
    assert store.load("1").keys == {"lid-mapping": {"123": b"stays"}}


def test_a_second_move_changes_nothing(store: Store) -> None:
    store.set("1", {"lid": {"mapping-123": b"A"}})
    name = name_of(store, "lid", "mapping-123")
    assert store.move_key(name, "lid-mapping", "123")
    before = store.export_rows("1")
    assert not store.move_key(name, "lid-mapping", "123")
    assert store.export_rows("1") == before


def test_a_move_stays_in_its_company(store: Store) -> None:
    for company in ("1", "2"):
        store.set(company, {"lid": {"mapping-123": b"A"}})
    first = next(iter(store.key_names(["lid"])))
    assert store.move_key(first, "lid-mapping", "123")
    assert store.load("1").keys == {"lid-mapping": {"123": b"A"}}
    assert store.load("2").keys == {"lid": {"mapping-123": b"A"}}


def test_export_gives_every_key_with_its_times_sorted(store: Store, clock: Clock) -> None:
    store.set("1", {"session": {"b": b"B", "a": b"A", "B": b"C"}}, creds=b"C")
    clock.advance(DAY)
    store.set("1", {"pre-key": {"1": b"P"}, "session": {"a": b"A2"}})
    rows = store.export_rows("1")
    assert [(row.key_type, row.key_id, row.value, row.created_at, row.updated_at) for row in rows] == [
        ("pre-key", "1", b"P", START + DAY, START + DAY),
        ("session", "B", b"C", START, START),
        ("session", "a", b"A2", START, START + DAY),
        ("session", "b", b"B", START, START),
    ]
    assert all(row.expires_at and row.expires_at.tzinfo is UTC for row in rows)
    assert store.export_rows("2") == []


def test_the_real_state_is_exported_and_restored_with_its_times(make_store: MakeStore, clock: Clock) -> None:
    store = make_store(clock=clock, policy=Policy({**DIARY.by_type, "identity-key": NEVER}))
    for key_type, by_id in real_keys().items():
        clock.advance(timedelta(minutes=7, microseconds=13))
        store.set("bot", {key_type: by_id}, creds=real_creds())
    rows = store.export_rows("bot")
    assert len(rows) == 721
    assert sum(row.never_expires for row in rows) == 120
    clock.advance(DAY)
    store.restore_rows("again", iter(rows), creds=real_creds())
    assert store.export_rows("again") == rows
    assert store.load("again") == store.load("bot")
    store.restore_rows("again", rows)
    assert store.export_rows("again") == rows


def test_restored_rows_overwrite_their_keys_only(store: Store) -> None:
    store.set("1", {"session": {"a": b"new", "b": b"B"}}, creds=b"C")
    old = KeyRow("session", "a", b"old", START - 9 * DAY, START - 8 * DAY, START - DAY)
    store.restore_rows("1", [old])
    assert store.export_rows("1")[0] == old
    assert store.load("1").keys == {"session": {"a": b"old", "b": b"B"}}
    assert store.get_creds("1") == b"C"
    assert store.census().expired == 1


def test_each_kind_of_expiry_is_restored(store: Store) -> None:
    rows = [
        KeyRow("t", "1 past", b"A", START, START, START - 400 * DAY),
        KeyRow("t", "2 none", b"A", START, START, None),
        KeyRow("t", "3 never", b"A", START, START, None, never_expires=True),
        KeyRow("t", "4 odd", b"A", START, START, datetime(2031, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)),
    ]
    store.restore_rows("1", rows)
    assert store.export_rows("1") == rows


def test_times_in_another_zone_mean_the_same_moment(store: Store) -> None:
    local = START.astimezone(timezone(timedelta(hours=5, minutes=45)))
    store.restore_rows("1", [KeyRow("t", "a", b"A", local, local, local + DAY)])
    (row,) = store.export_rows("1")
    assert (row.created_at, row.updated_at, row.expires_at) == (START, START, START + DAY)
    assert row.created_at.utcoffset() == timedelta(0)


def test_a_batch_with_a_bad_row_is_refused_as_a_whole(store: Store) -> None:
    good = KeyRow("session", "a", b"A", START, START, None)
    bad = [
        replace(good, key_type=""),
        replace(good, key_id="x\n"),
        replace(good, value=b""),
        replace(good, created_at=START.replace(tzinfo=None)),
        replace(good, updated_at=START.replace(tzinfo=None)),
        replace(good, expires_at=START.replace(tzinfo=None)),
    ]
    for row in bad:
        with pytest.raises(InvalidInput):
            store.restore_rows("1", [good, row], creds=b"C")
    with pytest.raises(InvalidInput, match="creds"):
        store.restore_rows("1", [good], creds=b"")
    assert store.companies() == []


def test_creds_can_be_restored_without_keys(store: Store) -> None:
    store.restore_rows("1", [], creds=b"C")
    assert store.load("1").creds == b"C"
    store.restore_rows("2", [])
    assert store.companies() == ["1"]
