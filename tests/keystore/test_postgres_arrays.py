"""Lists in binary form: byte for byte as psycopg's own dumper encodes them."""

from importlib import import_module

from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from keystore.postgres.arrays import Blobs, Texts

import_module("keystore.postgres.link")  # It tells psycopg of the two types.


def dumped(parameter: list[str] | list[bytes]) -> tuple[bytes, int]:
    """The bytes of a parameter and the number of its type, as the server receives them."""
    transformer = Transformer()
    (encoded,) = transformer.dump_sequence([parameter], [PyFormat.BINARY])
    assert encoded is not None
    assert transformer.types is not None
    return bytes(encoded), transformer.types[0]


@given(st.lists(st.text(), min_size=1))
def test_texts_are_encoded_as_psycopg_does(texts: list[str]) -> None:
    assert dumped(Texts(texts)) == dumped(texts)


@given(st.lists(st.binary(), min_size=1))
def test_blobs_are_encoded_as_psycopg_does(blobs: list[bytes]) -> None:
    assert dumped(Blobs(blobs)) == dumped(blobs)


def test_empty_lists_have_no_dimension_and_an_item_type() -> None:
    assert dumped(Texts())[0] == dumped(Blobs())[0][:8] + (25).to_bytes(4, "big")
