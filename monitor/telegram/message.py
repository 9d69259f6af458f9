"""Lines of text into Telegram messages: HTML escaped, cut at line ends where one message can't hold them. Pure.

Telegram counts 4,096 UTF-16 units after it has read the tags; here they are counted with tags and escapes, so a part
is never too long. Each line stands in tags of its own, lines of a table in one `<pre>` a part: no cut lies in a tag.
"""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

LIMIT = 4_096

Style = Literal["plain", "bold", "pre"]
_TAGS: dict[Style, tuple[str, str]] = {"plain": ("", ""), "bold": ("<b>", "</b>"), "pre": ("<pre>", "</pre>")}
_ROOM = LIMIT - len("<pre></pre>\n")


@dataclass(frozen=True)
class Line:
    """One line as the reader sees it: not escaped yet."""

    text: str
    style: Style = "plain"


def plain(text: str) -> tuple[Line, ...]:
    """A text's lines."""
    return tuple(Line(line) for line in text.split("\n"))


def table(*rows: tuple[str, ...]) -> tuple[Line, ...]:
    """Rows in columns of one width each, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return tuple(
        Line("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip(), "pre") for row in rows
    )


def pairs(*rows: tuple[str, str]) -> tuple[Line, ...]:
    """Names and what they are, both to the left."""
    width = max(len(name) for name, _ in rows)
    return tuple(Line(f"{name.ljust(width)}  {value}".rstrip(), "pre") for name, value in rows)


def messages(lines: Iterable[Line]) -> list[str]:
    """The HTML of as few messages as hold these lines, in order; none without anything to see."""
    parts: list[list[Line]] = [[]]
    used = 0
    for line in _short(lines):
        cost = _units(_escaped(line.text)) + 1
        if not parts[-1] or line.style != "pre" or parts[-1][-1].style != "pre":
            cost += sum(map(len, _TAGS[line.style]))
        if used + cost > LIMIT:
            parts.append([])
            cost = _units(_escaped(line.text)) + 1 + sum(map(len, _TAGS[line.style]))
            used = 0
        parts[-1].append(line)
        used += cost
    return [_html(part) for part in parts if any(line.text.strip() for line in part)]


def _short(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines without line ends in them, and those that fill more than a message in pieces."""
    for line in lines:
        for text in line.text.splitlines() or [""]:
            piece, used = "", 0
            for character in text:
                units = _units(_escaped(character))
                if used + units > _ROOM:
                    yield Line(piece, line.style)
                    piece, used = "", 0
                piece += character
                used += units
            yield Line(piece, line.style)


def _html(part: list[Line]) -> str:
    told = []
    for style, lines in groupby(part, key=lambda line: line.style):
        opened, closed = _TAGS[style]
        if style == "pre":
            told.append(opened + "\n".join(_escaped(line.text) for line in lines) + closed)
        else:
            told += [opened + _escaped(line.text) + closed if line.text else "" for line in lines]
    return "\n".join(told)


def _escaped(text: str) -> str:
    """As HTML that Telegram takes: it refuses what isn't UTF-8, and drops no character that we show."""
    return html.escape(text.replace("\0", "�").encode(errors="replace").decode(), quote=False)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
