"""Values between the wire and the store: JSON in the bytes it came in, everything else as base64.

A value is JSON text to whoever speaks HTTP and opaque bytes to the store, so it passes through as it is: checked for
its syntax in one scan, never made into objects. What is stored but isn't JSON (Python may store any bytes) goes out as
`{"$base64": "…"}`, and may come in so; the bytes are what is kept.
"""

import base64
import binascii
from collections.abc import Mapping

import msgspec

from keystore.errors import InvalidInput

_syntax = msgspec.json.Decoder(msgspec.Raw).decode
_wrapped = msgspec.json.Decoder(dict[str, str])

_MARK, _MARK_WITHIN = b'"$base64"', 32
"""What tells a wrapped value, and how near its beginning it stands: looking through all of each value would take more
time than checking its syntax. JSON that could be taken for a wrapped value goes out wrapped itself."""


def is_json(value: bytes) -> bool:
    """Whether it is one JSON text in UTF-8."""
    try:
        _syntax(value)
        return value.isascii() or bool(value.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def outgoing(value: bytes) -> msgspec.Raw:
    """A stored value as JSON."""
    try:
        text = _syntax(value)
        if (value.isascii() or value.decode()) and value.find(_MARK, 0, _MARK_WITHIN) < 0:
            return text
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return msgspec.Raw(b'{"$base64":"' + base64.b64encode(value) + b'"}')


def outgoing_keys(keys: Mapping[str, bytes]) -> dict[str, msgspec.Raw]:
    """`{id: value}` as JSON.

    All of them at once, as nearly all are JSON in ASCII: a call for each took 0.33 ms for 721 keys, this takes 0.2.
    """
    values = keys.values()
    try:
        texts = list(map(_syntax, values))
    except (msgspec.DecodeError, RecursionError):
        texts = []
    together = b"".join(values) if texts else b""
    if not together.isascii() or len(texts) < len(keys) or b"$" in together:
        return {key_id: outgoing(value) for key_id, value in keys.items()}
    return dict(zip(keys, texts, strict=True))


def incoming(value: msgspec.Raw, what: str) -> bytes | None:
    """A value as the store keeps it; None for `null`. Its syntax was checked with the body that it came in.

    Raises InvalidInput naming `what`, never showing the value.
    """
    stored = bytes(value)
    if stored == b"null":
        return None
    return _unwrapped(stored, what) if stored.find(_MARK, 0, _MARK_WITHIN) >= 0 else stored


def incoming_keys(keys: Mapping[str, Mapping[str, msgspec.Raw]]) -> dict[str, dict[str, bytes | None]]:
    """`{type: {id: value}}` as the store takes it. Raises InvalidInput."""
    return {
        key_type: {key_id: incoming(value, "a value") for key_id, value in by_id.items()}
        for key_type, by_id in keys.items()
    }


def _unwrapped(stored: bytes, what: str) -> bytes:
    """The bytes behind a wrapped value; the value itself when the mark is only somewhere in it."""
    try:
        wrapped = _wrapped.decode(stored)
    except msgspec.ValidationError:
        return stored
    if list(wrapped) != ["$base64"]:
        return stored
    try:
        return base64.b64decode(wrapped["$base64"], validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(f'{what}: what stands in {{"$base64": "…"}} is not base64') from error
