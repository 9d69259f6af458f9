"""Arrays in binary form: byte for byte what psycopg's own dumper writes."""

from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer

from keystore.postgres.arrays import Blobs, Texts


def sent(value: list[str] | list[bytes]) -> tuple[bytes, int]:
    """What goes to the server for a parameter, and the type that it is told."""
    transformer = Transformer()
    (told,) = transformer.dump_sequence([value], [PyFormat.BINARY])
    assert told is not None
    assert transformer.types is not None
    return bytes(told), transformer.types[0]


@given(st.lists(st.text(), min_size=1))
def test_texts(texts: list[str]) -> None:
    assert sent(Texts(texts)) == sent(texts)


@given(st.lists(st.binary(), min_size=1))
def test_blobs(blobs: list[bytes]) -> None:
    assert sent(Blobs(blobs)) == sent(blobs)


def test_empty_ones() -> None:
    assert sent(Texts())[0] == sent(Blobs())[0][:8] + (25).to_bytes(4, "big")
