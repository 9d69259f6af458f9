"""Lists as Postgres takes them in binary form, written in one go.

psycopg's own way is to look at each item to find out what it is, which takes longer than writing it. What these hold is
known: the ids were checked.

The form is that of Postgres's `array_recv`, in big-endian numbers of 32 bits: how many dimensions, a flag for nulls, an
item's type; the dimension's length and lower bound; then each item behind its own length.
"""

from struct import Struct

TEXT, TEXTS, BYTEA, BYTEAS = 25, 1009, 17, 1001
"""Postgres's numbers for the types of items and of lists."""

_empty_head, _head, _length = Struct(">3i").pack, Struct(">5i").pack, Struct(">i").pack


class Texts(list[str]):
    """A parameter of the type `text[]`."""

    def sent(self) -> bytes:
        """As it goes to the server."""
        return _array(TEXT, [text.encode() for text in self])


class Blobs(list[bytes]):
    """A parameter of the type `bytea[]`."""

    def sent(self) -> bytes:
        """As it goes to the server."""
        return _array(BYTEA, self)


def _array(oid: int, items: list[bytes]) -> bytes:
    if not items:
        return _empty_head(0, 0, oid)
    parts = [_head(1, 0, oid, len(items), 1)]
    for item in items:
        parts.append(_length(len(item)))
        parts.append(item)
    return b"".join(parts)
