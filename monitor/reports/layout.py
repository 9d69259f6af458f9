"""The layout of a report in a terminal of any width: lines break between words only.

Columns that don't fit beside each other are written below each other. A single word longer than the line, such as a
path, is never cut: it overflows, so that it can be copied.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

INDENT, GAP = 2, 2

NARROWEST_PROSE = 24
"""The width below which a column of prose goes below its row instead of beside it."""


MOST_HEADER_LINES = 3


@dataclass(frozen=True)
class Columns:
    """Rows of cells in columns, under an optional header. Only the header and the last column may take several lines.

    Where a row doesn't fit, its first cell becomes a line, and the others follow below it. `numeric` columns are
    aligned to the right.
    """

    rows: Sequence[Sequence[Text]]
    header: Sequence[Text] = ()
    numeric: frozenset[int] = frozenset()
    indent: int = INDENT
    gap: int = GAP

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one line after another; called by rich."""
        if not self.rows:
            return
        widths = self._widths(options.max_width - self.indent)
        lines = self._stacked(options.max_width - self.indent) if widths is None else self._in_columns(widths)
        for line in lines:
            line.no_wrap, line.overflow = True, "ignore"
            line.rstrip()
            yield Text(" " * self.indent) + line

    def _widths(self, available: int) -> list[int] | None:
        """The widths of the columns, with the header on as few lines as fit; None if they don't fit at all."""
        cells = list(zip_longest(*self.rows, fillvalue=Text()))
        widest = [max(map(_width, column)) for column in cells]
        last_word = max(map(_longest_word, cells[-1]))
        header = self.header or [Text()] * len(cells)
        for lines in range(1, MOST_HEADER_LINES + 1):
            heads = [_width_on(lines, head) for head in header]
            natural = list(map(max, widest, heads))
            left = available - sum(natural[:-1]) - self.gap * (len(natural) - 1)
            if left >= max(last_word, heads[-1], min(natural[-1], NARROWEST_PROSE)):
                return [*natural[:-1], min(natural[-1], left)]
        return None

    def _in_columns(self, widths: Sequence[int]) -> Iterator[Text]:
        for row in [self.header, *self.rows] if self.header else self.rows:
            cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=False)]
            if row is self.header:  # The lines of a header stand on its last one.
                tallest = max(map(len, cells))
                cells = [[Text()] * (tallest - len(lines)) + lines for lines in cells]
            for parts in zip_longest(*cells, fillvalue=Text()):
                line = Text()
                for number, (part, width) in enumerate(zip(parts, widths, strict=False)):
                    blank = " " * (width - _width(part))
                    line += Text(" " * self.gap if number else "")
                    line += Text(blank) + part if number in self.numeric else part + Text(blank)
                yield line

    def _stacked(self, width: int) -> Iterator[Text]:
        below = " " * INDENT
        for first, *others in self.rows:
            yield from _wrapped(first, width)
            shown = [(number, cell) for number, cell in enumerate(others, 1) if cell.plain]
            if self.header:
                named = [Text(" ").join((self.header[number], cell)) for number, cell in shown]
            else:
                named = [Text(" " * self.gap).join(cell for _, cell in shown)]
            for cell in named:
                for line in _wrapped(cell, width - INDENT):
                    yield Text(below) + line


def table(header: Iterable[str], rows: Iterable[Iterable[Text | str]], numeric: Iterable[int] = ()) -> Columns:
    """Rows under a header, which is dim."""
    return Columns(_cells(rows), [Text(name, "dim") for name in header], frozenset(numeric))


def pairs(rows: Iterable[tuple[str, str]]) -> Columns:
    """Names, which are dim, and their values."""
    return Columns([(Text(name, "dim"), Text(value)) for name, value in rows])


def columns(rows: Iterable[Iterable[Text | str]], numeric: Iterable[int] = (), indent: int = INDENT) -> Columns:
    """Rows without a header."""
    return Columns(_cells(rows), numeric=frozenset(numeric), indent=indent)


def bullets(lines: Iterable[str]) -> Columns:
    """One bullet point for each line."""
    return Columns([(Text("•"), Text(line)) for line in lines], indent=0, gap=1)


def paragraphs(*lines: str, style: str = "") -> Columns:
    """Lines of prose, each beginning at the margin."""
    return Columns([(Text(line, style),) for line in lines], indent=0)


def _cells(rows: Iterable[Iterable[Text | str]]) -> list[list[Text]]:
    return [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]


def _wrapped(cell: Text, width: int) -> list[Text]:
    lines = textwrap.wrap(cell.plain, max(1, width), break_long_words=False, break_on_hyphens=False)
    return [Text(line, cell.style) for line in lines] or [Text()]


def _width_on(lines: int, head: Text) -> int:
    """The smallest width at which a head takes at most so many lines."""
    narrowest = _longest_word(head)
    return next(
        (width for width in range(narrowest, _width(head)) if len(_wrapped(head, width)) <= lines), _width(head)
    )


def _width(cell: Text) -> int:
    return cell_len(cell.plain)


def _longest_word(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split()), default=0)
