"""The report's charts: bars, which the template draws as table rows, and lines, by matplotlib as inline SVG.

Both take their colours from the page, so that they are light or dark as it is.
"""

import importlib.util
import io
import re
from collections.abc import Sequence
from importlib import import_module

from markupsafe import Markup, escape
from msgspec import Struct

from bench.limits import Limit
from keystore.errors import KeystoreError

STAND_INS = {"ink": "#010101", "line": "#020202", "ours": "#030303", "bare": "#040404", "legacy": "#050505"}
"""The colours that matplotlib paints with, by the name of the page's colour that replaces each."""


class Bar(Struct, frozen=True):
    """One bar of a chart: its name, its length, its colour of the page, and its labels."""

    name: str
    value: float
    colour: str
    label: str
    small_label: str = ""


class Bars(Struct, frozen=True):
    """Horizontal bars from 0 on one scale, which reaches at least to `longest`, with a line at `mark`."""

    caption: str
    bars: Sequence[Bar]
    mark: float | None = None
    longest: float = 0.0

    def percent(self, value: float) -> str:
        """The place of a value on the scale, for CSS."""
        end = max([self.longest, self.mark or 0.0, *(bar.value for bar in self.bars)]) or 1.0
        return f"{100 * value / end:.2f}"


class Line(Struct, frozen=True):
    """One line of a chart through these points `(x, y)`, in a colour of the page."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


def drawing(
    title: str, x: str, y: str, lines: Sequence[Line], limit: Limit | None = None, *, log: bool = False
) -> Markup:
    """Lines over a common x with a tick at each x, as SVG; `log` makes the x axis logarithmic.

    Raises KeystoreError if matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise KeystoreError("no matplotlib here, which draws the lines: pip install -e '.[bench]'")
    ink, grid = STAND_INS["ink"], STAND_INS["line"]
    # Imported by name, since matplotlib is an optional dependency.
    # "none" writes text that the reader can select and search; letters of the small size can be read on a telephone.
    with import_module("matplotlib").rc_context({"svg.fonttype": "none", "font.size": 12, "svg.hashsalt": title}):
        figure = import_module("matplotlib.figure").Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        if limit is not None:
            label = f"limit, {limit.value:g} {limit.unit}"
            axes.axhline(limit.value, color=ink, linestyle=":", linewidth=1.5, label=label)
        for line in lines:
            xs, ys = zip(*line.points, strict=True)
            dashes = "--" if line.dashed else "-"
            axes.plot(xs, ys, dashes, color=STAND_INS[line.colour], linewidth=2.2, marker="o", label=line.name)
        ticks = sorted({at for line in lines for at, _ in line.points})
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
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=no_metadata)
    return _inline(svg.getvalue(), title)


def _inline(svg: str, title: str) -> Markup:
    """matplotlib's SVG as an element of the page: without its head, in the page's colours, with a title."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", svg, count=5)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    # matplotlib has escaped its texts.
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))  # noqa: S704
