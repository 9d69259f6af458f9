"""The status page's pictures, as inline SVG. Pure.

Colours are classes that the page's style gives a light and a dark form; what a picture shows is also said in its
description, for those who hear the page. Everything goes through MarkupSafe, which escapes what it is given.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil, floor, log10

from markupsafe import Markup

from keystore.records import SweepRun
from monitor.forecast.forecast import Forecast
from monitor.forecast.history import TableCount

AHEAD_DAYS = 30
FEWEST_SWEEPS = 3
WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 26
"""Room for the numbers of the axes."""

LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
RECT = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>')
PATH = Markup('<path class="{}" d="{}"/>')

Point = tuple[float, float]


def growth(history: Sequence[TableCount], total: int, now: datetime, forecast: Forecast | None) -> Markup | None:
    """What was counted, and what is expected with its band; None where there is too little for a line."""
    if len(history) < 2 and forecast is None:
        return None
    begin = min([count.at for count in history] + [now])
    end = now + timedelta(days=AHEAD_DAYS if forecast is not None else 0)
    ahead = [] if forecast is None else [(day, *forecast.keys_at(day)) for day in range(AHEAD_DAYS + 1)]
    highest = max([count.total for count in history] + [total] + [high for *_, high in ahead])
    steps = ticks(highest)
    span_s = max(1.0, (end - begin).total_seconds())

    def x(at: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - begin).total_seconds() / span_s

    def y(keys: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * keys / max(1, steps[-1])

    parts = [*_levels(steps, y)]
    if ahead:
        days = [x(now + timedelta(days=day)) for day, *_ in ahead]
        upper = [(at, y(high)) for at, (_, _, _, high) in zip(days, ahead, strict=True)]
        lower = [(at, y(low)) for at, (_, low, _, _) in zip(days, ahead, strict=True)]
        expected = [(at, y(middle)) for at, (_, _, middle, _) in zip(days, ahead, strict=True)]
        parts += [
            PATH.format("band", _path([*upper, *reversed(lower)]) + "Z"),
            PATH.format("expected", _path(expected)),
        ]
        parts += [LINE.format("now", x(now), TOP, x(now), HEIGHT - BOTTOM)]
    counted = [(x(count.at), y(count.total)) for count in history]
    parts.append(PATH.format("counted", _path([*counted, (x(now), y(total))])))
    parts += _dates(begin, now, end, x)
    said = f"Now {total:,} keys."
    if history:
        said = f"From {history[0].total:,} keys on {history[0].at:%d %B} to {total:,} now."
    if forecast is not None:
        low, middle, high = forecast.keys_at(AHEAD_DAYS)
        said += f" In {AHEAD_DAYS} days about {middle:,} are expected, {low:,} to {high:,}."
    return _picture("growth-chart", WIDTH, HEIGHT, "Keys in the table over time", said, parts)


def sparkline(values: Sequence[float], title: str) -> Markup:
    """A small line of values, oldest first, from 0 up; nothing for fewer than two."""
    if len(values) < 2:
        return Markup("")
    width, height, most = 96, 22, max(*values, 1)
    points = [
        (1 + (width - 2) * n / (len(values) - 1), height - 2 - (height - 4) * value / most)
        for n, value in enumerate(values)
    ]
    said = f"from {values[0]:,.0f} to {values[-1]:,.0f}"
    return _picture("sparkline", width, height, title, said, [PATH.format("counted", _path(points))])


def share(parts: Iterable[tuple[str, int]], most: int, title: str) -> Markup:
    """One bar, `(class, keys)` after each other, of which `most` fill it."""
    width, height, left = 160.0, 14.0, 0.0
    drawn = []
    told = []
    for name, keys in parts:
        if keys:
            length = max(1.5, width * keys / max(1, most))
            drawn.append(RECT.format(name, left, 0, min(length, width - left), height, f"{keys:,} {name}"))
            told.append(f"{keys:,} {name}")
            left += length
    return _picture("share", int(width), int(height), title, ", ".join(told) or "none", drawn, stretched=True)


def against_budget(took_ms: float, budget_ms: float) -> Markup:
    """A time beside what it may be: the bar turns another colour beyond the mark."""
    width, height, top, bar = 480, 46, 4, 18
    scale_ms = max(budget_ms * 1.25, took_ms * 1.05)

    def x(ms: float) -> float:
        return width * ms / scale_ms

    over = took_ms > budget_ms
    said = f"{took_ms:,.1f} ms of {budget_ms:,.0f} ms"
    mark = x(budget_ms)
    parts = [
        RECT.format("track", 0, top, width, bar, said),
        RECT.format("over" if over else "within", 0, top, max(3.0, x(took_ms)), bar, said),
        LINE.format("budget", mark, 0, mark, top + bar + 4),
        TEXT.format("label end", min(mark, width), height - 5, f"budget {budget_ms:,.0f} ms"),
    ]
    return _picture("budget-bar", width, height, "Time of a load against its budget", said, parts)


def sweeps(runs: Sequence[SweepRun]) -> Markup | None:
    """How many keys each of the sweeps (newest first) deleted, in their order; None for so few that a table says it."""
    if len(runs) < FEWEST_SWEEPS:
        return None
    steps = ticks(max(run.deleted for run in runs))
    height = 150
    drawn = list(reversed(runs))
    room = (WIDTH - LEFT - RIGHT) / max(len(drawn), 12)
    floor_y = height - BOTTOM

    def y(keys: float) -> float:
        return floor_y - (floor_y - TOP) * keys / max(1, steps[-1])

    parts = [*_levels(steps, y)]
    for n, run in enumerate(drawn):
        left = LEFT + n * room + room * 0.15
        outcome = "failed" if run.error else "unfinished" if run.finished_at is None else "deleted"
        told = f"{run.started_at:%Y-%m-%d %H:%M} UTC: {run.deleted:,} deleted" + (", failed" if run.error else "")
        # A sweep that found nothing is seen to have run, and one that failed stands out whatever it deleted.
        least = 18.0 if run.error else 2.0
        tall = max(least, floor_y - y(run.deleted))
        parts.append(RECT.format(outcome, left, floor_y - tall, room * 0.7, tall, told))
    parts.append(TEXT.format("label", LEFT, height - 8, f"{drawn[0].started_at:%d %b %H:%M}"))
    if len(drawn) > 6:
        end = LEFT + len(drawn) * room
        parts.append(TEXT.format("label end", end, height - 8, f"{drawn[-1].started_at:%d %b %H:%M}"))
    failures = sum(1 for run in runs if run.error)
    said = f"{len(runs)} sweeps, {sum(run.deleted for run in runs):,} keys deleted, {failures} failed."
    return _picture("sweep-chart", WIDTH, height, "Keys deleted by each sweep", said, parts)


def ticks(highest: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to `highest` or just above it, about so many apart."""
    rough = max(1.0, highest) / wanted
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    step = max(1.0, step)
    return [step * n for n in range(ceil(max(1.0, highest) / step) + 1)]


