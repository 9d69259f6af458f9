"""The trash has what a clear, an import, a repair or another pairing deleted or replaced, for a while."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import LeaseLost, Store, open_store
from keystore.records import AuthState, Deletion, KeyRow
from keystore.upkeep import Upkeep
from monitor.recovery.restore import restore_company
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import Clock
from tests.conformance.conftest import Backend
from tests.conformance.full_sweep import sweep
from tests.conformance.links import postgres_link

KEYS = {"session": {"49.0": b"S1", "50.0": b"S2"}, "pre-key": {"1": b"P"}}
DAY = timedelta(days=1)


def creds(
    noise_key: str = "a", registration_id: int = 7, account: str | None = "4915:1@s.whatsapp.net", **more: object
) -> bytes:
    """Return creds as Baileys writes them, as far as they tell one identity from another."""
    document = {
        "noiseKey": {"private": {"type": "Buffer", "data": "x"}, "public": {"type": "Buffer", "data": noise_key}},
        "registrationId": registration_id,
        "me": None if account is None else {"id": account, "name": "Bot"},
        **more,
    }
    return json.dumps(document).encode()


def state_of(store: Upkeep, deletion: Deletion) -> AuthState:
    """Return what a deletion put away, as a state."""
    creds, rows = store.deleted_state(deletion)
    keys: dict[str, dict[str, bytes]] = {}
    for row in rows:
        keys.setdefault(row.key_type, {})[row.key_id] = row.value
    return AuthState(creds, keys)


def test_a_cleared_state_is_in_the_trash_key_by_key(store: Store) -> None:
    store.set("962302", real_keys(), creds=real_creds())
    rows = store.export_rows("962302")
    store.clear("962302")
    (deletion,) = store.deletions()
    assert (deletion.company_id, deletion.reason, deletion.keys, deletion.creds) == ("962302", "clear", len(rows), True)
    assert store.deleted_state(deletion) == (real_creds(), rows)
    assert store.load("962302").total == 0
    assert store.deletions("other") == []


def test_a_clear_of_the_keys_alone_leaves_the_creds_and_comes_back_with_them(store: Store) -> None:
    store.set("962302", real_keys(), creds=real_creds())
    store.set("other", KEYS)
    before, rows = store.load("962302"), store.export_rows("962302")
    store.clear("962302", keys_only=True)
    assert store.load("962302") == AuthState(real_creds(), {})
    (deletion,) = store.deletions()
    assert (deletion.company_id, deletion.reason, deletion.keys, deletion.creds) == (
        "962302",
        "clear",
        len(rows),
        False,
    )
    assert store.deleted_state(deletion) == (None, rows)
    store.set("962302", {"session": {"later": b"{}"}}, creds=b'{"later": true}')
    report = restore_company(store, "962302")
    assert (report.keys, report.creds, report.replaced) == (len(rows), False, 1)
    assert store.load("962302") == replace(before, creds=b'{"later": true}')


def test_a_clear_of_no_keys_leaves_nothing(store: Store) -> None:
    store.set_creds("c", creds())
    store.clear("c", keys_only=True)
    assert store.deletions() == []
    assert store.load("c") == AuthState(creds(), {})


def test_two_clears_at_one_moment_are_two_deletions(store: Store) -> None:
    for value in (b"1", b"2"):
        store.set("c", {"session": {"a": value}})
        store.clear("c")
    newest, oldest = store.deletions("c")
    assert newest.trashed_at > oldest.trashed_at
    assert [state_of(store, deletion).keys for deletion in (newest, oldest)] == [
        {"session": {"a": b"2"}},
        {"session": {"a": b"1"}},
    ]


def test_a_clear_of_nothing_leaves_nothing(store: Store) -> None:
    store.clear("c")
    assert store.deletions() == []


def test_what_a_bot_or_a_sweep_deletes_does_not_go_to_the_trash(store: Store, clock: Clock) -> None:
    store.set("c", KEYS, creds=creds())
    store.set("c", {"session": {"49.0": None}, "pre-key": {"1": b"P2"}})
    clock.advance(timedelta(days=40))
    sweep(store)
    assert store.deletions() == []


@pytest.mark.parametrize(
    "other",
    [creds(noise_key="b"), creds(registration_id=8), creds(account="4916:1@s.whatsapp.net")],
    ids=["noise key", "registration id", "account"],
)
def test_creds_of_another_identity_put_the_whole_state_away(store: Store, other: bytes) -> None:
    store.set("c", KEYS, creds=creds())
    before = store.load("c")
    store.set("c", {"session": {"49.0": b"new"}, "pre-key": {"1": None}}, creds=other)
    (deletion,) = store.deletions()
    assert deletion.reason == "other identity"
    assert state_of(store, deletion) == before
    assert store.load("c").keys == {"session": {"49.0": b"new", "50.0": b"S2"}}, (
        "the bot's own keys stay as it has them"
    )


@pytest.mark.parametrize(
    ("former", "new"),
    [
        (creds(), creds(nextPreKeyId=5)),
        (creds(account=None), creds()),
        (creds(), creds(account=None)),
        (creds(), b"no JSON"),
        (b"\xff", creds()),
        (b"[1]", creds()),
        (b'"text"', creds()),
        (b'{"noiseKey": 5, "me": "x"}', creds()),
        (b'{"other": "\\u0000"}', creds()),
        (creds(), creds()),
    ],
)
def test_other_creds_of_the_same_day_put_nothing_away(store: Store, former: bytes, new: bytes) -> None:
    store.set("c", KEYS, creds=former)
    store.set("c", {}, creds=new)
    assert store.get_creds("c") == new
    assert store.deletions() == []


def test_a_version_of_the_creds_is_kept_a_day(store: Store, clock: Clock) -> None:
    for n in range(6):
        store.set_creds("c", creds(nextPreKeyId=n))
        clock.advance(timedelta(hours=12))
    versions = store.deletions("c")
    assert {deletion.reason for deletion in versions} == {"creds of a day"}
    assert {(deletion.keys, deletion.creds) for deletion in versions} == {(0, True)}
    stored = [store.deleted_state(deletion)[0] for deletion in reversed(versions)]
    assert stored == [creds(nextPreKeyId=n) for n in (1, 3)]


@pytest.mark.parametrize(
    ("values", "new_creds", "removed"),
    [
        ({"49.0": b"other"}, None, []),
        ({"49.0": b"S1"}, None, [("pre-key", "1")]),
        ({"49.0": b"S1"}, creds(nextPreKeyId=9), []),
    ],
    ids=["a value is replaced", "a key is deleted", "the creds are replaced"],
)
def test_an_import_that_replaces_anything_puts_the_whole_state_away(
    store: Store, clock: Clock, values: dict[str, bytes], new_creds: bytes | None, removed: list[tuple[str, str]]
) -> None:
    store.set("c", KEYS, creds=creds())
    before = store.load("c")
    rows = [KeyRow("session", key_id, value, clock(), clock(), None) for key_id, value in values.items()]
    store.restore_rows("c", rows, new_creds, removed, "restore")
    (deletion,) = store.deletions()
    assert deletion.reason == "restore"
    assert state_of(store, deletion) == before


def test_an_import_that_only_adds_puts_nothing_away(store: Store, clock: Clock) -> None:
    store.set("c", KEYS)
    rows = [
        KeyRow("session", key_id, value, clock(), clock(), None) for key_id, value in (("49.0", b"S1"), ("x", b"X"))
    ]
    store.restore_rows("c", rows, creds(), removed=[("pre-key", "2")])
    assert store.deletions() == []


def test_a_repair_puts_away_the_older_key(store: Store, clock: Clock) -> None:
    store.set("c", {"lid-mapping": {"123": b"old"}})
    clock.advance(DAY)
    store.set("c", {"lid": {"mapping-123": b"new"}})
    (key,) = store.key_names(["lid"])
    assert store.move_key(key, "lid-mapping", "123")
    (deletion,) = store.deletions()
    assert deletion.reason == "repair"
    assert state_of(store, deletion).keys == {"lid-mapping": {"123": b"old"}}
    assert store.load("c").keys == {"lid-mapping": {"123": b"new"}}


def test_the_trash_keeps_for_thirty_days(store: Store, clock: Clock) -> None:
    store.set("c", KEYS, creds=creds())
    store.clear("c")
    clock.advance(30 * DAY - timedelta(seconds=1))
    assert store.empty_trash() == 0
    clock.advance(timedelta(seconds=1))
    assert store.empty_trash() == 4
    assert store.deletions() == []


def test_the_trash_can_be_off(backend: Backend, clock: Clock) -> None:
    with open_store(backend.url, clock=clock) as store:
        store.set("c", KEYS, creds=creds())
        store.clear("c")
    with open_store(backend.url, clock=clock, trash_s=0) as store:
        assert store.trash_s == 0
        store.set("c", KEYS, creds=creds())
        store.set("c", {}, creds=creds("b"))
        clock.advance(DAY)
        store.set("c", {}, creds=creds("b", nextPreKeyId=2))
        store.restore_rows("c", [KeyRow("session", "49.0", b"x", clock(), clock(), None)], removed=[("pre-key", "1")])
        store.clear("c")
        (former,) = store.deletions()
        assert former.reason == "clear"
        assert store.empty_trash() == 4
        assert store.load("c").total == 0
    with open_store(backend.url, clock=clock) as store:
        assert store.trash_s == 0, "opening without a setting leaves it"


def test_a_company_s_trash_takes_a_limited_room(
    store: Store, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend.name != "sqlite":
        postgres_link(store).rows(
            "CREATE OR REPLACE FUNCTION keystore_most_trash_bytes() RETURNS bigint "
            "LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1000",
            {},
        )
    monkeypatch.setattr("keystore.sqlite.trash.MOST_TRASH_BYTES", 1_000)
    for n in range(5):
        store.set("c", {"session": {str(n): bytes([n]) * 200}})
        store.clear("c")
    assert [list(state_of(store, deletion).keys["session"]) for deletion in store.deletions()] == [["4"], ["3"]]
    store.set("c", {"session": {"large": b"x" * 2_000}})
    store.clear("c")
    assert [list(state_of(store, deletion).keys["session"]) for deletion in store.deletions()] == [["large"]]


def test_a_purge_leaves_no_row_of_the_company(store: Store) -> None:
    for company in ("c", "d"):
        store.set(company, KEYS, creds=creds())
        store.clear(company)
        store.set(company, KEYS, creds=creds())
        store.lease_company(company, "bot", 60)
        store.release_company(company, "bot", 1)
    of_another = store.load("d"), store.deletions("d")
    rows = store.purge("company_c")
    assert rows["whatsapp_keys"] == 3
    assert rows["whatsapp_auth"] == 1
    assert rows["keystore_trash"] == 4
    assert rows["keystore_company_leases"] == 1
    assert rows["keystore_counters"] >= 0
    assert (store.load("d"), store.deletions("d")) == of_another
    assert store.load("c") == AuthState(None, {})
    assert store.companies() == ["d"]
    assert store.lease_company("c", "bot", 60).epoch == 1


def test_no_purge_and_no_import_beside_a_live_lease(store: Store) -> None:
    store.set("c", KEYS, creds=creds())
    lease = store.lease_company("c", "bot", 60)
    with pytest.raises(LeaseLost):
        store.purge("c")
    store.clear("c", epoch=lease.epoch)
    assert store.deletions()[0].keys == 3
