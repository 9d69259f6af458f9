"""The stored form of a value: one format byte, then the payload. 0 is the plain value, and 1 a sealed one.

Each write of a sealed value stores its nonce beside it. So a sealed value that is put in the place of another isn't
opened, also if it is an older one of the same name.

`keystore.sealing` opens sealed values.
"""

from collections.abc import Callable, Iterable
from typing import Any

from keystore.errors import CorruptValue, SecretKeyMissing

Opener = Callable[[str, str, bytes], bytes]
"""Returns a value of one company from its type, its id and its stored form. Raises CorruptValue, SecretKeyMissing."""

Row = tuple[Any, ...]

Misfit = tuple[tuple[str, str], CorruptValue]
"""The type and the id of a value that can't be read, and the error."""

PLAIN = b"\x00"
SEALED = b"\x01"

PUT_BACK = b"\x02"
"""The format in which a read shows a sealed value that isn't the one which was written last."""

SEALED_BY_BOT = PLAIN + SEALED
"""The beginning of the stored form of a value that its bot has sealed: to the store that is a plain value."""

KEY_ID_BYTES, NONCE_BYTES = 8, 12
"""Lengths of the id of the key and of the nonce, which follow the format of a sealed value."""

HEAD_BYTES = len(SEALED) + KEY_ID_BYTES
"""Length of the format byte and the key's id, which all values of a key begin with."""

NONCE = slice(HEAD_BYTES, HEAD_BYTES + NONCE_BYTES)
"""The place of the nonce in a sealed value."""

_KEY_OF_BOT = len(PLAIN) + HEAD_BYTES
"""Length of the beginning of a value that its bot has sealed, with the id of the bot's key."""


def encode(value: bytes) -> bytes:
    """Return the stored form of a value."""
    return PLAIN + value


def decode(stored: bytes, name: str) -> bytes:
    """Return the value of a plain stored form. Raises with the name of the value, never its bytes.

    That is SecretKeyMissing for a sealed value, and CorruptValue for a form that isn't known.
    """
    if stored[:1] == SEALED:
        raise SecretKeyMissing(
            f"{name}: the value is sealed, and this program has no secret key; set KEYSTORE_SECRET_KEYS"
        )
    if stored[:1] == PUT_BACK:
        raise CorruptValue(
            f"{name}: it isn't the value that was written last: another, or an older one, stands in its place"
        )
    if stored[:1] != PLAIN:
        form = stored[0] if stored else "none"
        raise CorruptValue(
            f"{name}: stored in format {form}, which this version can't read; was it written by a newer one?"
        )
    return bytes(stored[1:])


def nonce_of(stored: bytes) -> bytes | None:
    """Return the nonce of a stored value that is sealed, by the store or by its bot; None for a plain one."""
    if stored[:1] == SEALED:
        return stored[NONCE]
    return stored[len(PLAIN) :][NONCE] if stored.startswith(SEALED_BY_BOT) else None


def is_sealed_by_bot(value: bytes) -> bool:
    """Return True if a value is sealed by its bot, so that nobody else can read it. No JSON begins so."""
    return value[:1] == SEALED


def overwrites(before: bytes, after: bytes) -> bool:
    """Return True if a stored form gets another value.

    A bot that begins to seal, or has a newer key, writes each value again: only the bot sees whether it is the same.
    """
    return before != after and not (after.startswith(SEALED_BY_BOT) and before[:_KEY_OF_BOT] != after[:_KEY_OF_BOT])


def name_in_words(company: str, key_type: str, key_id: str) -> str:
    """Return the name of a value as an error shows it; the creds have an empty type and id."""
    return f"{company} {key_type or 'creds'} {key_id}".rstrip()


def plain_opener(company: str) -> Opener:
    """Return a function that returns the plain values of a company."""
    return lambda key_type, key_id, stored: decode(stored, name_in_words(company, key_type, key_id))


def open_plain(company: str, rows: Iterable[Row]) -> tuple[dict[str, dict[str, bytes]], list[Row], list[Misfit]]:
    """Open the rows `(key_type, key_id, stored form)` of a company without sealed values.

    Return its keys, the rows without a type as they are, and those that can't be read with the errors. Raises
    SecretKeyMissing if a value is sealed.
    """
    keys: dict[str, dict[str, bytes]] = {}
    others: list[Row] = []
    misfits: list[Misfit] = []
    last_type, by_id = "", dict[str, bytes]()
    for row in rows:
        key_type, key_id, stored = row
        if key_type != last_type:
            if key_type is None:
                others.append(row)
                continue
            last_type, by_id = key_type, keys.setdefault(key_type, {})
        # The first byte is looked at without a copy, because a load has hundreds of keys.
        if stored and not stored[0]:
            by_id[key_id] = stored[1:]
            continue
        try:
            by_id[key_id] = decode(stored, name_in_words(company, key_type, key_id))
        except CorruptValue as error:
            misfits.append(((key_type, key_id), error))
    return keys, others, misfits
