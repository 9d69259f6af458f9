"""The report's charts: bars as table rows, which are their own table of numbers, and lines by matplotlib as inline SVG.

Both take their colours from the page, so that they are light or dark as it is.
"""

import importlib.util
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module

from bench.report.page import Markup, tag
from keystore.errors import KeystoreError

STAND_INS = {"ink": "#010101", "line": "#020202", "ours": "#030303", "bare": "#040404", "diary": "#050505"}
"""What matplotlib paints with, and the page's colour that each is replaced by."""

SIZE_INCHES = (5.6, 3.5)
"""Small, so that its letters can be read on a telephone."""

SVG = {"svg.fonttype": "none", "font.size": 12}
"""Letters that the page's reader can select and search."""

NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: its name, how long, whose (a colour of the page), and what is written beside it.

    `more` is written smaller.
    """

    name: str
    value: float
    whose: str
    told: str
    more: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a chart: `(x, y)` after `(x, y)`."""

    name: str
    points: Sequence[tuple[float, float]]
    whose: str
    dashed: bool = False


@dataclass(frozen=True)
class Limit:
    """A level that is not to be passed."""

    name: str
    value: float


def bars(caption: str, of: Sequence[Bar], mark: float | None = None, longest: float = 0.0) -> Markup:
    """Horizontal bars from 0 on one scale, which reaches to `longest` at least; with a line at `mark`."""
    end = max([longest, mark or 0.0, *(bar.value for bar in of)]) or 1.0
    at_mark = [] if mark is None else [tag("b", style=f"left: {100 * mark / end:.2f}%")]
    rows = []
    for bar in of:
        length = tag("i", style=f"width: {100 * bar.value / end:.2f}%; background: var(--{bar.whose})")
        track = tag("span", length, *at_mark, of="track", aria_hidden="true")
        more = [" ", tag("small", bar.more)] if bar.more else []
        told = tag("td", bar.told, *more, of="number")
        rows.append(tag("tr", tag("th", bar.name, scope="row"), tag("td", track, of="bar"), told))
    return tag("table", tag("caption", caption), tag("tbody", *rows), of="bars")


def lines(title: str, x: str, y: str, of: Sequence[Line], limit: Limit | None = None, *, log: bool = False) -> Markup:
    """Lines over a common x, with a tick at each x; `log` spreads those by their logarithm. Raises KeystoreError."""
    if importlib.util.find_spec("matplotlib") is None:
        raise KeystoreError("no matplotlib here, which draws the lines: pip install -e '.[bench]'")
    ink, grid = STAND_INS["ink"], STAND_INS["line"]
    # By name: it is an extra.
    with import_module("matplotlib").rc_context(SVG | {"svg.hashsalt": title}):
        figure = import_module("matplotlib.figure").Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        if limit is not None:
            axes.axhline(limit.value, color=ink, linestyle=":", linewidth=1.5, label=limit.name)
        for line in of:
            xs, ys = zip(*line.points, strict=True)
            dashes = "--" if line.dashed else "-"
            axes.plot(xs, ys, dashes, color=STAND_INS[line.whose], linewidth=2.2, marker="o", label=line.name)
        ticks = sorted({at for line in of for at, _ in line.points})
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(ticks, [f"{at:,g}" if at < 1_000 else f"{at:,.0f}" for at in ticks])
        axes.yaxis.set_major_formatter(import_module("matplotlib.ticker").StrMethodFormatter("{x:,g}"))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x, color=ink)
        axes.set_ylabel(y, color=ink)
        axes.tick_params(colors=ink, length=0)
        axes.grid(axis="y", color=grid, linewidth=1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(grid)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=ink, fontsize=11)
        svg = io.StringIO()
        figure.savefig(svg, format="svg", transparent=True, metadata=NO_METADATA)
    return tag("figure", _inline(svg.getvalue(), title))


def _inline(svg: str, title: str) -> Markup:
    """matplotlib's document as an element of a page: without its head, in the page's colours, with a title."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", svg, count=5)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))
