"""Times that a database holds, as Python has them.

A database can hold times of years that Python has not. A row with one may have been written by another program, or by
an old import. It is shown with the earliest or latest time, so that it takes no report of all rows down.
"""

from datetime import UTC, date, datetime, timedelta

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)
"""A day within Python's limits, so that each time zone has a time for them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = ((limit - _EPOCH) // timedelta(microseconds=1) for limit in (EARLIEST, LATEST))


def time_of(microseconds: int) -> datetime:
    """Return the time that is so many microseconds after the beginning of 1970, or the nearest that can be shown."""
    return _EPOCH + timedelta(microseconds=min(max(microseconds, _FIRST), _LAST))


def day_of(days: int) -> date:
    """Return the day that is so many days after the first of 1970, or the nearest that can be shown."""
    return time_of(days * 86_400_000_000).date()
