"""Encodes lists in the binary form in which Postgres receives arrays.

psycopg's own dumper inspects each item to find its type, which takes longer than encoding it. Here the types are known,
because the ids were checked.

The form is that of Postgres's `array_recv`, in big-endian numbers of 32 bits: the number of dimensions, a flag for
nulls, the item type, the dimension's length and lower bound, and then each item behind its own length.
"""

from struct import Struct

_empty_head, _head, _length = Struct(">3i").pack, Struct(">5i").pack, Struct(">i").pack


class Texts(list[str]):
    """A parameter of the type `text[]`, with Postgres's number (OID) of the type."""

    oid = 1009

    def encoded(self) -> bytes:
        """Return the binary form."""
        return _array(25, [text.encode() for text in self])


class Blobs(list[bytes]):
    """A parameter of the type `bytea[]`, with Postgres's number (OID) of the type."""

    oid = 1001

    def encoded(self) -> bytes:
        """Return the binary form."""
        return _array(17, self)


def _array(item_oid: int, items: list[bytes]) -> bytes:
    if not items:
        return _empty_head(0, 0, item_oid)
    parts = [_head(1, 0, item_oid, len(items), 1)]
    for item in items:
        parts += (_length(len(item)), item)
    return b"".join(parts)
