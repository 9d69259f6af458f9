"""The stored form of values: a format byte, then the value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.codec import PLAIN, decode, encode
from keystore.errors import CorruptValue


@given(value=st.binary())
def test_a_value_comes_back_from_its_stored_form(value: bytes) -> None:
    assert encode(value)[:1] == PLAIN == b"\x00"
    assert decode(encode(value), "a value") == value


@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_any_buffer_of_a_driver_is_decoded_to_bytes(buffer: type[bytearray | memoryview]) -> None:
    value = decode(buffer(encode(b"value")), "a value")  # type: ignore[arg-type]
    assert type(value) is bytes
    assert value == b"value"


@pytest.mark.parametrize("stored", [b"", b"\x01S3CRET", b"{S3CRET}", b"\xffS3CRET"], ids=repr)
def test_an_unknown_format_is_refused_with_the_name_and_without_the_value(stored: bytes) -> None:
    with pytest.raises(CorruptValue, match="1 session a") as refusal:
        decode(stored, "1 session a")
    assert "S3CRET" not in str(refusal.value)
