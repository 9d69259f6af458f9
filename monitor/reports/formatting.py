"""Numbers and times in words, as every rendering of a report says them: terminal, messages, page. Pure."""

from datetime import datetime


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago that was, and when."""
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
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
