"""Baileys' state as the outside has it: its JSON, its key types, and the file names of `useMultiFileAuthState`.

Pure functions, no I/O. Read off Baileys 6.17.16 and 7.0.0-rc14 (`BufferJSON`, `SignalDataTypeMap`, `fixFileName`).

**Buffers.** Written as `{"type":"Buffer","data":"<base64>"}` only: Baileys 7 revives nothing else of that shape.
Read in every form that some version wrote: that one, the array of bytes that `JSON.stringify` leaves without Baileys'
replacer, the old `{"buffer":true,…}` with `data` or `value`, and `{"0":7,"1":9}`, which a bare `Uint8Array` becomes.

**File names.** `{type}-{id}.json`, with `/` written as `__` and `:` as `-`. The type is the longest known one that
fits: types contain dashes themselves, and a split at the first dash once made 172 `lid-mapping` rows into a type
`lid` that no bot reads. What the id was is certain where the type says so:

- `sender-key`: `group::user::device`, the only ids with a colon. The last two `--` are the colons, since a user is
  digits (and `_domain`) and a device is digits; a dash before them is the group's own (`4915…-1600000@g.us`).
- `app-state-sync-key`: base64, which has no `_`, so `__` is a slash.
- `pre-key`, `session`, `identity-key`, `lid-mapping`, `device-list`, `sender-key-memory`, `app-state-sync-version`,
  `tctoken`: made of digits, `.`, `@`, `_` and dashes, never a colon or a slash; the id is what the name says (Baileys'
  `tctoken` id `__index` too). A bot that put a colon in such an id has lost it in the file name.

Any other name is unknown, and not guessed at.
"""

import base64
import binascii
import json
import re
from typing import Any, NoReturn, TypeAlias

from keystore.errors import InvalidInput

Json: TypeAlias = "bool | int | float | str | bytes | list[Json] | dict[str, Json] | None"
"""A JSON document in which Buffers are bytes."""

KEY_TYPES = (
    "app-state-sync-key",
    "app-state-sync-version",
    "device-list",
    "identity-key",
    "lid-mapping",
    "pre-key",
    "sender-key",
    "sender-key-memory",
    "session",
    "tctoken",
)
"""Baileys' `SignalDataTypeMap`, as of 7.0.0-rc14."""

CREDS_FILE = "creds.json"

_SUFFIX = ".json"
_LONGEST_FIRST = sorted(KEY_TYPES, key=len, reverse=True)
_SENDER_KEY_FILE = re.compile(r"(.+)--([0-9]+(?:_[0-9]+)?)--([0-9]+)")
_SENDER_KEY_ID = re.compile(r"(.+)::([0-9]+(?:_[0-9]+)?)::([0-9]+)")

MIS_SPLIT_TYPES = tuple(
    sorted({"-".join(parts[:n]) for parts in (name.split("-") for name in KEY_TYPES) for n in range(1, len(parts))})
)
"""What a key type becomes when its file name is split at too early a dash."""


def read_json(text: bytes | str) -> Json:
    """The document, with Buffers of every form as bytes. Raises InvalidInput that says where, never what."""
    return _revived(text)[0]


