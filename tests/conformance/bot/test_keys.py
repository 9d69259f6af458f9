"""A bot's operations on one company's keys and creds; other companies stay untouched."""

import pytest

from keystore import AuthState, Store
from rig.baileys_state import real_creds, real_keys
from tests.conformance.conftest import MakeStore

ODD_NAMES = [
    "'; DROP TABLE whatsapp_keys; --",
    "100 %s %(key_id)s :key_id ? $1",
    "4915112345678@s.whatsapp.net:7",
    "120363-42@g.us::4915112345678::0",
    'a/b\\c"d`e{f}',
    "ключ 鍵 مفتاح",
    "🔑" * 255,
    "x" * 255,
    "A",
    "a",
]


def test_get_and_load_return_the_values_that_were_set(store: Store) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"7": b"P"}}, creds=b"C")
    assert store.get("1", "session", ["a", "b"]) == {"a": b"A", "b": b"B"}
    assert store.get("1", "pre-key", ["7"]) == {"7": b"P"}
    assert store.get_creds("1") == b"C"
    assert store.load("1") == AuthState(b"C", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"7": b"P"}})


def test_absent_ids_are_absent_from_the_result(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}})
    assert store.get("1", "session", ["a", "b"]) == {"a": b"A"}
    assert store.get("1", "session", ["b"]) == {}
    assert store.get("1", "pre-key", ["a"]) == {}
    assert store.get("2", "session", ["a"]) == {}


def test_unknown_company_has_no_creds_and_no_keys(store: Store) -> None:
    assert store.load("nobody") == AuthState(None, {})
    assert store.get_creds("nobody") is None


def test_get_of_no_ids_returns_nothing(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}})
    assert store.get("1", "session", []) == {}


def test_ids_may_come_from_a_generator_and_repeat(store: Store) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}})
    assert store.get("1", "session", (name for name in "abab")) == {"a": b"A", "b": b"B"}


def test_a_write_replaces_the_value(store: Store) -> None:
    store.set("1", {"session": {"a": b"old"}})
    store.set("1", {"session": {"a": b"new and longer"}})
    assert store.load("1").keys == {"session": {"a": b"new and longer"}}


def test_none_deletes_that_key_only(store: Store) -> None:
    store.set("1", {"session": {"a": b"A", "b": b"B"}, "pre-key": {"a": b"P"}})
    store.set("1", {"session": {"a": None, "never there": None}})
    assert store.load("1").keys == {"session": {"b": b"B"}, "pre-key": {"a": b"P"}}
    assert store.get("1", "session", ["a"]) == {}


def test_one_set_writes_deletes_and_sets_creds(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}, "pre-key": {"1": b"P"}}, creds=b"old")
    store.set("1", {"session": {"a": None, "b": b"B"}, "pre-key": {"1": None}, "sender-key": {"g": b"S"}}, creds=b"new")
    assert store.load("1") == AuthState(b"new", {"session": {"b": b"B"}, "sender-key": {"g": b"S"}})


def test_set_without_creds_leaves_them(store: Store) -> None:
    store.set_creds("1", b"C")
    store.set("1", {"session": {"a": b"A"}})
    store.set("1", {"pre-key": {"1": b"P"}, "session": {"a": None}})
    assert store.get_creds("1") == b"C"


def test_set_of_creds_alone_writes_them(store: Store) -> None:
    store.set("1", {}, creds=b"first")
    assert store.get_creds("1") == b"first"
    store.set("1", {"session": {}}, creds=b"second")
    assert store.load("1") == AuthState(b"second", {})


def test_set_of_nothing_does_nothing(store: Store) -> None:
    store.set("1", {})
    store.set("1", {"session": {}})
    assert store.companies() == []


def test_set_creds_replaces_them(store: Store) -> None:
    store.set_creds("1", b"first")
    store.set_creds("1", b"second")
    assert store.get_creds("1") == b"second"