def short(keys: float) -> str:
    """A number in few characters: 950, 1.5k, 20k, 3M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if keys >= size:
            return f"{keys / size:.3g}{unit}"
    return f"{keys:g}"


def _picture(
    name: str, width: int, height: int, title: str, said: str, parts: Iterable[Markup], *, stretched: bool = False
) -> Markup:
    """`stretched`: it fills whatever room it is given, out of proportion."""
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="{}" role="img" aria-label="{}">{}</svg>'
    ).format(name, width, height, "none" if stretched else "xMidYMid", f"{title}: {said}", Markup("").join(parts))


def _levels(steps: Sequence[float], y: Callable[[float], float]) -> Iterable[Markup]:
    for step in steps:
        yield LINE.format("grid", LEFT, y(step), WIDTH - RIGHT, y(step))
        yield TEXT.format("label end", LEFT - 6, y(step) + 4, short(step))


def _dates(begin: datetime, now: datetime, end: datetime, x: Callable[[datetime], float]) -> Iterable[Markup]:
    """The days at both ends, and today between them where there is room for it."""
    base = HEIGHT - 8
    told = [TEXT.format("label", LEFT, base, f"{begin:%d %b}")]
    if end > now:
        told.append(TEXT.format("label end", WIDTH - RIGHT, base, f"{end:%d %b}"))
        if x(now) - LEFT > 70 and WIDTH - RIGHT - x(now) > 70:
            told.append(TEXT.format("label middle", x(now), base, "today"))
    else:
        told.append(TEXT.format("label end", WIDTH - RIGHT, base, "now"))
    return told


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
