"""A watch for the tests, with every message in a list."""

import threading
from datetime import UTC, datetime, time, timedelta, tzinfo

from keystore.store import Store
from monitor.alerts.memory import Limit, ProcessMemory
from monitor.alerts.outbox import Outbox
from monitor.alerts.watch import Watch
from monitor.sweeper import sweep
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START, Clock

CHAT = 11
EVERY_S = 6 * 3_600.0
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Watched:
    """A watch on a clock that a test moves; `messages` is what the operator reads."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        load_budget_ms: float = 60_000,
        summary_at: time | None = None,
        zone: tzinfo | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self._steps = timedelta(0)
        self.messages: list[str] = []
        self.failing: Exception | None = None
        self.used_share = 0.5
        self.outbox = Outbox(self._deliver, [CHAT], clock=clock, ticks=self._ticks)
        self.watch = Watch(
            store,
            self.outbox,
            WatchSettings(
                EVERY_S, load_budget_ms, zone=zone or UTC, summary_at=summary_at, version="1.2.3", name="bots"
            ),
            clock=clock,
            ticks=self._ticks,
            process_memory=self._memory,
        )

    def look(self, times: int = 1, every: timedelta = MINUTE) -> list[str]:
        """Look `times` times, each after `every`; the messages sent meanwhile."""
        before = len(self.messages)
        for _ in range(times):
            self.clock.advance(every)
            self.watch.tick()
            self.outbox.deliver_due()
        return self.messages[before:]

    def clock_is_set(self, step: timedelta) -> None:
        """Set the wall clock, while no time passes."""
        self.clock.advance(step)
        self._steps += step

    def settled(self) -> "Watched":
        """The watch after a sweep and its first look, with their messages forgotten."""
        sweep(self.store)
        self.look()
        self.messages.clear()
        return self

    def _deliver(self, _: int, text: str) -> None:
        if self.failing is not None:
            raise self.failing
        self.messages.append(text)

    def _ticks(self) -> float:
        return (self.clock() - self._steps).timestamp()

    def _memory(self) -> ProcessMemory:
        rss = round(self.used_share * 1_000_000_000)
        return ProcessMemory(rss, rss, rss // 2, Limit(1_000_000_000, "its control group (v2)"))


class Blocked:
    """A delivery that doesn't return until `release` is set."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()

    def __call__(self, chat: int, text: str) -> None:
        self.began.set()
        self.release.wait(60)


def at(hour: int, minute: int = 0, day: int = 8) -> datetime:
    """A moment of October 2025."""
    return START.replace(day=day, hour=hour, minute=minute, second=0, microsecond=0)
