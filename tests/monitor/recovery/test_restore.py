"""`restore`: what was deleted or replaced comes back, key by key, and a key has as long to live as it had."""

import json
from datetime import timedelta

import pytest

from keystore import InvalidInput, LeaseLost, Store
from monitor.recovery.fresh_sessions import IDS_SINCE, MOST_PRE_KEY_ID, with_later_pre_keys
from monitor.recovery.restore import restore_company
from monitor.recovery.rolled_back import drop_ratchets
from monitor.recovery.trash import trash_report
from monitor.sweeper import sweep
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import Clock

COMPANY = "962302"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def paired(store: Store) -> Store:
    """A store with the whole state of a real bot."""
    store.set(COMPANY, real_keys(), creds=real_creds())
    return store


def counters(creds: bytes | None) -> tuple[int, int]:
    """Return the ids of the next pre-key and of the first that wasn't uploaded."""
    document = json.loads(creds or b"{}")
    return document["nextPreKeyId"], document["firstUnuploadedPreKeyId"]


def test_a_cleared_state_comes_back_with_the_time_it_had_left(paired: Store, clock: Clock) -> None:
    before = paired.load(COMPANY)
    rows = paired.export_rows(COMPANY)
    paired.clear(COMPANY)
    clock.advance(29 * DAY)
    report = restore_company(paired, COMPANY)
    assert (report.keys, report.creds, report.replaced, report.reason) == (len(rows), True, 0, "clear")
    assert paired.load(COMPANY) == before
    for former, back in zip(rows, paired.export_rows(COMPANY), strict=True):
        assert (back.created_at, back.updated_at) == (former.created_at, former.updated_at)
        assert back.never_expires == former.never_expires
        assert back.expires_at == (former.expires_at and former.expires_at + 29 * DAY)
    sweep(paired)
    assert paired.load(COMPANY) == before, "a sweep takes nothing that came back"


def test_a_dry_run_changes_nothing(paired: Store) -> None:
    paired.clear(COMPANY)
    report = restore_company(paired, COMPANY, dry_run=True)
    assert (report.keys, report.dry_run) == (721, True)
    assert paired.load(COMPANY).total == 0


def test_a_state_left_behind_by_another_pairing_comes_back(paired: Store) -> None:
    before = paired.load(COMPANY)
    other = json.loads(real_creds()) | {"registrationId": 1}
    paired.set(COMPANY, {"session": {"new.0": b"S"}}, creds=json.dumps(other).encode())
    assert restore_company(paired, COMPANY).reason == "other identity"
    assert paired.load(COMPANY) == before


def test_a_restore_is_undone_by_the_next(paired: Store, clock: Clock) -> None:
    first = paired.load(COMPANY)
    paired.clear(COMPANY)
    clock.advance(HOUR)
    paired.set(COMPANY, {"session": {"b.0": b"B"}}, creds=b'{"registrationId": 5}')
    second = paired.load(COMPANY)
    assert restore_company(paired, COMPANY).replaced == 1
    assert paired.load(COMPANY) == first
    assert restore_company(paired, COMPANY).reason == "restore"
    assert paired.load(COMPANY) == second


def test_a_time_chooses_what_the_company_had_then(store: Store, clock: Clock) -> None:
    times = []
    for value in (b"1", b"2", b"3"):
        store.set(COMPANY, {"session": {"a.0": value}})
        clock.advance(HOUR)
        times.append(clock())
        store.clear(COMPANY)
        clock.advance(HOUR)
    assert restore_company(store, COMPANY, as_of=times[1] - HOUR / 2).deleted_at == times[1]
    assert store.load(COMPANY).keys == {"session": {"a.0": b"2"}}
    restore_company(store, COMPANY, as_of=times[0])
    assert store.load(COMPANY).keys == {"session": {"a.0": b"1"}}
    with pytest.raises(InvalidInput, match="it still has the state of then"):
        restore_company(store, COMPANY, as_of=clock() + HOUR)


def test_a_whole_state_is_chosen_before_the_key_of_a_repair(store: Store, clock: Clock) -> None:
    store.set(COMPANY, {"lid-mapping": {"1": b"old"}, "session": {"a.0": b"S"}})
    clock.advance(HOUR)
    store.set(COMPANY, {"lid": {"mapping-1": b"new"}})
    (key,) = store.key_names(["lid"])
    assert store.move_key(key, "lid-mapping", "1")
    assert restore_company(store, COMPANY, dry_run=True).reason == "repair"
    store.clear(COMPANY)
    clock.advance(HOUR)
    store.set(COMPANY, {"lid-mapping": {"2": b"older"}})
    clock.advance(HOUR)
    store.set(COMPANY, {"lid": {"mapping-2": b"newer"}})
    (key,) = store.key_names(["lid"])
    assert store.move_key(key, "lid-mapping", "2")
    restore_company(store, COMPANY)
    assert store.load(COMPANY).keys == {"lid-mapping": {"1": b"new"}, "session": {"a.0": b"S"}}


