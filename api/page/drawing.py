"""The status page's charts, as inline SVG: pure functions of their values.

Colours are CSS classes, which the page's style sheet defines for light and dark. Each chart is also described in words,
for readers who hear the page. All text goes through MarkupSafe, which escapes it.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from math import ceil, floor, log10

from markupsafe import Markup

from keystore.records import SweepRun
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import TableCount

AHEAD_DAYS = 30
FEWEST_SWEEPS = 3
WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 26
"""Margins of a chart, in which the labels of its axes stand."""

LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
RECT = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>')
PATH = Markup('<path class="{}" d="{}"/>')


def growth_chart(
    history: Sequence[TableCount], total: int, now: datetime, forecast: Forecast | None, zone: tzinfo = UTC
) -> Markup | None:
    """Return a chart of the counted totals, and of the forecast with its band; None if there is too little to draw."""
    if len(history) < 2 and forecast is None:
        return None
    begin = min([count.at for count in history] + [now])
    end = now + timedelta(days=AHEAD_DAYS if forecast is not None else 0)
    ahead = [] if forecast is None else [forecast.keys_at(day) for day in range(AHEAD_DAYS + 1)]
    highest = max([count.total for count in history] + [total] + [high for *_, high in ahead])
    parts, y = _vertical_axis(highest, HEIGHT - BOTTOM)
    span_s = max(1.0, (end - begin).total_seconds())

    def x(at: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - begin).total_seconds() / span_s

    if ahead:
        days = [x(now + timedelta(days=day)) for day in range(AHEAD_DAYS + 1)]
        lines = zip(*ahead, strict=True)
        lower, expected, upper = ([(at, y(keys)) for at, keys in zip(days, line, strict=True)] for line in lines)
        parts.append(PATH.format("band", _path([*upper, *reversed(lower)]) + "Z"))
        parts.append(PATH.format("expected", _path(expected)))
        parts.append(LINE.format("now", x(now), TOP, x(now), HEIGHT - BOTTOM))
    counted = [(x(count.at), y(count.total)) for count in history]
    parts.append(PATH.format("counted", _path([*counted, (x(now), y(total))])))
    parts += _date_labels(begin.astimezone(zone), now, end.astimezone(zone), x)
    caption = f"Now {total:,} keys."
    if history:
        first_at = history[0].at.astimezone(zone)
        since = f"{first_at:{date_form(now - first_at)}}"
        caption = f"From {history[0].total:,} keys ({since}) to {total:,} now."
    if forecast is not None:
        low, middle, high = forecast.keys_at(AHEAD_DAYS)
        caption += f" In {AHEAD_DAYS} days about {middle:,} are expected, {low:,} to {high:,}."
    return _picture("growth-chart", WIDTH, HEIGHT, "Keys in the table over time", caption, parts)


def sparkline(values: Sequence[float], title: str) -> Markup:
    """Return a small line of values, oldest first, with 0 at the bottom; nothing for fewer than two values."""
    if len(values) < 2:
        return Markup("")
    width, height, most = 96, 22, max(*values, 1)
    points = [
        (1 + (width - 2) * n / (len(values) - 1), height - 2 - (height - 4) * value / most)
        for n, value in enumerate(values)
    ]
    caption = f"from {values[0]:,.0f} to {values[-1]:,.0f}"
    return _picture("sparkline", width, height, title, caption, [PATH.format("counted", _path(points))])


def stacked_bar(segments: Iterable[tuple[str, int]], most: int, title: str) -> Markup:
    """Return a stacked bar of `(css_class, keys)` segments; `most` keys fill the full width."""
    width, height, left = 160.0, 14.0, 0.0
    drawn, labels = [], []
    for name, keys in segments:
        if keys:
            length = max(1.5, width * keys / max(1, most))
            labels.append(f"{keys:,} {name}")
            drawn.append(RECT.format(name, left, 0, min(length, width - left), height, labels[-1]))
            left += length
    return _picture("share", int(width), int(height), title, ", ".join(labels) or "none", drawn, stretched=True)


def share_bar(share: float) -> Markup:
    """Return a small bar for a used share, with the colour of trouble in its last tenth."""
    width, height = 90, 8
    name = "within" if share < 0.9 else "over"
    parts = [
        RECT.format("track", 0, 0, width, height, ""),
        RECT.format(name, 0, 0, max(1.5, width * min(1.0, share)), height, ""),
    ]
    return _picture("memory-bar", width, height, "Heap used", f"{share:.0%} of its limit", parts)


def budget_bar(took_ms: float, budget_ms: float) -> Markup:
    """Return a bar for a time, with a mark at its budget; beyond the mark the bar has another colour."""
    width, height, top, bar = 480, 46, 4, 18
    scale_ms = max(budget_ms * 1.25, took_ms * 1.05)
    mark, length = width * budget_ms / scale_ms, max(3.0, width * took_ms / scale_ms)
    caption = f"{took_ms:,.1f} ms of {budget_ms:,.0f} ms"
    parts = [
        RECT.format("track", 0, top, width, bar, caption),
        RECT.format("over" if took_ms > budget_ms else "within", 0, top, length, bar, caption),
        LINE.format("budget", mark, 0, mark, top + bar + 4),
        TEXT.format("label end", min(mark, width), height - 5, f"budget {budget_ms:,.0f} ms"),
    ]
    return _picture("budget-bar", width, height, "Time of a load against its budget", caption, parts)


def sweep_chart(runs: Sequence[SweepRun], zone: tzinfo = UTC) -> Markup | None:
    """Return a chart of the keys that each sweep deleted; None if there are too few sweeps. `runs` are newest first."""
    if len(runs) < FEWEST_SWEEPS:
        return None
    height = 150
    drawn = runs[::-1]
    slot = (WIDTH - LEFT - RIGHT) / max(len(drawn), 12)
    floor_y = height - BOTTOM
    parts, y = _vertical_axis(max(run.deleted for run in runs), floor_y)
    for n, run in enumerate(drawn):
        left = LEFT + n * slot + slot * 0.15
        outcome = "failed" if run.error else "unfinished" if run.finished_at is None else "deleted"
        title = f"{run.started_at.astimezone(zone):%Y-%m-%d %H:%M %Z}: {run.deleted:,} deleted" + (
            ", failed" if run.error else ""
        )
        # A minimum height makes a sweep visible that found nothing, and a failed one stands out.
        bar_height = max(18.0 if run.error else 2.0, floor_y - y(run.deleted))
        parts.append(RECT.format(outcome, left, floor_y - bar_height, slot * 0.7, bar_height, title))
    parts.append(TEXT.format("label", LEFT, height - 8, f"{drawn[0].started_at.astimezone(zone):%d %b %H:%M}"))
    if len(drawn) > 6:
        end = LEFT + len(drawn) * slot
        last_at = drawn[-1].started_at.astimezone(zone)
        parts.append(TEXT.format("label end", end, height - 8, f"{last_at:%d %b %H:%M}"))
    failures = sum(1 for run in runs if run.error)
    caption = f"{len(runs)} sweeps, {sum(run.deleted for run in runs):,} keys deleted, {failures} failed."
    return _picture("sweep-chart", WIDTH, height, "Keys deleted by each sweep", caption, parts)


def axis_ticks(highest: float, intervals: int = 4) -> list[float]:
    """Return round numbers from 0 to `highest` or just above it, in about so many intervals."""
    rough = max(1.0, highest) / intervals
    size = 10 ** floor(log10(rough))
    step = max(1.0, next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough))
    return [step * n for n in range(ceil(max(1.0, highest) / step) + 1)]


def date_form(period: timedelta) -> str:
    """Return the format of the first time of a period: a time of day for a short one, else a date."""
    return "%H:%M" if period < timedelta(hours=20) else "%d %b %H:%M" if period < timedelta(days=3) else "%d %b"


def short(keys: float) -> str:
    """Return a number in few characters: 950, 1.5k, 20k, 3M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if keys >= size:
            return f"{keys / size:.3g}{unit}"
    return f"{keys:g}"


