"""Holds a value against its type's shape, and takes it out of the wrappings that other programs put around it.

A value is wrapped when it has become another JSON value that still says the same: JSON in a string, MongoDB's extended
JSON, base64 without the Buffer around it. The shape decides the meaning: a text is base64 only where a Buffer belongs.
Every wrapping that was taken off is named, and a value that fits already keeps its bytes.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from keystore import baileys
from keystore.baileys import Json
from keystore.errors import InvalidInput
from keystore.values.codec import is_sealed_by_bot
from keystore.values.shapes import (
    CREDS,
    SHAPES,
    Anything,
    Buffer,
    FirstOf,
    Flag,
    ListOf,
    MapOf,
    Number,
    Record,
    Shape,
    Text,
)

Name: TypeAlias = tuple[str, str]
_Kind = TypeVar("_Kind", dict[str, Any], list[Any])

JSON_IN_A_STRING = "JSON in a string"
JSON_IN_A_BUFFER = "JSON in a Buffer"
BARE_BASE64 = "base64 without its Buffer"
LIST_OF_BYTES = "bytes as a list of numbers"
MONGO_BINARY = "MongoDB's $binary"
MONGO_NUMBER = "MongoDB's form of a number"
OTHER_BUFFER = "a Buffer in another form"
NAMED_UINT8ARRAY = "a Uint8Array with its name"
NUMBER_FOR_TEXT = "a number for a text"
TEXT_FOR_NUMBER = "a text for a number"
BYTE_ORDER_MARK = "a byte order mark"

MOST_STRINGS = 3
"""The most strings that are opened, one within the other."""

_MAYBE_MONGO = (b'"$', b'"sub_type"', b'"_bsontype"')
_BYTE_LIST = re.compile(r"[0-9]{1,3}(?:,[0-9]{1,3})+")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FittedValue:
    """A value as Baileys reads it, and the names of the wrappings that were around it."""

    value: bytes = field(repr=False)
    wrappings: frozenset[str] = frozenset()


class _MisfitError(Exception):
    """A part of a document that doesn't have its shape: the path to it, and what was expected and is there."""

    def __init__(self, shape: Shape, part: Json, path: str = "") -> None:
        super().__init__()
        self.shape, self.part, self.path = shape, part, path

    @property
    def depth(self) -> int:
        return self.path.count(".")


def is_nothing(text: bytes) -> bool:
    """True for the JSON text of no value: Baileys reads it like a key that isn't there."""
    return text.strip() in (b"null", b'"null"')


def fitted(name: Name, text: bytes) -> FittedValue:
    """Return the value of a key, or of the creds (`("", "")`), that Baileys reads from this JSON text.

    A type that Baileys doesn't know has no shape: its values pass, and so do those that a bot has sealed. Raises
    InvalidInput that says what was expected and what is there, without quoting it.
    """
    if is_sealed_by_bot(text):
        return FittedValue(text)
    shape = CREDS if name == ("", "") else SHAPES.get(name[0], Anything())
    try:
        return _fitted_document(shape, text)
    except _MisfitError as misfit:
        where = f"{misfit.path.removeprefix('.')}: " if misfit.path else ""
        problem = f"{where}expected {misfit.shape}; there is {_description(misfit.part)}"
    except RecursionError:
        problem = "not JSON that can be read: nested too deeply"
    raise InvalidInput(problem)


def _fitted_document(shape: Shape, text: bytes) -> FittedValue:
    wrappings: set[str] = set()
    if text.startswith(_MARK):
        text = text.removeprefix(_MARK)
        wrappings.add(BYTE_ORDER_MARK)
    document, readable = baileys.revived(text)
    if not readable:
        wrappings.add(OTHER_BUFFER)
    if any(mark in text for mark in _MAYBE_MONGO):
        document = _without_mongo(document, wrappings)
    document = _fit(shape, document, wrappings)
    if wrappings:
        return FittedValue(_written(document), frozenset(wrappings))
    return FittedValue(text.strip())


def _written(document: Json) -> bytes:
    try:
        return baileys.write_json(document)
    except ValueError as error:  # The error would show the number.
        if isinstance(error, InvalidInput):
            raise
    raise InvalidInput("not JSON: a number that isn't finite")


