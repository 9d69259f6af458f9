"""What a stored value looks like: one format byte, then the payload.

The byte leaves room for other forms (a sealed value, say) without a migration. 0 is the value as it was given.
"""

from keystore.errors import CorruptValue

PLAIN = b"\x00"


def encode(value: bytes) -> bytes:
    """The value in its stored form."""
    return PLAIN + value


def decode(stored: bytes, what: str) -> bytes:
    """The value behind a stored form. Raises CorruptValue naming `what`, never showing the bytes."""
    if stored[:1] != PLAIN:
        form = stored[0] if stored else "none"
        raise CorruptValue(
            f"{what}: stored in format {form}, which this version can't read; was it written by a newer one?"
        )
    return bytes(stored[1:])
