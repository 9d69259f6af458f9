"""The growth report as a picture: the counts, the forecast with its interval, and the original operator's projection.

matplotlib is an extra (`charts`); without it `available` is False. Only the object interface is used: `pyplot` keeps
every figure it made, and a service's memory would grow with each.
"""

import importlib.util
import io
from datetime import timedelta
from importlib import import_module

from monitor.growth import GrowthReport

AHEAD_DAYS = 30

_COUNTED, _EXPECTED, _LEGACY = "#1f4e79", "#d9822b", "#8a8a8a"


def available() -> bool:
    """True if matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def growth_chart(report: GrowthReport) -> bytes | None:
    """The picture as PNG; None if there is nothing to show, neither counts nor a forecast."""
    if len(report.history) < 2 and report.forecast is None:
        return None
    # Imported here, because it takes a second and much memory; by name, because it may not be installed.
    dates, ticker = import_module("matplotlib.dates"), import_module("matplotlib.ticker")
    figure = import_module("matplotlib.figure").Figure(figsize=(8.0, 4.5), dpi=110, layout="constrained")
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if report.history:
        times, totals = zip(*((count.at, count.total) for count in report.history), strict=True)
        axes.plot(times, totals, color=_COUNTED, label="counted")
    forecast = report.forecast
    now = forecast.made_at if forecast is not None else report.history[-1].at
    if forecast is not None:
        days = [now + timedelta(days=day) for day in range(AHEAD_DAYS + 1)]
        low, expected, high = zip(*(forecast.keys_at(day) for day in range(AHEAD_DAYS + 1)), strict=True)
        axes.fill_between(days, low, high, color=_EXPECTED, alpha=0.2, linewidth=0, label="9 in 10 within")
        axes.plot(days, expected, color=_EXPECTED, label="expected")
    for days_each, projected in report.diary.items():
        # A straight line to the number expected once every key has lived this long; the projection has no path.
        end = now + timedelta(days=int(days_each))
        axes.plot([now, end], [report.total, projected.keys], "o:", color=_LEGACY, markevery=[1], markersize=4)
        text = {"textcoords": "offset points", "xytext": (6, -3), "color": _LEGACY, "fontsize": "small"}
        axes.annotate(f"{days_each} days each", (end, projected.keys), **text)
    axes.plot([], [], color=_LEGACY, linestyle=":", label="the original operator's projection")
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