def test_a_day_s_creds_come_back_alone(paired: Store, clock: Clock) -> None:
    keys = paired.load(COMPANY).keys
    clock.advance(DAY)
    later = json.dumps(json.loads(real_creds()) | {"nextPreKeyId": 2_000}).encode()
    paired.set_creds(COMPANY, later)
    with pytest.raises(InvalidInput, match="no state of it"):
        restore_company(paired, COMPANY)
    report = restore_company(paired, COMPANY, creds_only=True)
    assert (report.keys, report.creds) == (0, True)
    assert paired.get_creds(COMPANY) == real_creds()
    assert paired.load(COMPANY).keys == keys


def test_nothing_comes_back_after_thirty_days(paired: Store, clock: Clock) -> None:
    paired.clear(COMPANY)
    clock.advance(30 * DAY)
    sweep(paired)
    with pytest.raises(InvalidInput, match="the trash has no state of it"):
        restore_company(paired, COMPANY)


def test_nothing_comes_back_beside_a_running_bot(paired: Store) -> None:
    paired.clear(COMPANY)
    paired.lease_company(COMPANY, "bot", 60)
    with pytest.raises(LeaseLost):
        restore_company(paired, COMPANY)
    assert paired.load(COMPANY).total == 0


def test_fresh_sessions_leave_the_ratchets_out_and_pass_every_pre_key(paired: Store) -> None:
    paired.clear(COMPANY)
    newer = json.dumps(json.loads(real_creds()) | {"nextPreKeyId": 5_000}).encode()
    paired.set(COMPANY, {"pre-key": {"6000": b"P"}}, creds=newer)
    report = restore_company(paired, COMPANY, as_of=trash_report(paired).entries[-1].deleted_at, fresh_sessions=True)
    keys = real_keys()
    ratchets = {"session", "sender-key", "sender-key-memory"}
    assert paired.load(COMPANY).keys == {key_type: keys[key_type] for key_type in keys if key_type not in ratchets}
    assert report.left_out == sum(len(keys[key_type]) for key_type in ratchets)
    creds = paired.get_creds(COMPANY)
    assert counters(creds) == (6_000 + IDS_SINCE, 6_000 + IDS_SINCE)
    unchanged = json.loads(creds or b"") | dict(zip(("nextPreKeyId", "firstUnuploadedPreKeyId"), (0, 0), strict=True))
    assert unchanged == json.loads(real_creds()) | {"nextPreKeyId": 0, "firstUnuploadedPreKeyId": 0}


def test_a_rolled_back_database_loses_every_ratchet_but_those_of_running_bots(paired: Store) -> None:
    for company in ("2", "3"):
        paired.set(company, {"session": {"a.0": b"S"}, "identity-key": {"a.0": b"I"}}, creds=b"no JSON")
    paired.lease_company("3", "bot", 60)
    steps: list[tuple[int, int]] = []
    planned = drop_ratchets(paired, dry_run=True)
    assert (planned.companies, planned.leased) == (2, ("3",))
    report = drop_ratchets(paired, progress=lambda *step: steps.append(step))
    ratchets = sum(len(real_keys()[key_type]) for key_type in ("session", "sender-key", "sender-key-memory"))
    assert (report.companies, report.keys, report.leased) == (2, ratchets + 1, ("3",))
    assert steps[-1] == (3, 3)
    assert paired.load("2").keys == {"identity-key": {"a.0": b"I"}}
    assert paired.get_creds("2") == b"no JSON"
    assert paired.load("3").keys["session"] == {"a.0": b"S"}
    most = max(*counters(real_creds()), *map(int, real_keys()["pre-key"]))
    assert counters(paired.get_creds(COMPANY)) == (most + IDS_SINCE, most + IDS_SINCE)
    assert {entry.reason for entry in trash_report(paired).entries} == {"rolled back"}
    restore_company(paired, COMPANY)
    assert paired.load(COMPANY).keys == real_keys()


@pytest.mark.parametrize(
    "creds",
    [b"", b"[]", b"{", b'{"nextPreKeyId": 1}', b'{"nextPreKeyId": true, "firstUnuploadedPreKeyId": 1}', b"\xff"],
)
def test_creds_without_counters_stay_as_they_are(creds: bytes) -> None:
    assert with_later_pre_keys(creds, [], ["5"]) == creds


def test_the_next_pre_key_has_an_id_of_three_bytes() -> None:
    creds = json.dumps({"nextPreKeyId": MOST_PRE_KEY_ID - 1, "firstUnuploadedPreKeyId": 1}).encode()
    assert counters(with_later_pre_keys(creds, [], [])) == (MOST_PRE_KEY_ID, MOST_PRE_KEY_ID)
    assert counters(
        with_later_pre_keys(creds.replace(b"16777214", b"7"), [b"{}", b"no"], ["9" * 40, "99999999", "x", "²"])
    ) == (
        7 + IDS_SINCE,
        7 + IDS_SINCE,
    )
