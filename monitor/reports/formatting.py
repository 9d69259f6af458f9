"""Numbers and times as text, the same in every rendering of a report: terminal, messages, page. Pure."""

from datetime import datetime

from rich import filesize


def ago(moment: datetime | None, now: datetime) -> str:
    """The time since a moment, and the moment itself; "never" without one."""
    if moment is None:
        return "never"
    seconds = max(0.0, (now - moment).total_seconds())
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit} ago ({moment:%Y-%m-%d %H:%M} UTC)"
    return f"{seconds:.0f} s ago ({moment:%Y-%m-%d %H:%M} UTC)"


def signed(percent: int) -> str:
    """A number with its sign."""
    return f"+{percent}" if percent > 0 else f"−{-percent}" if percent < 0 else "±0"


def size(size_bytes: float) -> str:
    """Bytes in decimal units: `1.5 MB`."""
    return filesize.decimal(int(size_bytes))
