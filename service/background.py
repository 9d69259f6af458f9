"""The parts that run in threads beside the API: sweeper, daily records, watch, outbox and Telegram bot.

There are two loops, so that a long sweep delays no alert and a slow look no sweep. The outbox and the bot have threads
of their own, so that an outage of Telegram delays neither. The bot polls only where the watch alerts: of two pollers
with one token Telegram refuses one.
"""

from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from keystore.store import Store
from monitor.alerts.outbox import Outbox
from monitor.alerts.watch import TICK_S, Watch
from monitor.forecast.daily_records import write_daily_records
from monitor.instances import InstanceNote
from monitor.running.clock_steps import ClockLead
from monitor.running.loop import Loop
from monitor.sweeper import sweep_and_log
from monitor.telegram.bot import Bot
from monitor.telegram.chats import Chat

if TYPE_CHECKING:
    from monitor.telegram.client import TelegramClient

RECORDS_EVERY_S = 300.0
"""Interval of the job that writes one record an hour, so that it is written soon after the hour begins."""

FAREWELL_S = 1.5
"""Time reserved at the stop for the outbox to deliver the stop notice and the notices that still wait."""


def upkeep_loop(store: Store, sweep_every_s: float) -> Loop:
    """The loop that sweeps the store and writes its daily records; not started."""
    loop = Loop("upkeep")
    loop.every(sweep_every_s, "sweep", partial(sweep_and_log, store, loop.stopping, ClockLead(monotonic)))
    loop.every(RECORDS_EVERY_S, "daily records", partial(write_daily_records, store))
    return loop


@dataclass(frozen=True)
class Background:
    """All that runs beside the API; `stop` ends and closes each part. Without a Telegram token there is no bot."""

    upkeep: Loop
    watch: Watch
    outbox: Outbox[Chat]
    telegram: "TelegramClient | None"
    bot: Bot | None
    note: InstanceNote
    watching: Loop = field(default_factory=lambda: Loop("watch"))

    def start(self) -> None:
        """Start every part; the watch starts the bot once it alerts."""
        self.watching.every(TICK_S, "watch", self._tick)
        self.outbox.start()
        self.upkeep.start()
        self.watching.start()

    def stop(self, within_s: float) -> bool:
        """Stop every part; True when all ended in time. A part that didn't ends with the process, no work half-done."""
        give_up_at = monotonic() + within_s

        def left_s(reserved_s: float = FAREWELL_S) -> float:
            return max(0.0, give_up_at - reserved_s - monotonic())

        self.upkeep.stop(0)
        self.watching.stop(0)
        if self.bot is not None:
            self.bot.stop(0)
        ended = self.watching.stop(left_s())
        # Again: a look that was under way may have started it once more.
        ended &= self.bot is None or self.bot.stop(left_s())
        ended &= self.upkeep.stop(left_s())
        self.note.remove()
        ended &= self.watch.stop(left_s(0))
        if self.telegram is not None:
            self.telegram.close()
        return ended

    def _tick(self) -> float | None:
        again_s = self.watch.tick()
        self.note.renew(alerting=self.watch.is_alerting)
        if self.bot is not None and self.watch.is_alerting:
            self.bot.start()
        elif self.bot is not None:
            self.bot.stop(0)
        return again_s