def _fit(shape: Shape, part: Json, wrappings: set[str]) -> Json:
    """Return the part as the shape wants it. Raises _MisfitError."""
    match shape:
        case Record():
            return _fitted_record(shape, _opened(part, dict, shape, wrappings), wrappings)
        case MapOf():
            fields = _opened(part, dict, shape, wrappings)
            if not all(map(shape.names.fullmatch, fields)):
                raise _MisfitError(shape, part)
            return {name: _at(f".{n}", shape.value, fields[name], wrappings) for n, name in enumerate(fields)}
        case ListOf():
            items = _opened(part, list, shape, wrappings)
            return [_at(f".{n}", shape.item, item, wrappings) for n, item in enumerate(items)]
        case Buffer():
            return _fitted_buffer(shape, part, wrappings)
        case Text():
            return _fitted_text(shape, part, wrappings)
        case Number():
            return _fitted_number(part, wrappings)
        case Flag():
            if type(part) is bool or (type(part) is int and part in (0, 1)):
                return part
            raise _MisfitError(shape, part)
        case Anything():
            return part
        case FirstOf():
            return _fitted_first(shape, part, wrappings)


def _at(place: str, shape: Shape, part: Json, wrappings: set[str]) -> Json:
    """Fit a part of a larger one, whose name a misfit then carries."""
    try:
        return _fit(shape, part, wrappings)
    except _MisfitError as misfit:
        misfit.path = place + misfit.path
        raise


def _fitted_record(shape: Record, part: dict[str, Json], wrappings: set[str]) -> Json:
    fields = dict(part)
    if any(part.get(name) is None for name in shape.required):
        raise _MisfitError(shape, part)
    for name, inner in shape.required.items():
        fields[name] = _at(f".{name}", inner, part[name], wrappings)
    for name, inner in shape.optional.items():
        if part.get(name) is not None:
            fields[name] = _at(f".{name}", inner, part[name], wrappings)
    return fields


def _fitted_first(shape: FirstOf, part: Json, wrappings: set[str]) -> Json:
    """Try the shapes in turn; one that fits as it is goes before those that need wrappings taken off."""
    fits: list[tuple[int, Json, set[str]]] = []
    misfits: list[_MisfitError] = []
    for choice in shape.shapes:
        taken_off: set[str] = set()
        try:
            fits.append((len(taken_off), _fit(choice, part, taken_off), taken_off))
        except _MisfitError as misfit:
            misfits.append(misfit)
        else:
            if not taken_off:
                return fits[-1][1]
    if not fits:
        deepest = max(misfits, key=lambda misfit: misfit.depth)
        raise deepest if deepest.path else _MisfitError(shape, part)
    _, document, taken_off = fits[0]
    wrappings |= taken_off
    return document


def _fitted_buffer(shape: Buffer, part: Json, wrappings: set[str]) -> Json:
    opened = part
    for _ in range(MOST_STRINGS):
        if not isinstance(opened, str) or opened[:1] not in ('"', "{", "["):
            break
        opened = _json_of(opened)
        wrappings.add(JSON_IN_A_STRING)
    data, wrapping = _bytes_in(opened)
    if data is None or not _has_size_and_beginning(shape, data):
        raise _MisfitError(shape, part)
    if wrapping:
        wrappings.add(wrapping)
    return data


def _has_size_and_beginning(shape: Buffer, data: bytes) -> bool:
    if len(data) < shape.least or (shape.sizes and len(data) not in shape.sizes):
        return False
    begins = data.lstrip()[:1]
    return begins != shape.begins_not if shape.begins_not else begins == shape.begins or not shape.begins


def _bytes_in(part: Json) -> tuple[bytes | None, str]:
    """Return the bytes that something other than a Buffer stands for, and the name of its form."""
    if isinstance(part, bytes):
        return part, ""
    if isinstance(part, list):
        return _bytes_of(part), LIST_OF_BYTES
    if isinstance(part, str) and _BYTE_LIST.fullmatch(part):
        return _bytes_of([int(number) for number in part.split(",")]), LIST_OF_BYTES
    if isinstance(part, str):
        with suppress(InvalidInput):
            return baileys.from_base64(part), BARE_BASE64
    if isinstance(part, dict) and part.get("type") == "Uint8Array":
        return _bytes_of(part.get("data")), NAMED_UINT8ARRAY
    return None, ""


