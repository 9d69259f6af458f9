"""Detects that the wall clock was set: by NTP, by hand, or after a virtual machine was paused.

The wall clock is compared with a monotonic one. Summer time is no step: all times are in UTC.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

SMALLEST_STEP = timedelta(seconds=1)
"""Difference from which on a clock was set. NTP corrects a running clock by far less between two looks."""


class ClockSteps:
    """The steps of one wall clock; `ticks` is a monotonic clock in seconds."""

    def __init__(self, now: datetime, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._last = now, ticks()

    def since_last(self, now: datetime) -> timedelta:
        """The step of the wall clock since the last call, negative where it was set back; usually zero."""
        ticks = self._ticks()
        last_now, last_ticks = self._last
        self._last = now, ticks
        step = (now - last_now) - timedelta(seconds=ticks - last_ticks)
        return step if abs(step) >= SMALLEST_STEP else timedelta(0)


class ClockLead:
    """The lead that a wall clock has by its steps over the time that passed. It falls to 0 as time passes.

    A clock that was set back and ahead again has no lead.
    """

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._steps: ClockSteps | None = None
        self._lead = timedelta(0)
        self._last_ticks = ticks()

    def lead(self, now: datetime) -> timedelta:
        """The lead at this time of the wall clock, negative where it was set back."""
        if self._steps is None:
            self._steps = ClockSteps(now, self._ticks)
        ticks = self._ticks()
        passed = timedelta(seconds=ticks - self._last_ticks)
        self._last_ticks = ticks
        self._lead = max(min(self._lead, timedelta(0)), self._lead - passed) + self._steps.since_last(now)
        return self._lead


class EventAge:
    """The age of the latest event of a kind, which no step of the wall clock changes once the event was seen."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._event_at: datetime | None = None
        self._age_s = self._seen_at = 0.0

    def seconds(self, event_at: datetime, now: datetime) -> float:
        """The age of the event of this time. By the wall clock when it is new, and from then on by the monotonic one.

        An event in the future has the age 0: the clock was set back since.
        """
        if event_at != self._event_at:
            self._event_at, self._seen_at = event_at, self._ticks()
            self._age_s = max(0.0, (now - event_at).total_seconds())
        return self._age_s + self._ticks() - self._seen_at
