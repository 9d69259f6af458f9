"""Baileys' JSON and file names: every form in which a Buffer was ever written, and every key of a real state."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.baileys import (
    KEY_TYPES,
    MIS_SPLIT_TYPES,
    Json,
    copied_from,
    corrected_name,
    file_name,
    key_of_file,
    stored_value,
    write_json,
)
from keystore.errors import InvalidInput
from rig.baileys_state import real_creds, real_keys
from tests.keystore.buffers import revived

REAL_NAMES = [(key_type, key_id) for key_type, by_id in real_keys().items() for key_id in by_id]

NAMES = st.text(max_size=8).map(lambda name: f"k{name}")
"""Keys of objects that can't be mistaken for a Buffer's or an array's."""

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def as_array(data: bytes) -> dict[str, Any]:
    return {"type": "Buffer", "data": list(data)}


FORMS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "base64": lambda data: {"type": "Buffer", "data": base64.b64encode(data).decode()},
    "array": as_array,
    "old, base64": lambda data: {"buffer": True, "data": base64.b64encode(data).decode()},
    "old, array": lambda data: {"buffer": True, "data": list(data)},
    "value, base64": lambda data: {"buffer": True, "value": base64.b64encode(data).decode()},
    "value, array": lambda data: {"type": "Buffer", "value": list(data)},
    "url-safe": lambda data: {"type": "Buffer", "data": base64.urlsafe_b64encode(data).decode().rstrip("=")},
}


@given(document=DOCUMENTS)
def test_a_written_document_reads_back_the_same(document: Json) -> None:
    written = write_json(document)
    assert revived(written) == document
    assert stored_value(written) == written


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=80))
def test_every_form_of_a_buffer_is_read_and_written_as_base64(form: str, data: bytes) -> None:
    text = json.dumps({"a": [FORMS[form](data)]}).encode()
    assert revived(text) == {"a": [data]}
    encoded = base64.b64encode(data).decode()
    assert json.loads(stored_value(text)) == {"a": [{"type": "Buffer", "data": encoded}]}


def test_a_bare_uint8array_is_a_buffer_as_baileys_7_reads_it() -> None:
    assert revived(b'{"k":{"0":7,"1":255,"2":0}}') == {"k": b"\x07\xff\x00"}
    for other in ({"0": 7, "2": 1}, {"1": 7}, {"0": 256}, {"0": True}, {"0": "AA"}, {}, {"0": 1, "x": 2}):
        assert revived(json.dumps(other).encode()) == other


def test_real_values_are_stored_as_they_are() -> None:
    for value in [real_creds(), *(value for by_id in real_keys().values() for value in by_id.values())]:
        assert stored_value(value) == value
        assert stored_value(b" " + value + b"\n") == value


def test_real_keys_written_without_the_replacer_become_the_same_values() -> None:
    def spoiled(item: dict[str, Any]) -> dict[str, Any]:
        return as_array(base64.b64decode(item["data"])) if item.get("type") == "Buffer" else item

    changed = 0
    for by_id in real_keys().values():
        for value in by_id.values():
            text = json.dumps(json.loads(value, object_hook=spoiled)).encode()
            changed += b"[" in text and text != value
            assert json.loads(stored_value(text)) == json.loads(value)
    assert changed > 400


def test_numbers_keep_their_spelling_in_a_value_without_odd_buffers() -> None:
    assert stored_value(b'{"a":1e-7,"b":1E3,"c":-0,"d":12345678901234567890}') == (
        b'{"a":1e-7,"b":1E3,"c":-0,"d":12345678901234567890}'
    )