def _fitted_text(shape: Text, part: Json, wrappings: set[str]) -> Json:
    opened = part
    for _ in range(MOST_STRINGS):
        if type(opened) is int:
            wrappings.add(NUMBER_FOR_TEXT)
            opened = str(opened)
        if not isinstance(opened, str) or shape.pattern.fullmatch(opened):
            break
        opened = _json_of(opened)
        wrappings.add(JSON_IN_A_STRING)
    if not isinstance(opened, str) or not shape.pattern.fullmatch(opened):
        raise _MisfitError(shape, part)
    return opened


def _fitted_number(part: Json, wrappings: set[str]) -> Json:
    if isinstance(part, str) and _WHOLE_NUMBER.fullmatch(part):
        wrappings.add(TEXT_FOR_NUMBER)
        return int(part)
    if type(part) not in (int, float):
        raise _MisfitError(Number(), part)
    return part


def _opened(part: Json, kind: type[_Kind], shape: Shape, wrappings: set[str]) -> _Kind:
    """Return a list or an object, out of the strings or the Buffer around it. Raises _MisfitError."""
    opened: Json = part
    for _ in range(MOST_STRINGS):
        if isinstance(opened, kind):
            return opened
        if isinstance(opened, str):
            wrapping, opened = JSON_IN_A_STRING, _json_of(opened)
        elif isinstance(opened, bytes) and kind is dict and opened[:1] == b"{":
            wrapping, opened = JSON_IN_A_BUFFER, _json_of(opened)
        else:
            break
        wrappings.add(wrapping)
    if isinstance(opened, kind):
        return opened
    raise _MisfitError(shape, part)


def _json_of(text: str | bytes) -> Json:
    """Return the document in a string; None if there is none."""
    with suppress(InvalidInput, UnicodeEncodeError):
        encoded = text.encode() if isinstance(text, str) else text
        document, _ = baileys.revived(encoded)
        if any(mark in encoded for mark in _MAYBE_MONGO):
            document = _without_mongo(document, set())
        return document
    return None


def _bytes_of(numbers: object) -> bytes | None:
    """Return the bytes of a list of numbers from 0 to 255; None for everything else."""
    if isinstance(numbers, list) and all(type(number) is int and 0 <= number <= 255 for number in numbers):
        return bytes(numbers)
    return None


def _without_mongo(part: Json, wrappings: set[str]) -> Json:
    """Return the document with MongoDB's extended JSON, and a Binary that JSON.stringify wrote, as plain values."""
    if isinstance(part, list):
        return [_without_mongo(item, wrappings) for item in part]
    if not isinstance(part, dict):
        return part
    data = _mongo_binary(part)
    if data is not None:
        wrappings.add(MONGO_BINARY)
        return data
    number = _mongo_number(part)
    if number is not None:
        wrappings.add(MONGO_NUMBER)
        return number
    return {name: _without_mongo(item, wrappings) for name, item in part.items()}


def _mongo_binary(part: Mapping[str, Json]) -> bytes | None:
    content = part.get("$binary")
    if isinstance(content, dict):
        content = content.get("base64")
    if content is None and ("sub_type" in part or part.get("_bsontype") == "Binary"):
        content = part.get("buffer")
    if isinstance(content, str):
        with suppress(InvalidInput):
            return baileys.from_base64(content)
    return content if isinstance(content, bytes) else None


def _mongo_number(part: Mapping[str, Json]) -> int | float | None:
    if len(part) == 1:
        for name, kind in (("$numberInt", int), ("$numberLong", int), ("$numberDouble", float)):
            with suppress(ValueError, TypeError):
                if name in part:
                    return kind(part[name])  # type: ignore[arg-type]
    return None


def _description(part: Json) -> str:
    """Say what kind of value this is, never which."""
    if isinstance(part, bytes):
        return f"a Buffer ({len(part):,} bytes)"
    if isinstance(part, dict):
        return f"an object ({len(part):,} fields)" if part else "an empty object"
    if isinstance(part, list):
        return f"a list ({len(part):,} items)"
    if isinstance(part, str):
        return f"a text ({len(part):,} characters)"
    if part is None:
        return "nothing"
    return "true or false" if isinstance(part, bool) else "a number"