def _picture(
    name: str, width: int, height: int, title: str, caption: str, parts: Iterable[Markup], *, stretched: bool = False
) -> Markup:
    """Return an SVG element; if `stretched`, it fills its container without keeping its proportions."""
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="{}" role="img" aria-label="{}">{}</svg>'
    ).format(name, width, height, "none" if stretched else "xMidYMid", f"{title}: {caption}", Markup("").join(parts))


def _vertical_axis(highest: float, floor_y: float) -> tuple[list[Markup], Callable[[float], float]]:
    """Return the grid from 0, at `floor_y`, to `highest`, and the function that places a number of keys on it."""
    ticks = axis_ticks(highest)

    def y(keys: float) -> float:
        return floor_y - (floor_y - TOP) * keys / max(1, ticks[-1])

    lines = [LINE.format("grid", LEFT, y(tick), WIDTH - RIGHT, y(tick)) for tick in ticks]
    return lines + [TEXT.format("label end", LEFT - 6, y(tick) + 4, short(tick)) for tick in ticks], y


def _date_labels(begin: datetime, now: datetime, end: datetime, x: Callable[[datetime], float]) -> Iterable[Markup]:
    """Return the dates at both ends, and "today" between them if there is room for it."""
    base = HEIGHT - 8
    labels = [TEXT.format("label", LEFT, base, f"{begin:{date_form(now - begin)}}")]
    if end > now:
        labels.append(TEXT.format("label end", WIDTH - RIGHT, base, f"{end:%d %b}"))
        if x(now) - LEFT > 70 and WIDTH - RIGHT - x(now) > 70:
            labels.append(TEXT.format("label middle", x(now), base, "today"))
    else:
        labels.append(TEXT.format("label end", WIDTH - RIGHT, base, "now"))
    return labels


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
