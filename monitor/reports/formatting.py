"""Numbers and times as text, the same in every rendering of a report: terminal, messages, page. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def ago(moment: datetime | None, now: datetime, zone: tzinfo = UTC) -> str:
    """The time since a moment, and the moment itself in this time zone; "never" without one."""
    if moment is None:
        return "never"
    return f"{duration((now - moment).total_seconds())} ago ({local_time(moment, zone)})"


def local_time(moment: datetime, zone: tzinfo) -> str:
    """A moment in this time zone, with the zone's name."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number and its noun: `1 key`, `1,234 keys`; `plural` is for nouns that don't just take an s."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def signed(percent: int) -> str:
    """A number with its sign."""
    return f"+{percent}" if percent > 0 else f"−{-percent}" if percent < 0 else "±0"


def size(size_bytes: float) -> str:
    """Bytes in decimal units: `1.5 MB`. (Not by `rich.filesize`: an API worker doesn't load rich.)"""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """The values as `▁▂▅█`, oldest first, on a scale from the lowest to the highest bar.

    More values than `width` share bars; a bar shows the mean of its values. Equal values make a flat line.
    """
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(n * len(values) / count) for n in range(count + 1)]
    parts = [values[begin:end] for begin, end in pairwise(edges)]
    means = [sum(part) / len(part) for part in parts]
    least, most = min(means), max(means)
    if most == least:
        return BARS[0] * count
    return "".join(BARS[round((mean - least) / (most - least) * (len(BARS) - 1))] for mean in means)
