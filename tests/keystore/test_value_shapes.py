"""Values against their type's shape: the real ones keep their bytes, wrapped ones are unwrapped, others are refused."""

import base64
import json
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.baileys import KEY_TYPES
from keystore.errors import InvalidInput
from keystore.values import fitting
from keystore.values.fitting import fitted, is_nothing
from keystore.values.shapes import SHAPES
from rig.baileys_state import real_creds, real_keys
from tests.keystore.value_forms import BUFFER_FORMS, encoded, real_values


def first(key_type: str) -> bytes:
    return next(iter(real_keys()[key_type].values()))


def refusal(key_type: str, text: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        fitted((key_type, "1") if key_type else ("", ""), text)
    return str(refused.value)


def test_every_type_of_baileys_has_a_shape() -> None:
    assert SHAPES.keys() == set(KEY_TYPES)


def test_a_value_that_fits_keeps_its_bytes() -> None:
    for name, value in real_values():
        assert fitted(name, b" " + value + b"\n") == fitting.FittedValue(value)


@pytest.mark.parametrize(("form", "times"), [*((form, 0) for form in BUFFER_FORMS), ("base64", 1), ("bare base64", 2)])
def test_every_wrapping_comes_off_all_real_values(form: str, times: int) -> None:
    wrappings: Counter[str] = Counter()
    for name, value in real_values():
        result = fitted(name, encoded(value, form, times=times))
        # A sender key is bytes, and the others are the same document; only the order of fields may differ.
        assert json.loads(result.value) == json.loads(value), name
        wrappings.update(result.wrappings)
    assert (wrappings[fitting.JSON_IN_A_STRING] == 722) == (times > 0)
    if form != "base64":
        # Pre-keys, identity keys, sender keys, tokens, versions, and the creds have Buffers.
        del wrappings[fitting.JSON_IN_A_STRING]
        assert max(wrappings.values()) == 250 + 120 + 30 + 60 + 5 + 1


@pytest.mark.parametrize(
    ("key_type", "text", "message"),
    [
        ("pre-key", b'{"private":"hunter2"}', "expected an object with private, public; there is an object (1 fields)"),
        (
            "pre-key",
            b'{"private":{"type":"Buffer","data":"aHVudGVyMg=="},"public":{"type":"Buffer","data":"aHVudGVyMg=="}}',
            "private: expected a Buffer of 32 bytes; there is a Buffer (7 bytes)",
        ),
        ("session", b'"hunter2"', "expected an object with _sessions, or a Buffer; there is a text (7 characters)"),
        (
            "session",
            b'{"sessions":{}}',
            "expected an object with _sessions, or a Buffer; there is an object (1 fields)",
        ),
        ("session", b'{"_sessions":{"x":{"hunter2":1}}}', "_sessions.0: expected an object with currentRatchet"),
        ("sender-key", b'{"type":"Buffer","data":"aHVudGVyMg=="}', "expected a Buffer of a JSON list, or a list"),
        ("sender-key", b"[1]", "0: expected an object with senderKeyId"),
        ("sender-key-memory", b'{"hunter2":true}', "expected an object of ids, each with true or false"),
        ("sender-key-memory", b'{"1@s.whatsapp.net":"x"}', "0: expected true or false; there is a text"),
        ("identity-key", b"[1,2,300]", "expected a Buffer of 32 or 33 bytes; there is a list (3 items)"),
        ("app-state-sync-key", b"{}", "expected an object with keyData; there is an empty object"),
        ("app-state-sync-version", b"[]", "expected an object with version, hash, indexValueMap; there is a list"),
        ("lid-mapping", b'{"a":1}', "expected a text of letters and digits; there is an object"),
        ("lid-mapping", b'""', "expected a text of letters and digits; there is a text (0 characters)"),
        ("device-list", b'"hunter2"', "expected a list; there is a text (7 characters)"),
        ("tctoken", b"true", "expected an object with token; there is true or false"),
        ("", b"{}", "expected an object with noiseKey"),
        ("", b"null", "there is nothing"),
    ],
)
def test_another_shape_is_refused_in_words_that_quote_nothing(key_type: str, text: bytes, message: str) -> None:
    assert message in refusal(key_type, text)
    assert "hunter2" not in refusal(key_type, text)


def test_creds_without_a_part_that_baileys_needs_are_refused() -> None:
    for name in ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "nextPreKeyId"):
        creds = json.loads(real_creds())
        del creds[name]
        assert "expected an object with noiseKey" in refusal("", json.dumps(creds).encode())
    creds = json.loads(real_creds())
    creds["noiseKey"]["private"] = "hunter2!"
    assert refusal("", json.dumps(creds).encode()).startswith("noiseKey.private: expected a Buffer of 32 bytes")


