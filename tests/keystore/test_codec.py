"""The stored form of values: a format byte, then the value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import CorruptValue, SecretKeyMissing
from keystore.values.codec import PLAIN, decode, encode

KEY_NAME = "1 session a"
"""Company, type and id."""


@given(value=st.binary())
def test_a_value_comes_back_from_its_stored_form(value: bytes) -> None:
    assert encode(value)[:1] == PLAIN == b"\x00"
    assert decode(encode(value), KEY_NAME) == value


@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_each_buffer_type_that_a_driver_returns_decodes_to_bytes(buffer: type[bytearray | memoryview]) -> None:
    value = decode(buffer(encode(b"value")), KEY_NAME)  # type: ignore[arg-type]
    assert type(value) is bytes
    assert value == b"value"


@pytest.mark.parametrize("stored", [b"", b"\x02S3CRET", b"{S3CRET}", b"\xffS3CRET"], ids=repr)
def test_the_error_for_an_unknown_format_names_the_key_but_not_its_value(stored: bytes) -> None:
    with pytest.raises(CorruptValue, match=KEY_NAME) as error:
        decode(stored, KEY_NAME)
    assert "S3CRET" not in str(error.value)


def test_a_sealed_value_asks_for_the_secret_key() -> None:
    with pytest.raises(SecretKeyMissing, match="KEYSTORE_SECRET_KEYS") as error:
        decode(b"\x01S3CRET", KEY_NAME)
    assert "S3CRET" not in str(error.value)
