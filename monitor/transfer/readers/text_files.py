"""Reads a text file that a dump left: JSON lines, a JSON document, CSV, or the lines of redis-cli."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from keystore.errors import InvalidInput

Form: TypeAlias = Literal["rows", "object", "pairs"]

MAX_BYTES = 1024 * 1024 * 1024
"""Limit of a dump's size: it is read as a whole."""


@dataclass(frozen=True)
class Records:
    """The content of a text file. `rows` are objects by column; an `object` is one row; `pairs` are names and values.

    `unreadable` are (line, reason) of lines that hold no row.
    """

    form: Form
    rows: list[dict[str, Any]] = field(repr=False)
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns that any row has."""
        return frozenset(name for row in self.rows for name in row)


def read_records(path: Path) -> Records:
    """Return the content of a text file. Raises InvalidInput if it can't be read, or isn't such a file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path} is over 1 GiB; dump one bot's state alone")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is neither UTF-8 text nor a database that this program can read") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    for reader in (_json_document, _json_lines, _redis_csv, _csv, _alternating_lines):
        records = reader(text)
        if records is not None:
            return records
    raise InvalidInput(f"{path} is no dump that this program can read: neither JSON, JSON lines, CSV nor redis-cli's")


def _json_document(text: str) -> Records | None:
    """One object, or an array of them, in any layout."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    document = _parsed(text)
    if isinstance(document, dict):
        return Records("object", [document])
    if isinstance(document, list) and document and all(isinstance(item, dict) for item in document):
        return Records("rows", document)
    if isinstance(document, list) and document and all(isinstance(item, str) for item in document):
        return _paired(document)  # `redis-cli --json HGETALL` under RESP 2.
    return None


def _json_lines(text: str) -> Records | None:
    """An object on each line. The last may be cut off; so may any other be damaged."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines or not lines[0][1].lstrip().startswith("{"):
        return None
    rows: list[dict[str, Any]] = []
    unreadable: list[tuple[str, str]] = []
    for number, line in lines:
        document = _parsed(line)
        if isinstance(document, dict):
            rows.append(document)
        else:
            unreadable.append((f"line {number}", "not a JSON object, or cut off"))
    return Records("rows", rows, tuple(unreadable)) if rows else None


def _csv(text: str) -> Records | None:
    """Comma-separated values (or with semicolons or tabs), under a line with the columns' names."""
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)
    if not head.count(delimiter):
        return None
    # MySQL escapes quotes with backslashes, everybody else doubles them: one of the two gives more whole rows.
    tables = [_csv_rows(text, delimiter, escapes) for escapes in ({}, {"escapechar": "\\", "doublequote": False})]
    names, *rows = max(tables, key=lambda table: sum(len(row) == len(table[0]) for row in table))
    if len(set(names)) < len(names) or not all(name.strip().replace("_", "").isalnum() for name in names):
        return None
    complete = [dict(zip(map(str.strip, names), row, strict=True)) for row in rows if len(row) == len(names)]
    unreadable = [
        (f"row {number}", f"{len(row)} columns in place of {len(names)}")
        for number, row in enumerate(rows, 1)
        if row and len(row) != len(names)
    ]
    return Records("rows", complete, tuple(unreadable)) if complete else None


def _redis_csv(text: str) -> Records | None:
    """The single line of `redis-cli --csv HGETALL`: names and values in turn."""
    line = text.strip()
    if "\n" in line or not line.startswith('"') or '","' not in line:
        return None
    unescaped = [_unescaped(item) for item in _redis_strings(line)]
    return _paired(unescaped)


def _alternating_lines(text: str) -> Records | None:
    """The lines of `redis-cli HGETALL` into a file: names and values in turn."""
    lines = text.splitlines()
    return _paired(lines) if len(lines) > 1 else None


def _paired(items: list[str]) -> Records | None:
    """Names and values that follow each other; a name without a value was cut off."""
    pairs = dict(zip(items[::2], items[1::2], strict=False))
    cut_off = ((items[-1], "its value was cut off"),) if len(items) % 2 else ()
    return Records("pairs", [pairs], cut_off) if pairs else None


def _csv_rows(text: str, delimiter: str, escapes: dict[str, Any]) -> list[list[str]]:
    """The rows, as far as they can be read; the first has the columns' names."""
    csv.field_size_limit(MAX_BYTES)
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **escapes))
    return rows or [[]]


def _redis_strings(line: str) -> Iterator[str]:
    """The quoted strings of a line, still escaped."""
    start, escaped = 0, False
    for position, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"' and start:
            yield line[start:position]
            start = 0
        elif character == '"':
            start = position + 1


def _unescaped(text: str) -> str:
    """Undo redis-cli's escapes, which stand for bytes."""
    if "\\" not in text:
        return text
    plain, position = bytearray(), 0
    while position < len(text):
        character = text[position]
        if character != "\\":
            plain += character.encode()
            position += 1
        elif text[position + 1 : position + 2] == "x":
            plain += bytes.fromhex(text[position + 2 : position + 4])
            position += 4
        else:
            plain += {"n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b"}.get(
                text[position + 1 : position + 2], text[position + 1 : position + 2].encode()
            )
            position += 2
    return plain.decode(errors="surrogateescape")


def _parsed(text: str) -> Any:
    """Return a JSON document; None if there is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None
