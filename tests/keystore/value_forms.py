"""The forms in which programs leave Buffers and whole values behind, for tests of what takes them in."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from rig.baileys_state import as_stored, real_creds, real_keys

Name = tuple[str, str]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BUFFER_FORMS: dict[str, Callable[[bytes], Any]] = {
    "base64": lambda data: {"type": "Buffer", "data": _base64(data)},
    "array": lambda data: {"type": "Buffer", "data": list(data)},
    "legacy": lambda data: {"buffer": True, "value": _base64(data)},
    "uint8array": lambda data: {str(n): byte for n, byte in enumerate(data)} or {"type": "Buffer", "data": []},
    "named uint8array": lambda data: {"type": "Uint8Array", "data": list(data)},
    "bare base64": _base64,
    "bare array": list,
    "joined by commas": lambda data: ",".join(map(str, data)),
    "$binary": lambda data: {"$binary": {"base64": _base64(data), "subType": "00"}},
    "$binary, old": lambda data: {"$binary": _base64(data), "$type": "00"},
    "Binary, stringified": lambda data: {"sub_type": 0, "buffer": _base64(data), "position": len(data)},
}
"""Each turns the bytes of a Buffer into the JSON that stands for them."""


def with_buffers(document: Any, form: Callable[[bytes], Any]) -> Any:
    """The document with each Buffer in this form."""
    if isinstance(document, list):
        return [with_buffers(item, form) for item in document]
    if not isinstance(document, dict):
        return document
    if document.get("type") == "Buffer":
        return form(base64.b64decode(document["data"]))
    return {name: with_buffers(item, form) for name, item in document.items()}


def real_values() -> Iterator[tuple[Name, bytes]]:
    """The real state's 721 keys and its creds, by name."""
    for key_type, by_id in real_keys().items():
        for key_id, value in by_id.items():
            yield (key_type, key_id), value
    yield ("", ""), real_creds()


def encoded(value: bytes, form: str, *, times: int = 0) -> bytes:
    """A value with its Buffers in this form, and as JSON in so many strings."""
    document = with_buffers(json.loads(value), BUFFER_FORMS[form])
    for _ in range(times):
        document = as_stored(document).decode()
    return as_stored(document)