def write_json(document: Json) -> bytes:
    """The document as compact UTF-8 JSON, bytes as Buffers in base64."""
    try:
        return _dumped(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON.stringify writes as an escape.
        return _dumped(document, ensure_ascii=True).encode()


def stored_value(text: bytes) -> bytes:
    """A JSON file's text as a value to store: itself, unless it has a Buffer that Baileys 7 would not read.

    Raises InvalidInput that says where it isn't JSON, never what is there.
    """
    document, as_it_is = _revived(text)
    return text.strip() if as_it_is else write_json(document)


def file_name(key_type: str, key_id: str) -> str:
    """The file that `useMultiFileAuthState` keeps this key in."""
    return f"{key_type}-{key_id}{_SUFFIX}".replace("/", "__").replace(":", "-")


def key_of_file(name: str) -> tuple[str, str] | None:
    """The type and id of the key in a file of this name; None where it isn't one that Baileys writes for a key."""
    stem = name.removesuffix(_SUFFIX)
    if stem == name:
        return None
    for key_type in _LONGEST_FIRST:
        if stem.startswith(f"{key_type}-"):
            key_id = _id_in_file(key_type, stem[len(key_type) + 1 :])
            return None if key_id is None else (key_type, key_id)
    return None


def rightful(key_type: str, key_id: str) -> tuple[str, str] | None:
    """Where a row belongs whose file name was split too early (`lid`, `mapping-123`); None for every other row."""
    for rightful_type in _LONGEST_FIRST:
        rest = rightful_type.removeprefix(f"{key_type}-")
        if rest != rightful_type and key_id.startswith(f"{rest}-"):
            rightful_id = _id_in_file(rightful_type, key_id[len(rest) + 1 :])
            return None if rightful_id is None else (rightful_type, rightful_id)
    return None


def _id_in_file(key_type: str, written: str) -> str | None:
    """The id that a file name shows as `written`; None where this type has no such id."""
    if key_type == "sender-key":
        parts = _SENDER_KEY_FILE.fullmatch(written) or _SENDER_KEY_ID.fullmatch(written)
        return "::".join(parts.groups()) if parts else None
    if key_type == "app-state-sync-key":
        written = written.replace("__", "/")
    return written or None


def _revived(text: bytes | str) -> tuple[Json, bool]:
    """The document, and whether all its Buffers are already in the form that Baileys 7 reads."""
    as_it_is = True

    def revive(found: dict[str, Any]) -> Json:
        nonlocal as_it_is
        data = _buffer(found)
        if data is None:
            return found
        if found != _as_buffer(data):
            as_it_is = False
        return data

    problem = "not UTF-8"
    # Raised outside the handlers: the parser's own errors carry the whole document.
    try:
        decoded = text if isinstance(text, str) else text.decode()
        problem = "not JSON"
        document: Json = json.loads(decoded, object_hook=revive, parse_constant=_refuse_constant)
        return document, as_it_is
    except InvalidInput:
        raise
    except json.JSONDecodeError as error:
        problem = f"not JSON, or cut off (character {error.pos} of {len(error.doc)})"
    except RecursionError:
        problem = "not JSON that can be read: nested too deeply"
    except ValueError:
        pass
    raise InvalidInput(problem)


def _buffer(found: dict[str, Any]) -> bytes | None:
    """The bytes of a JSON object that stands for a Buffer; None where it doesn't."""
    if found.get("type") != "Buffer" and found.get("buffer") is not True:
        return _bare_array(found)
    data = found.get("data")
    if data is None:
        data = found.get("value")
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return _from_base64(data)
    if data is None or data == []:
        return b""
    if isinstance(data, list) and all(_is_byte(item) for item in data):
        return bytes(data)
    raise InvalidInput("a Buffer whose data is neither base64 nor an array of bytes")


def _bare_array(found: dict[str, Any]) -> bytes | None:
    """The bytes of a `Uint8Array` written without a replacer: an object with the keys 0, 1, 2…"""
    if not found or "0" not in found:
        return None
    items: list[Any] = [found.get(str(n)) for n in range(len(found))]
    return bytes(items) if all(_is_byte(item) for item in items) else None


def _is_byte(item: object) -> bool:
    return type(item) is int and 0 <= item <= 255


def _from_base64(data: str) -> bytes:
    """Base64 in either alphabet, with or without padding; strict otherwise, where Node skips what it can't read."""
    text = data.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput("a Buffer whose data isn't base64")


def _as_buffer(data: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def _dumped(document: Json, *, ensure_ascii: bool) -> str:
    return json.dumps(
        document, separators=(",", ":"), ensure_ascii=ensure_ascii, allow_nan=False, default=_buffer_or_refuse
    )


def _buffer_or_refuse(item: object) -> dict[str, str]:
    if isinstance(item, bytes | bytearray):
        return _as_buffer(bytes(item))
    raise InvalidInput(f"not part of a JSON document: {type(item).__name__}")


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidInput("not JSON: a number that isn't finite")