def test_clear_deletes_the_creds_and_keys_of_that_company_only(store: Store) -> None:
    for company in ("1", "2"):
        store.set(company, {"session": {"a": b"A"}, "pre-key": {"1": b"P"}}, creds=b"C")
    store.clear("1")
    assert store.load("1") == AuthState(None, {})
    assert store.load("2") == AuthState(b"C", {"session": {"a": b"A"}, "pre-key": {"1": b"P"}})
    assert store.companies() == ["2"]
    store.clear("1")


def test_touch_changes_no_value_and_returns_absent_keys(store: Store) -> None:
    store.set("1", {"session": {"a": b"A"}})
    store.set("2", {"session": {"b": b"B"}})
    used = {"session": ["c", "a", "b"], "pre-key": ["1"], "sender-key": [], "tctoken": ["ü"]}
    missing = {"session": ["b", "c"], "pre-key": ["1"], "tctoken": ["ü"]}
    assert {key_type: sorted(ids) for key_type, ids in store.touch("1", used).items()} == missing
    assert store.touch("1", {"session": ["a"]}) == {}
    assert store.touch("1", {}) == {}
    assert store.load("1").keys == {"session": {"a": b"A"}}


def test_repeating_a_set_changes_nothing(store: Store) -> None:
    for _ in range(2):
        store.set("1", {"session": {"a": b"A", "b": None}}, creds=b"C")
    assert store.load("1") == AuthState(b"C", {"session": {"a": b"A"}})


def test_company_prefix_names_the_same_company_everywhere(store: Store) -> None:
    store.set("company_962302", {"session": {"a": b"A", "b": b"B"}}, creds=b"C")
    assert store.load("962302") == store.load("company_962302") == AuthState(b"C", {"session": {"a": b"A", "b": b"B"}})
    assert store.get("962302", "session", ["a"]) == store.get("company_962302", "session", ["a"]) == {"a": b"A"}
    store.set("962302", {"session": {"b": None}})
    store.touch("company_962302", {"session": ["a"]})
    store.set_creds("company_962302", b"C2")
    assert store.get_creds("962302") == store.get_creds("company_962302") == b"C2"
    assert store.companies() == ["962302"]
    assert store.export_rows("company_962302") == store.export_rows("962302") != []
    store.restore_rows("company_962302", store.export_rows("962302"))
    assert store.census().total == 1
    store.clear("company_962302")
    assert store.load("962302") == AuthState(None, {})


def test_companies_are_sorted_whether_they_have_creds_or_keys(store: Store) -> None:
    store.set_creds("b", b"C")
    store.set("a", {"session": {"1": b"A"}})
    store.set("B", {"session": {"1": b"A"}}, creds=b"C")
    store.set("_", {"session": {"1": b"A"}})
    assert store.companies() == sorted(["a", "b", "B", "_"])


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_types_and_ids_may_be_any_printable_text(store: Store, name: str) -> None:
    store.set("1", {name: {name: b"A", "other": b"B"}})
    assert store.get("1", name, [name]) == {name: b"A"}
    assert store.load("1").keys == {name: {name: b"A", "other": b"B"}}
    store.touch("1", {name: [name]})
    store.set("1", {name: {name: None}})
    assert store.load("1").keys == {name: {"other": b"B"}}


def test_ids_that_differ_in_case_or_in_form_are_different_keys(store: Store) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    keys: dict[str, bytes | None] = {"A": b"1", "a": b"2", composed: b"3", decomposed: b"4", "1": b"5", "01": b"6"}
    store.set("1", {"session": keys})
    assert store.load("1").keys == {"session": keys}


def test_the_real_states_721_keys_and_creds_come_back_equal(store: Store) -> None:
    keys = real_keys()
    store.set("bot", keys, creds=real_creds())
    state = store.load("bot")
    assert state.total == 721
    assert state == AuthState(real_creds(), keys)
    assert {key_type: store.get("bot", key_type, by_id) for key_type, by_id in keys.items()} == keys
    assert store.get_creds("bot") == real_creds()


def test_a_reopened_store_finds_everything(store: Store, make_store: MakeStore) -> None:
    store.set("bot", real_keys(), creds=real_creds())
    store.close()
    assert make_store().load("bot") == AuthState(real_creds(), real_keys())