def test_half_a_surrogate_pair_survives() -> None:
    text = b'{"push":"\\ud83d","key":{"type":"Buffer","data":[1]}}'
    assert json.loads(stored_value(text)) == {"push": "\ud83d", "key": {"type": "Buffer", "data": "AQ=="}}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"secret":"hunter2"',
        b'{"secret":"hunter2"}{',
        b'"hunter2\x00"',
        b"\xff\xfehunter2",
        b"\xef\xbb\xbf{}",
        b'{"a":NaN,"secret":"hunter2"}',
        b"9" * 5000,
        b"[" * 200_000,
        b'{"type":"Buffer","data":"hunter2 is not base64"}',
        b'{"type":"Buffer","data":[1,2,300]}',
        b'{"type":"Buffer","data":[1,true]}',
        b'{"type":"Buffer","data":{"hunter2":1}}',
    ],
)
def test_invalid_text_is_refused_and_not_quoted(text: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        stored_value(text)
    error: BaseException | None = refused.value
    while error is not None:
        # The parser's own error carries the whole document as `doc`.
        assert "hunter2" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_an_object_that_json_cannot_express_is_refused() -> None:
    with pytest.raises(InvalidInput, match="set"):
        write_json({"a": {1}})  # type: ignore[dict-item]


def test_the_file_name_of_every_real_key_gives_the_key_back() -> None:
    files = {file_name(*name): name for name in REAL_NAMES}
    assert len(files) == len(REAL_NAMES) == 721
    assert {name: key_of_file(name) for name in files} == files
    assert not any("/" in name or ":" in name for name in files)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("pre-key-12.json", ("pre-key", "12")),
        ("session-79260000000.0.json", ("session", "79260000000.0")),
        ("session-200000000000000_1.17.json", ("session", "200000000000000_1.17")),
        ("lid-mapping-200000000000000_reverse.json", ("lid-mapping", "200000000000000_reverse")),
        (
            "sender-key-120363000000000000@g.us--79260000000--0.json",
            ("sender-key", "120363000000000000@g.us::79260000000::0"),
        ),
        (
            "sender-key-491510000000-1600000000@g.us--200000000000000_1--17.json",
            ("sender-key", "491510000000-1600000000@g.us::200000000000000_1::17"),
        ),
        ("sender-key-status@broadcast--79260000000--3.json", ("sender-key", "status@broadcast::79260000000::3")),
        (
            "sender-key-memory-491510000000-1600000000@g.us.json",
            ("sender-key-memory", "491510000000-1600000000@g.us"),
        ),
        ("app-state-sync-key-AAA__B____C.json", ("app-state-sync-key", "AAA/B//C")),
        ("app-state-sync-version-critical_unblock_low.json", ("app-state-sync-version", "critical_unblock_low")),
        ("tctoken-__index.json", ("tctoken", "__index")),
        ("tctoken-79260000000@s.whatsapp.net.json", ("tctoken", "79260000000@s.whatsapp.net")),
        ("device-list-79260000000.json", ("device-list", "79260000000")),
        ("identity-key-79260000000.0.json", ("identity-key", "79260000000.0")),
    ],
)
def test_a_file_name_gives_type_and_id(file: str, name: tuple[str, str]) -> None:
    assert key_of_file(file) == name
    assert file_name(*name) == file


@pytest.mark.parametrize(
    "file",
    [
        "creds.json",
        "notes.txt",
        "pre-key-12",
        "pre-key-12.json.bak",
        "pre-key-.json",
        "pre-key.json",
        "lid-123.json",
        "app-state-sync-key-.json",
        "sender-key-120363000000000000@g.us.json",
        "sender-key-120363000000000000@g.us--someone--0.json",
        "my-own-type-1.json",
        ".json",
        "",
    ],
)
def test_any_other_name_is_unknown(file: str) -> None:
    assert key_of_file(file) is None


DIGITS = st.from_regex(r"[0-9]{1,15}", fullmatch=True)
USERS = st.from_regex(r"[0-9]{1,15}(_[0-9]{1,3})?", fullmatch=True)
GROUPS = st.from_regex(r"[0-9]{1,18}(-[0-9]{1,10})?@g\.us", fullmatch=True) | st.just("status@broadcast")
JIDS = st.from_regex(r"[0-9]{1,15}@(s\.whatsapp\.net|lid)", fullmatch=True) | st.just("__index")
ADDRESSES = st.tuples(USERS, DIGITS).map(".".join)
IDS = {
    "app-state-sync-key": st.binary(min_size=1, max_size=12).map(lambda data: base64.b64encode(data).decode()),
    "app-state-sync-version": st.sampled_from(["critical_block", "critical_unblock_low", "regular_high"]),
    "device-list": DIGITS,
    "identity-key": ADDRESSES,
    "lid-mapping": DIGITS | DIGITS.map("{}_reverse".format),
    "pre-key": DIGITS,
    "sender-key": st.tuples(GROUPS, USERS, DIGITS).map("::".join),
    "sender-key-memory": GROUPS,
    "session": ADDRESSES,
    "tctoken": JIDS,
}


