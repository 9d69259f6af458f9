"""With a secret key no value is in clear in the database, and everything else is as without."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from keystore import SecretKeyMissing, Store, open_store
from keystore.records import KeyRow, Write
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import START, Clock
from tests.conformance.conftest import MakeStore
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY, execute, forms

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def sealed(make_store: MakeStore, clock: Clock) -> Store:
    """A store that seals values."""
    return make_store(clock=clock, secret_keys=OLD_KEY)


def test_every_value_is_sealed_but_for_the_mappings(sealed: Store) -> None:
    sealed.set("1", real_keys(), creds=real_creds())
    assert sealed.load("1").keys == real_keys()
    assert sealed.get_creds("1") == real_creds()
    first_bytes = {(key_type == "lid-mapping", form[0]) for (_, key_type, _), form in forms(sealed).items()}
    assert first_bytes == {(True, 0), (False, 1)}
    assert sealed.sealing == "on"


def test_each_write_stores_the_nonce_of_its_value(sealed: Store) -> None:
    for count in (1, 1, 3, 3, 100, 100):
        sealed.set("1", {"session": {f"{n}": b"A" for n in range(count)}}, creds=b"{}")
        assert len(forms(sealed)) == count + 1


def test_the_values_of_an_unsealed_store_stay_readable_and_are_sealed_at_their_next_write(
    make_store: MakeStore,
) -> None:
    with make_store() as plain:
        plain.set("1", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"1", "2": b"2"}}, creds=b"{}")
        assert plain.sealing == "off"
    store = make_store(secret_keys=OLD_KEY)
    before = store.load("1")
    store.set("1", {"session": {"a": b"A2"}, "pre-key": {"1": b"1", "2": b"3"}}, creds=b"{}")
    after = store.load("1")
    assert before.keys == {"session": {"a": b"A", "b": b"B"}, "pre-key": {"1": b"1", "2": b"2"}}
    assert after.keys == {"session": {"a": b"A2", "b": b"B"}, "pre-key": {"1": b"1", "2": b"3"}}
    assert {name[1:]: form[0] for name, form in forms(store).items()} == {
        ("session", "a"): 1,
        ("session", "b"): 0,
        ("pre-key", "1"): 1,
        ("pre-key", "2"): 1,
        ("", ""): 1,
    }
    assert store.census().pre_keys_rewritten_7d == 1, "only the pre-key with another value was rewritten"


def test_a_pre_key_that_is_written_again_counts_only_with_another_value(sealed: Store) -> None:
    sealed.set("1", {"pre-key": {"1": b"1", "2": b"2"}})
    sealed.set("1", {"pre-key": {"1": b"1", "2": b"2"}})
    assert sealed.census().pre_keys_rewritten_7d == 0
    sealed.set("1", {"pre-key": {"1": b"1", "2": b"other"}})
    assert sealed.census().pre_keys_rewritten_7d == 1


def test_an_import_of_the_same_state_puts_nothing_into_the_trash(sealed: Store) -> None:
    rows = [KeyRow("session", "a", b"A", START, START, None, never_expires=True)]
    sealed.restore_rows("1", rows, b"{}")
    sealed.restore_rows("1", rows, b"{}")
    assert sealed.deletions() == []
    sealed.restore_rows("1", [KeyRow("session", "a", b"B", START, START, None, never_expires=True)])
    (deletion,) = sealed.deletions("1")
    creds, deleted = sealed.deleted_state(deletion)
    assert (creds, [row.value for row in deleted]) == (b"{}", [b"A"])
    assert len(forms(sealed)) == 2


def test_a_missing_or_wrong_key_is_one_error_at_opening(make_store: MakeStore, store_url: str) -> None:
    make_store(secret_keys=OLD_KEY).set("1", {"session": {"a": b"A"}})
    for secret_keys in ("", NEW_KEY):
        with pytest.raises(SecretKeyMissing, match="KEYSTORE_SECRET_KEYS") as error:
            open_store(store_url, secret_keys=secret_keys)
        assert NEW_KEY not in str(error.value)
    assert make_store(secret_keys=f"{NEW_KEY},{OLD_KEY}").load("1").keys == {"session": {"a": b"A"}}


def test_without_the_key_only_values_are_out_of_reach(make_store: MakeStore) -> None:
    make_store(secret_keys=OLD_KEY).set("1", {"session": {"a": b"A"}}, creds=b"{}")
    store = make_store(secret_keys="", without_values=True)
    assert store.sealing == "locked"
    assert store.census().total == 1
    for read in (lambda: store.load("1"), lambda: store.get("1", "session", ["a"]), lambda: store.get_creds("1")):
        with pytest.raises(SecretKeyMissing, match=r"^1 "):
            read()
    assert store.unreadable() == [], "a value that nobody can open here isn't an unreadable one"


def test_a_purge_ends_every_value_that_was_sealed(make_store: MakeStore) -> None:
    store, other = make_store(secret_keys=OLD_KEY), make_store(secret_keys=OLD_KEY)
    store.set("1", {"session": {"a": b"A"}})
    other.set("1", {"session": {"b": b"B"}})
    ((data_key,),) = execute(store, "SELECT key_id FROM keystore_data_keys")
    assert store.purge("1")["keystore_data_keys"] == 1
    # The other store holds the former data key: what it writes must be sealed by the company's new one.
    other.set("1", {"session": {"c": b"C"}})
    assert store.load("1").keys == other.load("1").keys == {"session": {"c": b"C"}}
    ((new_data_key,),) = execute(store, "SELECT key_id FROM keystore_data_keys")
    assert new_data_key != data_key


def test_writes_of_several_companies_are_sealed_also_after_a_purge(make_store: MakeStore) -> None:
    store, other = make_store(secret_keys=OLD_KEY), make_store(secret_keys=OLD_KEY)
    writes = [Write(company, {"session": {"a": b"A"}}, b'{"registrationId": 1}') for company in ("1", "2", "3")]
    assert store.set_all(writes) == [None] * 3
    other.purge("2")
    writes = [Write(company, {"session": {"a": b"B"}}, b'{"registrationId": 2}') for company in ("1", "2", "3")]
    writes[2] = replace(writes[2], creds=b'{"registrationId": 1, "more": 1}')
    assert store.set_all(writes) == [None] * 3
    assert [other.load(company).keys for company in ("1", "2", "3")] == [{"session": {"a": b"B"}}] * 3
    assert [(deletion.company_id, deletion.reason) for deletion in store.deletions()] == [("1", "other identity")]
    assert {form[0] for form in forms(store).values()} == {1}


def test_a_repair_seals_a_moved_key_under_its_new_name(sealed: Store) -> None:
    sealed.set("1", {"app": {"state-sync-key-x": b"A"}, "lid": {"mapping-1": b'"2"'}})
    for key in sealed.key_names(["app", "lid"]):
        first, _, rest = {"state-sync-key-x": "app-state-sync-key/x", "mapping-1": "lid-mapping/1"}[
            key.key_id
        ].partition("/")
        assert sealed.move_key(key, first, rest)
    assert sealed.load("1").keys == {"app-state-sync-key": {"x": b"A"}, "lid-mapping": {"1": b'"2"'}}
    assert {name[1]: form[0] for name, form in forms(sealed).items()} == {"app-state-sync-key": 1, "lid-mapping": 0}


@pytest.mark.parametrize("first", ["plain", "sealed"])
def test_creds_of_another_identity_put_the_state_into_the_trash(make_store: MakeStore, first: str) -> None:
    make_store(secret_keys="" if first == "plain" else OLD_KEY).set(
        "1", {"session": {"a": b"A"}}, creds=b'{"registrationId": 1}'
    )
    store = make_store(secret_keys=OLD_KEY)
    store.set_creds("1", b'{"registrationId": 1, "more": 2}')
    assert store.deletions() == []
    store.set_creds("1", b'{"registrationId": 2}')
    (deletion,) = store.deletions()
    assert (deletion.reason, deletion.keys) == ("other identity", 1)


def test_no_private_key_can_be_read_from_the_file(make_store: MakeStore, backend: object, tmp_path: Path) -> None:
    if getattr(backend, "name", "") != "sqlite":
        pytest.skip("the files of a PostgreSQL server belong to all its databases")
    store = make_store(secret_keys=OLD_KEY)
    store.set("1", real_keys(), creds=real_creds())
    store.set("1", {"pre-key": {"1": next(iter(real_keys()["pre-key"].values()))}}, creds=real_creds())
    store.clear("1")
    store.set("1", real_keys(), creds=real_creds())
    path = Path(str(getattr(backend, "url", "")).removeprefix("sqlite:///"))
    for file in (path, path.with_name(f"{path.name}-wal")):
        text = subprocess.run(["strings", "-n", "8", file], capture_output=True, text=True, check=True).stdout
        assert "962302" in text or "session" in text, "the names are in clear"
        for mark in ('"private"', '"privKey"', '"rootKey"', '"chainKey"', '"noiseKey"', '"keyData"', OLD_KEY):
            assert mark not in text
