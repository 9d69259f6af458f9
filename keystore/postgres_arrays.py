"""Lists as Postgres takes them in binary form, written in one go.

psycopg's own dumper looks at each item to find out what it is, which takes longer than writing it. What these hold is
known: the ids were checked.

The form is that of Postgres's `array_recv`, in big-endian numbers of 32 bits: how many dimensions, a flag for nulls, an
item's type; the dimension's length and lower bound; then each item behind its own length.
"""

from struct import Struct

from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format

_empty_head, _head, _length = Struct(">3i").pack, Struct(">5i").pack, Struct(">i").pack

_TEXT, _BYTEA = types["text"], types["bytea"]


class Texts(list[str]):
    """A parameter of the type `text[]`."""


class Blobs(list[bytes]):
    """A parameter of the type `bytea[]`."""


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = _TEXT.array_oid

    def dump(self, obj: Texts) -> bytes:
        return _array(_TEXT.oid, [text.encode() for text in obj])


class _BlobsDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA.array_oid

    def dump(self, obj: Blobs) -> bytes:
        return _array(_BYTEA.oid, obj)


def _array(oid: int, items: list[bytes]) -> bytes:
    if not items:
        return _empty_head(0, 0, oid)
    parts = [_head(1, 0, oid, len(items), 1)]
    for item in items:
        parts.append(_length(len(item)))
        parts.append(item)
    return b"".join(parts)


adapters.register_dumper(Texts, _TextsDumper)
adapters.register_dumper(Blobs, _BlobsDumper)