@pytest.mark.parametrize("key_type", KEY_TYPES)
@given(data=st.data())
def test_every_id_of_baileys_comes_back_from_its_file_name(key_type: str, data: st.DataObject) -> None:
    key_id = data.draw(IDS[key_type])
    assert key_of_file(file_name(key_type, key_id)) == (key_type, key_id)


@pytest.mark.parametrize("key_type", KEY_TYPES)
@given(data=st.data())
def test_a_row_split_at_any_dash_of_its_type_is_corrected_and_no_other(key_type: str, data: st.DataObject) -> None:
    key_id = data.draw(IDS[key_type])
    stem = file_name(key_type, key_id).removesuffix(".json")
    assert corrected_name(key_type, key_id) is None
    for dash in range(len(key_type)):
        if stem[dash] == "-":
            assert stem[:dash] in MIS_SPLIT_TYPES
            assert corrected_name(stem[:dash], stem[dash + 1 :]) == (key_type, key_id)


@pytest.mark.parametrize(
    ("row", "corrected"),
    [
        (("lid", "mapping-123"), ("lid-mapping", "123")),
        (("pre", "key-12"), ("pre-key", "12")),
        (("app", "state-sync-key-AA__B"), ("app-state-sync-key", "AA/B")),
        (("app", "state-sync-version-regular"), ("app-state-sync-version", "regular")),
        (("device", "list-7926"), ("device-list", "7926")),
        (("identity", "key-7926.0"), ("identity-key", "7926.0")),
        (("sender", "key-1203@g.us--7926--0"), ("sender-key", "1203@g.us::7926::0")),
        (("sender", "key-49-16@g.us::7926::0"), ("sender-key", "49-16@g.us::7926::0")),
        (("sender", "key-memory-49-16@g.us"), ("sender-key-memory", "49-16@g.us")),
        (("sender-key", "memory-49-16@g.us"), ("sender-key-memory", "49-16@g.us")),
        (("lid", "mapping-"), None),
        (("lid", "123"), None),
        (("lid", "mapping"), None),
        (("sender", "key-1203@g.us"), None),
        (("pre", "keys-12"), None),
        (("session", "mapping-1"), None),
        (("mine", "key-1"), None),
    ],
)
def test_only_a_row_split_too_early_is_corrected(row: tuple[str, str], corrected: tuple[str, str] | None) -> None:
    assert corrected_name(*row) == corrected


@pytest.mark.parametrize(
    ("copy", "original"),
    [
        ("creds (1).json", "creds.json"),
        ("creds - Copy (2).json", "creds.json"),
        ("creds copy 2.json", "creds.json"),
        ("Copy of creds.json", "creds.json"),
        ("._creds.json", "creds.json"),
        (".creds.json.swp", "creds.json"),
        ("creds.json.bak", "creds.json"),
        ("creds.json.1234.tmp", "creds.json"),
        ("creds.json~", "creds.json"),
        ("creds~1.json", "creds.json"),
        ("creds.bak.json", "creds.json"),
        ("creds.conflict.json", "creds.json"),
        ("creds_conflict-20260101.json", "creds.json"),
        ("creds (Ana's conflicted copy 2026-01-01).json", "creds.json"),
        ("pre-key-5011 (1).json", "pre-key-5011.json"),
        ("pre-key-5-copy.json", "pre-key-5.json"),
        ("session-79.0 copy.json", "session-79.0.json"),
        ("session-79.0 2.json", "session-79.0.json"),
        ("session-79.0.sync-conflict-20260101-120000-ABCDEF7.json", "session-79.0.json"),
        ("lid-mapping-1_reverse.conflict.json", "lid-mapping-1_reverse.json"),
    ],
)
def test_copies_and_sync_conflicts_are_no_keys(copy: str, original: str) -> None:
    assert copied_from(copy) == original
    assert key_of_file(copy) is None


def test_no_real_file_name_is_taken_for_a_copy() -> None:
    real = [file_name(key_type, key_id) for key_type, by_id in real_keys().items() for key_id in by_id]
    odd = ["creds.json", "tctoken-__index.json", "session-79_1.47.json", "sender-key-4915-1600000@g.us--79--0.json"]
    odd += ["sender-key-memory-status@broadcast.json", "app-state-sync-key-AAAAcopy.json", "notes.txt", "package.json"]
    assert [name for name in [*real, *odd] if copied_from(name) is not None] == []
