"""The parts that run in threads beside the API: sweeper, daily records, watch, outbox and Telegram bot.

There are two loops, so that a long sweep delays no alert and a slow look no sweep. The outbox and the bot have threads
of their own, so that an outage of Telegram delays neither. The bot polls only where the watch alerts: of two pollers
with one token Telegram refuses one.
"""

from functools import partial
from time import monotonic

from keystore.store import Store
from monitor.alerts.outbox import Outbox
from monitor.alerts.watch import TICK_S, Watch
from monitor.forecast.daily_records import write_daily_records
from monitor.running.loop import Loop
from monitor.sweeper import sweep_and_log
from monitor.telegram.bot import Bot
from monitor.telegram.client import TelegramClient

RECORDS_EVERY_S = 300.0
"""Interval of the job that writes one record an hour, so that it is written soon after the hour begins."""

FAREWELL_S = 1.5
"""Time reserved at the stop for the outbox to deliver the stop notice and the notices that still wait."""


def upkeep_loop(store: Store, sweep_every_s: float) -> Loop:
    """The loop that sweeps the store and writes its daily records; not started."""
    loop = Loop("upkeep")
    loop.every(sweep_every_s, "sweep", partial(sweep_and_log, store, loop.stopping))
    loop.every(RECORDS_EVERY_S, "daily records", partial(write_daily_records, store))
    return loop


class Background:
    """The upkeep loop, the watch and its loop, the outbox, and where there is a Telegram token the bot."""

    def __init__(
        self, upkeep: Loop, watch: Watch, outbox: Outbox, telegram: TelegramClient | None, bot: Bot | None
    ) -> None:
        """Takes over all of them: `stop` ends and closes each. `upkeep` has its jobs already."""
        self._upkeep = upkeep
        self._watch = watch
        self._outbox = outbox
        self._telegram = telegram
        self._bot = bot
        self._watching = Loop("watch")
        self._watching.every(TICK_S, "watch", self._tick)

    def start(self) -> None:
        """Start every part; the watch starts the bot once it alerts."""
        self._outbox.start()
        self._upkeep.start()
        self._watching.start()

    def stop(self, within_s: float) -> bool:
        """Stop every part; True when all ended in time. A part that didn't ends with the process, no work half-done."""
        give_up_at = monotonic() + within_s

        def left_s(reserved_s: float = FAREWELL_S) -> float:
            return max(0.0, give_up_at - reserved_s - monotonic())

        self._upkeep.stop(0)
        self._watching.stop(0)
        if self._bot is not None:
            self._bot.stop(0)
        ended = self._watching.stop(left_s())
        # Again: a look that was under way may have started it once more.
        ended &= self._bot is None or self._bot.stop(left_s())
        ended &= self._upkeep.stop(left_s())
        ended &= self._watch.stop(left_s(0))
        if self._telegram is not None:
            self._telegram.close()
        return ended

    def _tick(self) -> float | None:
        again_s = self._watch.tick()
        if self._bot is not None:
            if self._watch.is_alerting:
                self._bot.start()
            else:
                self._bot.stop(0)
        return again_s