def test_a_sender_key_of_baileys_6_is_a_list_and_stays_one() -> None:
    states = json.dumps(json.loads(json.loads(first_sender_key_text())))
    assert json.loads(fitted(("sender-key", "1"), states.encode()).value)[0]["senderKeyId"]


def first_sender_key_text() -> str:
    """The states in a sender key's Buffer, as JSON in a string."""
    return json.dumps(base64.b64decode(json.loads(first("sender-key"))["data"]).decode())


def test_numbers_and_texts_become_each_other_where_baileys_wants_them() -> None:
    assert fitted(("lid-mapping", "1"), b"200000000000000") == fitting.FittedValue(
        b'"200000000000000"', frozenset({fitting.NUMBER_FOR_TEXT})
    )
    assert fitted(("device-list", "1"), b"[0,12]").value == b'["0","12"]'
    version = json.loads(first("app-state-sync-version")) | {"version": {"$numberLong": "3"}}
    assert json.loads(fitted(("app-state-sync-version", "x"), json.dumps(version).encode()).value)["version"] == 3
    creds = json.loads(real_creds()) | {"registrationId": "67"}
    assert json.loads(fitted(("", ""), json.dumps(creds).encode()).value) == json.loads(real_creds())


def test_a_session_may_be_bytes_or_json_in_a_buffer() -> None:
    document = json.dumps({"type": "Buffer", "data": "A" * 64}).encode()
    assert fitted(("session", "1"), document).value == document
    text = encoded(json.dumps({"type": "Buffer", "data": _base64(first("session"))}).encode(), "array")
    result = fitted(("session", "1"), text)
    assert json.loads(result.value) == json.loads(first("session"))
    assert fitting.JSON_IN_A_BUFFER in result.wrappings


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_byte_order_mark_comes_off() -> None:
    result = fitted(("lid-mapping", "1"), b'\xef\xbb\xbf"123"')
    assert result == fitting.FittedValue(b'"123"', frozenset({fitting.BYTE_ORDER_MARK}))


def test_an_unknown_type_has_no_shape() -> None:
    assert fitted(("mine", "1"), b'"hunter2"').value == b'"hunter2"'
    assert is_nothing(b" null\n")
    assert not is_nothing(b"{}")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["$binary", "AQID", "[1]"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$binary", "$numberDouble", "type", "data", "buffer", "0", "1", "_sessions"]), inner
        )
    ),
    max_leaves=12,
)


@given(key_type=st.sampled_from(["", *KEY_TYPES, "mine"]), document=JSON, data=st.data())
def test_any_document_is_refused_or_fits_once_it_was_fitted(
    key_type: str, document: object, data: st.DataObject
) -> None:
    """Also a real value with one of its parts replaced."""
    if key_type not in ("", "mine") and data.draw(st.booleans()):
        real = json.loads(first(key_type))
        if isinstance(real, dict):
            real[data.draw(st.sampled_from(sorted(real)))] = document
        document = real
    name = (key_type, "1") if key_type else ("", "")
    try:
        result = fitted(name, json.dumps(document).encode())
    except InvalidInput:
        return
    assert fitted(name, result.value) == fitting.FittedValue(result.value)


@pytest.mark.parametrize(
    "text", [b'{"a":' * 100_000, b'[{"$a":' * 480 + b"1" + b"}]" * 480, b'{"$binary":{"x":1e999}}']
)
def test_a_text_that_no_parser_takes_is_refused(text: bytes) -> None:
    for key_type in ("", "session", "mine"):
        with suppress(InvalidInput):
            fitted((key_type, "1") if key_type else ("", ""), text)
