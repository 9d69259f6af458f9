"""The growth report as a picture: what was counted, what is expected with its interval, and the diary's projection.

matplotlib is an extra (`charts`); without it `available` is False. The object interface alone is used: `pyplot` keeps
every figure it made, and a service's memory would grow with each.
"""

import importlib.util
import io
from datetime import timedelta
from importlib import import_module

from monitor.growth import GrowthReport

AHEAD_DAYS = 30
FEWEST_COUNTS = 2
"""One is a point, and no line."""

SIZE_INCHES = (8.0, 4.5)
DOTS_PER_INCH = 110

_COUNTED, _EXPECTED, _DIARY = "#1f4e79", "#d9822b", "#8a8a8a"


def available() -> bool:
    """Whether pictures can be made here."""
    return importlib.util.find_spec("matplotlib") is not None


def growth_chart(report: GrowthReport) -> bytes | None:
    """The picture as PNG; None where nothing was counted and nothing is expected, so that there is nothing to see."""
    if len(report.history) < FEWEST_COUNTS and report.forecast is None:
        return None
    # Here, since it takes a second and memory that only a chart is worth; by name, since it may not be there.
    dates, ticker = import_module("matplotlib.dates"), import_module("matplotlib.ticker")
    figure = import_module("matplotlib.figure").Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if report.history:
        axes.plot(
            [one.at for one in report.history], [one.total for one in report.history], color=_COUNTED, label="counted"
        )
    forecast = report.forecast
    now = forecast.made_at if forecast is not None else report.history[-1].at
    if forecast is not None:
        days = [now + timedelta(days=day) for day in range(AHEAD_DAYS + 1)]
        low, expected, high = zip(*(forecast.keys_at(day) for day in range(AHEAD_DAYS + 1)), strict=True)
        axes.fill_between(days, low, high, color=_EXPECTED, alpha=0.2, linewidth=0, label="9 in 10 within")
        axes.plot(days, expected, color=_EXPECTED, label="expected")
    for lived, projected in report.diary.items():
        # A straight way to where it would stand once every key has lived so long: it says no more than that.
        axes.plot(
            [now, now + timedelta(days=int(lived))],
            [report.total, projected.keys],
            color=_DIARY,
            linestyle=":",
            marker="o",
            markevery=[1],
            markersize=4,
        )
        axes.annotate(
            f"{lived} days each",
            (now + timedelta(days=int(lived)), projected.keys),
            textcoords="offset points",
            xytext=(6, -3),
            color=_DIARY,
            fontsize="small",
        )
    axes.plot([], [], color=_DIARY, linestyle=":", label="the diary's projection")
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_title("Keys in the table", loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", frameon=False, fontsize="small")
    png = io.BytesIO()
    canvas.print_png(png)
    return png.getvalue()
