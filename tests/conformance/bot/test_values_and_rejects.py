"""Any value of 1 byte to 16 MiB is stored; bad input is refused by name, is never shown, and changes nothing."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import pytest

from keystore import InvalidInput, Store
from keystore.ids import MAX_VALUE_BYTES

pytestmark = pytest.mark.slow

SECRET = "S3CRET"

Call = Callable[[Store], object]

BAD_COMPANIES = ["", "a b", "x" * 65, "company_", "company_company_", "ä", "a.b", "a\n", "a\x00", 7, None, b"1"]
BAD_NAMES = ["", "x" * 256, "a\nb", "a\x00b", "\x7f", "\ud800", 7, None, b"1"]
BAD_VALUES = [b"", SECRET, 7, [1, 2], bytearray()]


def short(value: object) -> str:
    return ascii(value)[:12]


@pytest.mark.parametrize("size", [1, 2, 8_191, 200 * 1024, MAX_VALUE_BYTES])
def test_a_value_of_any_allowed_size_comes_back(store: Store, size: int) -> None:
    value = random.Random(size).randbytes(size)
    store.set("1", {"session": {"a": value}}, creds=value)
    assert store.get("1", "session", ["a"])["a"] == value
    state = store.load("1")
    assert state.keys["session"]["a"] == value
    assert state.creds == value
    assert store.get_creds("1") == value


def test_values_are_opaque_bytes(store: Store) -> None:
    values: dict[str, bytes | None] = {
        "every byte": bytes(range(256)),
        "one zero": b"\x00",
        "zeros": bytes(1_000),
        "not utf-8": b"\xff\xfe\xc3",
        "json": b'{"type":"Buffer","data":"AA=="}',
        "looks escaped": b"\\x00\\\\",
    }
    store.set("1", {"session": values})
    assert store.load("1").keys["session"] == values
    assert store.get("1", "session", values) == values


def test_bytes_like_values_are_taken(store: Store) -> None:
    store.set("1", {"session": {"a": as_any(bytearray(b"A")), "b": as_any(memoryview(b"xBx")[1:2])}})
    assert store.load("1").keys == {"session": {"a": b"A", "b": b"B"}}


def test_many_keys_fit_one_set_and_one_get(store: Store) -> None:
    keys: dict[str, bytes | None] = {f"id {n}": b"%d" % n for n in range(5_000)}
    store.set("1", {"session": keys})
    assert store.get("1", "session", keys) == keys


def as_any(value: object) -> Any:
    return cast("Any", value)


COMPANY_CALLS: dict[str, Callable[[Store, Any], object]] = {
    "get": lambda store, company: store.get(company, "session", ["a"]),
    "set": lambda store, company: store.set(company, {"session": {"a": b"A"}}),
    "load": lambda store, company: store.load(company),
    "touch": lambda store, company: store.touch(company, {"session": ["a"]}),
    "get_creds": lambda store, company: store.get_creds(company),
    "set_creds": lambda store, company: store.set_creds(company, b"C"),
    "clear": lambda store, company: store.clear(company),
    "export_rows": lambda store, company: store.export_rows(company),
    "restore_rows": lambda store, company: store.restore_rows(company, []),
}


@pytest.mark.parametrize("call", COMPANY_CALLS)
def test_a_bad_company_is_refused_by_every_operation(store: Store, call: str) -> None:
    for company in BAD_COMPANIES:
        with pytest.raises(InvalidInput, match="company_id"):
            COMPANY_CALLS[call](store, as_any(company))
    assert store.companies() == []


@pytest.mark.parametrize("name", BAD_NAMES, ids=short)
def test_a_bad_type_or_id_is_refused_and_named(store: Store, name: object) -> None:
    bad = as_any(name)
    store.set("1", {"session": {"a": b"A"}})
    refused: list[tuple[str, Call]] = [
        ("key_type", lambda s: s.get("1", bad, ["a"])),
        ("key_id", lambda s: s.get("1", "session", ["a", bad])),
        ("key_type", lambda s: s.set("1", {"session": {"a": b"B"}, bad: {"b": b"B"}})),
        ("key_id", lambda s: s.set("1", {"session": {"a": b"B", bad: b"B"}})),
        ("key_id", lambda s: s.set("1", {"session": {"a": None, bad: None}})),
        ("key_type", lambda s: s.touch("1", {bad: ["a"]})),
        ("key_id", lambda s: s.touch("1", {"session": [bad]})),
    ]
    for field, call in refused:
        with pytest.raises(InvalidInput, match=field):
            call(store)
    assert store.load("1").keys == {"session": {"a": b"A"}}


@pytest.mark.parametrize("value", [*BAD_VALUES, b"x" * (MAX_VALUE_BYTES + 1)], ids=short)
def test_a_set_with_a_bad_value_is_refused_as_a_whole(store: Store, value: object) -> None:
    bad = as_any(value)
    store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    with pytest.raises(InvalidInput, match=r"value of 'session' 'b'") as refusal:
        store.set("1", {"pre-key": {"1": b"P"}, "session": {"a": None, "b": bad}}, creds=b"C2")
    assert SECRET not in str(refusal.value)
    with pytest.raises(InvalidInput, match="creds") as refusal:
        store.set_creds("1", bad)
    assert SECRET not in str(refusal.value)
    with pytest.raises(InvalidInput, match="creds") as refusal:
        store.set("1", {"session": {"a": b"B"}}, creds=bad)
    assert SECRET not in str(refusal.value)
    state = store.load("1")
    assert (state.creds, state.keys) == (b"C", {"session": {"a": b"A"}})


@pytest.mark.parametrize(
    "keys", [None, "session", [("session", "a")], {"session": None}, {"session": [b"A"]}], ids=short
)
def test_keys_of_another_shape_are_refused(store: Store, keys: object) -> None:
    with pytest.raises(InvalidInput, match="keys"):
        store.set("1", cast("Mapping[str, Mapping[str, bytes | None]]", keys))


@pytest.mark.parametrize("key_ids", ["abc", 7, None], ids=short)
def test_ids_that_are_not_a_list_of_ids_are_refused(store: Store, key_ids: object) -> None:
    ids = cast("Iterable[str]", key_ids)
    with pytest.raises(InvalidInput, match="key_ids"):
        store.get("1", "session", ids)
    with pytest.raises(InvalidInput, match="key_ids"):
        store.touch("1", {"session": ids})
