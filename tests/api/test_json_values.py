"""Values between the wire and the store, whatever they are: the bytes that went in come out."""

import base64
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.json_values import by_id, encoded, incoming, is_json, outgoing
from keystore.errors import InvalidInput

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$base64"), inner),
    max_leaves=10,
)
STORED = st.binary(min_size=1) | JSON.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
)


def read(text: bytes) -> bytes | None:
    """What a write of this text stores."""
    return incoming(msgspec.json.decode(b"[" + text + b"]", type=list[msgspec.Raw])[0], "a value")


@settings(deadline=None)
@given(STORED)
def test_what_is_stored_comes_back_as_the_same_bytes(stored: bytes) -> None:
    sent = bytes(outgoing(stored))
    json.loads(sent)
    if stored.strip(b" \t\r\n") not in (stored, b"null"):
        return  # JSON's own white space around a value isn't of the value.
    assert read(sent) == (None if sent == b"null" else stored)


@settings(deadline=None)
@given(st.dictionaries(st.text(), STORED))
def test_many_at_once_are_as_each_alone(stored: dict[str, bytes]) -> None:
    together = encoded(lambda texts: by_id(stored, texts))
    assert together == msgspec.json.encode({key_id: outgoing(value) for key_id, value in stored.items()})
    assert json.loads(together).keys() == stored.keys()


@settings(deadline=None)
@given(st.binary(min_size=1))
def test_any_bytes_come_in_as_base64(stored: bytes) -> None:
    wrapped = json.dumps({"$base64": base64.b64encode(stored).decode()}).encode()
    assert read(wrapped) == stored


def test_neighbours_cannot_be_forged_by_a_value() -> None:
    forged = {"a": b'1,"b":2', "c": b"[1", "d": b"2]"}
    sent = json.loads(encoded(lambda texts: by_id(forged, texts)))
    assert sent == {key_id: {"$base64": base64.b64encode(value).decode()} for key_id, value in forged.items()}


@pytest.mark.parametrize(
    "text", [b'{"$base64":"A"}', b'{"$base64":"A-_="}', b'{"$base64":" AAAA"}', b'{"$base64":"\\u00e9"}']
)
def test_base64_that_is_none_is_refused_without_showing_it(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="not base64"):
        read(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [(b" {} ", True), (b"1", True), ('"\u00e9"'.encode(), True), (b'"\xe9"', False), (b"", False), (b"NaN", False)],
)
def test_json_is_told_by_its_syntax(text: bytes, right: bool) -> None:
    assert is_json(text) is right
