"""Values that a bot sealed itself: the store keeps them, and every report says what nobody but the bot can see."""

import json
from pathlib import Path

import pytest

from keystore import Store
from keystore.sealing.sealed_form import SealingKey, full_name
from rig.baileys_state import real_creds, real_keys
from tests.acceptance.in_process import run, run_json
from tests.conformance.conftest import MakeStore
from tests.conformance.sealing.stored import OLD_KEY

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)

BOTS_KEY, NEWER_KEY = SealingKey(bytes(range(32))), SealingKey(bytes(range(100, 132)))


def sealed(company: str, key_type: str, key_id: str, value: bytes, key: SealingKey = BOTS_KEY) -> bytes:
    """Return a value as a bot seals it; always the same bytes."""
    return key.seal(value, full_name(company, key_type, key_id), nonce=b"n" * 12)


def fill_sealed(store: Store, company: str = "1") -> int:
    """Store the real state as a bot seals it, and return the number of its sealed keys."""
    keys = {
        key_type: {key_id: sealed(company, key_type, key_id, value) for key_id, value in by_id.items()}
        for key_type, by_id in real_keys().items()
        if key_type != "lid-mapping"
    }
    store.set(company, {**keys, "lid-mapping": real_keys()["lid-mapping"]}, sealed(company, "", "", real_creds()))
    return sum(map(len, keys.values()))


def test_a_pre_key_in_a_new_seal_is_not_overwritten_and_one_in_the_same_seal_is(store: Store) -> None:
    forms = [b'{"n":1}', *(sealed("1", "pre-key", "1", b'{"n":1}', key) for key in (BOTS_KEY, NEWER_KEY))]
    for form in (*forms, forms[-1]):
        store.set("1", {"pre-key": {"1": form}})
    assert store.census().pre_keys_rewritten_7d == 0
    store.set("1", {"pre-key": {"1": sealed("1", "pre-key", "1", b'{"n":2}', NEWER_KEY)}})
    assert store.census().pre_keys_rewritten_7d == 1
    store.set("1", {"pre-key": {"1": b'{"n":2}'}})
    assert store.census().pre_keys_rewritten_7d == 2


def test_the_doctor_counts_the_companies_that_are_in_clear(store: Store, store_url: str) -> None:
    is_file = store_url.startswith("sqlite")

    def sealing() -> list[str]:
        (sealing_check,) = [
            check for check in run_json("doctor", url=store_url)["checks"] if check["name"] == "sealing"
        ]
        return [sealing_check["status"], sealing_check["detail"]]

    fill_sealed(store)
    assert store.companies_sealed_by_bots() == ["1"]
    if is_file:
        return
    assert sealing() == ["ok", "the bots seal the values of every company themselves (docs/sealing.md)"]
    store.set("2", {"session": {"a": b"{}"}}, b"{}")
    state, detail = sealing()
    assert state == "warning"
    assert detail.startswith("private keys of 1 company are stored in clear")
    assert store.companies_sealed_by_bots() == ["1"]


def test_the_check_says_what_is_out_of_sight(store: Store, store_url: str) -> None:
    fill_sealed(store)
    report = run_json("check", url=store_url)
    assert (report["sealed_by_bots"], report["unreadable"]) == (1, [])
    assert "sealed by the bots themselves" in run("check", url=store_url).stdout


def test_an_archive_keeps_values_sealed_and_a_folder_refuses_them(store: Store, store_url: str, tmp_path: Path) -> None:
    sealed_keys = fill_sealed(store)
    before = store.load("1")
    archive = tmp_path / "1.jsonl"
    report = run_json("export", "--company", "1", str(archive), url=store_url)
    assert (report["sealed_by_bot"], report["skipped"], report["verified"]) == (sealed_keys + 1, [], 721)
    store.purge("1")
    done = run("import", "--company", "1", str(archive), url=store_url)
    assert done.returncode == 0, done.stderr
    assert f"{sealed_keys + 1} values sealed by the bot" in done.stdout
    assert "Baileys can't read" not in done.stdout
    after = store.load("1")
    assert (after.creds, after.keys) == (before.creds, before.keys)
    done = run("export", "--company", "1", str(tmp_path / "folder"), url=store_url)
    assert "its bot has sealed it, so Baileys can't read it; export an archive instead" in " ".join(done.stdout.split())


def test_fresh_sessions_say_that_the_counters_in_sealed_creds_stay(store: Store, store_url: str) -> None:
    fill_sealed(store)
    creds = store.get_creds("1")
    report = run_json("rolled-back", "--yes", url=store_url)
    assert report["sealed"] == ["1"]
    assert store.get_creds("1") == creds
    assert "pair the account once more" in " ".join(run("rolled-back", "--yes", url=store_url).stdout.split())
    store.clear("1")
    report = run_json("restore", "--company", "1", "--fresh-sessions", url=store_url)
    assert report["counters_stay"] is True


def test_a_repair_leaves_a_sealed_row_where_it_opens(store: Store, store_url: str) -> None:
    lost = sealed("1", "lid", "mapping-123", b'"456"')
    store.set("1", {"lid": {"mapping-123": lost, "mapping-124": b'"457"'}})
    report = run_json("repair", url=store_url)
    assert [move["key_id"] for move in report["moves"]] == ["mapping-124"]
    assert [move["key_id"] for move in report["kept"]] == ["mapping-123"]
    assert store.load("1").keys == {"lid": {"mapping-123": lost}, "lid-mapping": {"124": b'"457"'}}


def test_a_store_that_seals_puts_its_own_seal_around_a_bots(make_store: MakeStore) -> None:
    store = make_store(secret_keys=OLD_KEY)
    fill_sealed(store)
    assert json.loads(BOTS_KEY.open(store.get_creds("1") or b"", full_name("1", "", "")))["noiseKey"]
    assert store.companies_sealed_by_bots() == [], "the store doesn't look into its own seal"
