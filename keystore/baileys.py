"""The outside form of a bot's state: Baileys' JSON, its key types, and the file names of `useMultiFileAuthState`.

Pure functions without I/O. Read off Baileys 6.17.16 and 7.0.0-rc14 (`BufferJSON`, `SignalDataTypeMap`, `fixFileName`).

**Buffers** are written as `{"type":"Buffer","data":"<base64>"}` only, because Baileys 7 revives no other object of that
type. They are read in every form that some version wrote: that one; the array of bytes that `JSON.stringify` leaves
without Baileys' replacer; the old `{"buffer":true,…}` with `data` or `value`; and `{"0":7,"1":9}`, which a bare
`Uint8Array` becomes.

**File names** are `{type}-{id}.json`, with `/` written as `__` and `:` as `-`. The type is the longest known one that
fits, since types contain dashes themselves. (A split at the first dash once made 172 `lid-mapping` rows into a type
`lid` that no bot reads.) The type decides how the id is restored:

- `sender-key`: `group::user::device`, the only ids with a colon. The last two `--` are the colons, because a user is
  digits (and `_domain`) and a device is digits. An earlier dash is the group's own (`4915…-1600000@g.us`).
- `app-state-sync-key`: base64, which contains no `_`, so `__` is a slash.
- `pre-key`, `session`, `identity-key`, `lid-mapping`, `device-list`, `sender-key-memory`, `app-state-sync-version`,
  `tctoken`: digits, `.`, `@`, `_` and dashes, never a colon or a slash. The id is as in the file name (Baileys'
  `tctoken` id `__index` too). A bot that put a colon in such an id has lost it in the file name.

Any other name is unknown, and isn't guessed at.
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

_WORD_FOR_COPY = r"(?:copy|kopie|copia|cópia|copie)"
_COPIES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[.]?#?(?P<stem>[^.#].*?)[.]json(?:~|[.~][^/]*)",  # creds.json.bak, creds.json~, .creds.json.swp
        r"[.](?:_|#)(?P<stem>.+)[.]json",  # ._creds.json of macOS
        r"(?P<stem>.+?) *[(][0-9]+[)][.]json",  # creds (1).json, of browsers and Windows
        r"(?P<stem>.+?) [0-9]+[.]json",  # creds 2.json of macOS
        rf"(?P<stem>.+?)(?: -)?[ ._-]{_WORD_FOR_COPY}(?:[ _]?[(]?[0-9]+[)]?)?[.]json",  # creds - Copy (2).json
        rf"{_WORD_FOR_COPY} (?:of|von|de|di) (?P<stem>.+)[.]json",
        r"(?P<stem>.+?)[.]sync-conflict-.*[.]json",  # of Syncthing
        r"(?P<stem>.+) [(][^()]*conflict[^()]*[)].*[.]json",  # of Dropbox and Nextcloud
        r"(?P<stem>.+?)[ ._-]conflict(?:ed)?(?:[^A-Za-z].*)?[.]json",
        r"(?P<stem>.+?)~.*[.]json",
        r"(?P<stem>.+?)[.](?:bak|tmp|old|orig|new)(?:[.][^/]*)?[.]json",
    )
)
"""The names that copies and sync conflicts have."""

MIS_SPLIT_TYPES = tuple(
    sorted({"-".join(parts[:n]) for parts in (name.split("-") for name in KEY_TYPES) for n in range(1, len(parts))})
)
"""The types that result from splitting a file name at a dash of its type."""


def write_json(document: Json) -> bytes:
    """Return the document as compact UTF-8 JSON, with bytes as Buffers in base64."""

    def dumped(ascii_only: bool) -> bytes:
        return json.dumps(
            document, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False, default=_buffer_or_refuse
        ).encode()

    try:
        return dumped(ascii_only=False)
    except UnicodeEncodeError:  # Half of a surrogate pair is written as an escape, as by JSON.stringify.
        return dumped(ascii_only=True)


def stored_value(text: bytes) -> bytes:
    """Return the value to store for a JSON text: itself, unless it has a Buffer that Baileys 7 would not read.

    Raises InvalidInput with the position of a syntax error, never with any of the text.
    """
    document, readable = revived(text)
    return text.strip() if readable else write_json(document)


def revived(text: bytes) -> tuple[Json, bool]:
    """Return the document, and True when all its Buffers already have the form that Baileys 7 reads.

    Raises InvalidInput with the position of a syntax error, never with any of the text.
    """
    readable = True

    def revive(item: dict[str, Any]) -> Json:
        nonlocal readable
        data = _buffer(item)
        if data is None:
            return item
        readable = readable and item == _as_buffer(data)
        return data

    problem = "not UTF-8"
    # Raised outside the handlers: the parser's own errors carry the whole document.
    try:
        decoded = text.decode()
        problem = "not JSON"
        document: Json = json.loads(decoded, object_hook=revive, parse_constant=_refuse_constant)
        return document, readable
    except InvalidInput:
        raise
    except json.JSONDecodeError as error:
        problem = f"not JSON, or cut off (character {error.pos} of {len(error.doc)})"
    except RecursionError:
        problem = "not JSON that can be read: nested too deeply"
    except ValueError:
        pass
    raise InvalidInput(problem)


def file_name(key_type: str, key_id: str) -> str:
    """Return the name of the file in which `useMultiFileAuthState` stores this key."""
    return f"{key_type}-{key_id}{_SUFFIX}".replace("/", "__").replace(":", "-")


def key_of_file(name: str) -> tuple[str, str] | None:
    """Return the type and id of the key in a file of this name; None when Baileys writes no key under it."""
    if not name.endswith(_SUFFIX) or copied_from(name) is not None:
        return None
    return key_of_name(name.removesuffix(_SUFFIX))


def copied_from(name: str) -> str | None:
    """Return the file name of Baileys' of which this is a copy's; None if it isn't.

    Editors, file managers and synchronizers leave copies beside files: `creds (1).json`, `creds.json.bak`,
    `session-1.0.sync-conflict-20260101-120000-ABC.json`. As keys they would have ids that no bot asks for.
    """
    for pattern in _COPIES:
        match = pattern.fullmatch(name)
        if match is not None:
            original = f"{match['stem']}{_SUFFIX}"
            if original == CREDS_FILE or key_of_name(match["stem"]) is not None:
                return original
    return None


def corrected_name(key_type: str, key_id: str) -> tuple[str, str] | None:
    """Return the correct type and id of a row whose file name was split too early; None for every other row.

    For example, (`lid`, `mapping-123`) is (`lid-mapping`, `123`).
    """
    whole = key_of_name(f"{key_type}-{key_id}")
    return whole if whole is not None and whole[0].startswith(f"{key_type}-") else None


def key_of_name(stem: str) -> tuple[str, str] | None:
    """Return the type and id in `{type}-{id}`, also as in a file name; None when no type of Baileys' has such an id.

    The longest type that fits is the right one.
    """
    key_type = next((name for name in _LONGEST_FIRST if stem.startswith(f"{name}-")), "")
    key_id = stem[len(key_type) + 1 :]
    if key_type == "sender-key":
        parts = _SENDER_KEY_FILE.fullmatch(key_id) or _SENDER_KEY_ID.fullmatch(key_id)
        key_id = "::".join(parts.groups()) if parts else ""
    elif key_type == "app-state-sync-key":
        key_id = key_id.replace("__", "/")
    return (key_type, key_id) if key_type and key_id else None


def _buffer(item: dict[str, Any]) -> bytes | None:
    """Return the bytes of a JSON object that represents a Buffer; None when it doesn't."""
    if item.get("type") != "Buffer" and item.get("buffer") is not True:
        # A `Uint8Array` that was written without a replacer is an object with the keys 0, 1, 2…
        return _bytes([item.get(str(n)) for n in range(len(item))]) if "0" in item else None
    data = item.get("data")
    if data is None:
        data = item.get("value")
    if isinstance(data, str):
        return from_base64(data)
    decoded = data if isinstance(data, bytes) else _bytes([] if data is None else data)
    if decoded is None:
        raise InvalidInput("a Buffer whose data is neither base64 nor an array of bytes")
    return decoded


def _bytes(numbers: object) -> bytes | None:
    """Return the bytes of a list of numbers from 0 to 255; None for everything else."""
    if isinstance(numbers, list) and all(type(number) is int and 0 <= number <= 255 for number in numbers):
        return bytes(numbers)
    return None


def from_base64(data: str) -> bytes:
    """Decode base64 of either alphabet, padded or not. Other characters are an error, where Node skips them."""
    text = data.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput("a Buffer whose data isn't base64")


def _as_buffer(data: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def _buffer_or_refuse(item: object) -> dict[str, str]:
    if isinstance(item, bytes | bytearray):
        return _as_buffer(bytes(item))
    raise InvalidInput(f"not part of a JSON document: {type(item).__name__}")


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidInput("not JSON: a number that isn't finite")
