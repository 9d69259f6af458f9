"""Values in JSON documents: any bytes that are stored come back unchanged."""

import base64
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.json_values import by_id, encoded, is_json, stored_value, to_json
from keystore.errors import InvalidInput

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$base64"), inner),
    max_leaves=10,
)
STORED = st.binary(min_size=1) | JSON.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
)


def stored_by(text: bytes) -> bytes | None:
    """The bytes that a write of this JSON text stores."""
    return stored_value(msgspec.json.decode(b"[" + text + b"]", type=list[msgspec.Raw])[0], "a value")


@settings(deadline=None)
@given(STORED)
def test_stored_bytes_come_back_unchanged(stored: bytes) -> None:
    sent = bytes(to_json(stored))
    json.loads(sent)
    if stored.strip(b" \t\r\n") not in (stored, b"null"):
        return  # White space around a value isn't part of it.
    assert stored_by(sent) == (None if sent == b"null" else stored)


@settings(deadline=None)
@given(st.dictionaries(st.text(), STORED))
def test_many_values_are_encoded_as_each_alone(stored: dict[str, bytes]) -> None:
    together = encoded(lambda to_json: by_id(stored, to_json))
    assert together == msgspec.json.encode({key_id: to_json(value) for key_id, value in stored.items()})
    assert json.loads(together).keys() == stored.keys()


@settings(deadline=None)
@given(st.binary(min_size=1))
def test_any_bytes_can_be_written_as_base64(stored: bytes) -> None:
    wrapped = json.dumps({"$base64": base64.b64encode(stored).decode()}).encode()
    assert stored_by(wrapped) == stored


def test_a_value_cannot_forge_its_neighbours() -> None:
    forged = {"a": b'1,"b":2', "c": b"[1", "d": b"2]"}
    sent = json.loads(encoded(lambda to_json: by_id(forged, to_json)))
    assert sent == {key_id: {"$base64": base64.b64encode(value).decode()} for key_id, value in forged.items()}


@pytest.mark.parametrize(
    "text", [b'{"$base64":"A"}', b'{"$base64":"A-_="}', b'{"$base64":" AAAA"}', b'{"$base64":"\\u00e9"}']
)
def test_invalid_base64_is_refused_and_not_shown(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="not base64"):
        stored_by(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [(b" {} ", True), (b"1", True), ('"\u00e9"'.encode(), True), (b'"\xe9"', False), (b"", False), (b"NaN", False)],
)
def test_json_is_recognized_by_its_syntax(text: bytes, right: bool) -> None:
    assert is_json(text) is right
