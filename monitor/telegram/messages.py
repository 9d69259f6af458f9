"""Messages to a chat: lines of text become the HTML of one or more Telegram messages. Pure.

Telegram allows 4,096 UTF-16 units after it has parsed the tags. Here tags and escapes are counted too, so a message is
never too long. Messages are split at line ends. Each line has tags of its own, and consecutive lines of a table share
one `<pre>`, so no split falls inside a tag.

Commands stand between backquotes in all texts of this project. A chat shows them as code, without the backquotes.
"""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias

LIMIT = 4_096

Style = Literal["plain", "bold", "pre"]
_TAGS: dict[Style, tuple[str, str]] = {"plain": ("", ""), "bold": ("<b>", "</b>"), "pre": ("<pre>", "</pre>")}
_LONGEST_LINE = LIMIT - len("<pre></pre>\n")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Line:
    """One line as the reader sees it, not yet escaped."""

    text: str
    style: Style = "plain"


Lines: TypeAlias = tuple[Line, ...]


@dataclass(frozen=True)
class Button:
    """A button under a message. Pressing it sends `data`, at most 64 bytes, back to the bot."""

    text: str
    data: str


Keyboard: TypeAlias = tuple[tuple[Button, ...], ...]
"""Rows of buttons."""


@dataclass(frozen=True)
class Reply:
    """An answer to a command: lines, buttons under the last of them, and a picture after them."""

    lines: Lines
    keyboard: Keyboard = ()
    photo: bytes | None = field(default=None, repr=False)


def plain(text: str) -> Lines:
    """The lines of a text."""
    return tuple(Line(line) for line in text.split("\n"))


def table(*rows: tuple[str, ...]) -> Lines:
    """Rows in aligned columns: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return tuple(
        Line("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip(), "pre") for row in rows
    )


def pairs(*rows: tuple[str, str]) -> Lines:
    """Names and values in two columns, both to the left."""
    width = max(len(name) for name, _ in rows)
    return tuple(Line(f"{name.ljust(width)}  {value}".rstrip(), "pre") for name, value in rows)


def messages(lines: Iterable[Line]) -> list[str]:
    """The HTML of as few messages as hold these lines, in order. Messages without visible text are left out."""
    parts: list[list[Line]] = [[]]
    used = 0
    for line in _split_long(lines):
        text_units = _units(_inner_html(line)) + 1
        tag_units = sum(map(len, _TAGS[line.style]))
        shares_tags = parts[-1] and line.style == parts[-1][-1].style == "pre"
        cost = text_units if shares_tags else text_units + tag_units
        if used + cost > LIMIT:
            parts.append([])
            used, cost = 0, text_units + tag_units
        parts[-1].append(line)
        used += cost
    return [_html(part) for part in parts if any(line.text.strip() for line in part)]


def _split_long(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines, without line ends inside them and with those longer than a message in pieces."""
    for line in lines:
        for text in line.text.splitlines() or [""]:
            if _units(_inner_html(Line(text, line.style))) <= _LONGEST_LINE:
                yield Line(text, line.style)
                continue
            piece, used = "", 0
            for character in _CODE.sub(r"\1", text):
                units = _units(_escape(character))
                if used + units > _LONGEST_LINE:
                    yield Line(piece, line.style)
                    piece, used = "", 0
                piece += character
                used += units
            yield Line(piece, line.style)


def _html(part: list[Line]) -> str:
    blocks = []
    for style, lines in groupby(part, key=lambda line: line.style):
        start, end = _TAGS[style]
        if style == "pre":
            blocks.append(start + "\n".join(_inner_html(line) for line in lines) + end)
        else:
            blocks += [start + _inner_html(line) + end if line.text else "" for line in lines]
    return "\n".join(blocks)


def _inner_html(line: Line) -> str:
    """The HTML of a line without the tags around it. Telegram accepts code neither in bold text nor in a table."""
    code = r"<code>\1</code>" if line.style == "plain" else r"\1"
    return _CODE.sub(code, _escape(line.text))


def _escape(text: str) -> str:
    """As HTML that Telegram accepts. Telegram refuses invalid UTF-8; NUL and lone surrogates are replaced visibly."""
    return html.escape(text.replace("\0", "�").encode(errors="replace").decode(), quote=False)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
