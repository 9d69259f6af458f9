"""The stored form of a value: one format byte, then the payload.

The byte leaves room for other formats (sealed values, for example) without a migration. 0 is the plain value.
"""

from keystore.errors import CorruptValue

PLAIN = b"\x00"


def encode(value: bytes) -> bytes:
    """Return the stored form of a value."""
    return PLAIN + value


def decode(stored: bytes, name: str) -> bytes:
    """Return the value of a stored form. Raises CorruptValue with the name of the value, never its bytes."""
    if stored[:1] != PLAIN:
        form = stored[0] if stored else "none"
        raise CorruptValue(
            f"{name}: stored in format {form}, which this version can't read; was it written by a newer one?"
        )
    return bytes(stored[1:])
