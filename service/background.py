"""Everything that runs beside a store until it is told to stop: sweeper, journal, watch, outbox and Telegram bot.

Two loops, so that a long sweep delays no alert and a slow look no sweep; the outbox and the bot have threads of their
own, so that an outage of Telegram delays neither. The bot polls only where the watch holds its lease: of two pollers
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
"""How often the daily records are looked at: an entry an hour is written, soon after the hour begins."""

FAREWELL_S = 1.5
"""For the notice that the service stops, and what else still waits, to be delivered."""


def sweeper_loop(store: Store, sweep_every_s: float) -> Loop:
    """The loop that sweeps the store and keeps its records; not started."""
    loop = Loop("upkeep")
    loop.every(sweep_every_s, "sweep", partial(sweep_and_log, store, loop.stopping))
    loop.every(RECORDS_EVERY_S, "daily records", partial(write_daily_records, store))
    return loop


class Background:
    """The parts that run in threads beside the API: sweeper, daily records, watch, notifier and Telegram bot."""

    def __init__(
        self,
        sweeper: Loop,
        watch: Watch,
        notifier: Outbox,
        telegram: TelegramClient | None,
        bot: Bot | None,
    ) -> None:
        """Takes over all of them: `stop` ends and closes each. `sweeper` is a loop that has its jobs already."""
        self._upkeep = sweeper
        self._watch = watch
        self._outbox = notifier
        self._api = telegram
        self._bot = bot
        self._looking = Loop("watch")
        self._looking.every(TICK_S, "watch", self._look)

    def start(self) -> None:
        """Begins."""
        self._outbox.start()
        self._upkeep.start()
        self._looking.start()

    def stop(self, within_s: float) -> bool:
        """Ends everything; returns whether it did in time. What didn't leaves nothing half-done, and dies with us."""
        give_up_at = monotonic() + within_s

        def left_s(kept_back_s: float = FAREWELL_S) -> float:
            return max(0.0, give_up_at - kept_back_s - monotonic())

        self._upkeep.stop(0)
        self._looking.stop(0)
        if self._bot is not None:
            self._bot.stop(0)
        ended = self._looking.stop(left_s())
        # Again: a look in hand may have started it once more.
        ended &= self._bot is None or self._bot.stop(left_s())
        ended &= self._upkeep.stop(left_s())
        ended &= self._watch.stop(left_s(0))
        if self._api is not None:
            self._api.close()
        return ended

    def _look(self) -> float | None:
        again_s = self._watch.tick()
        if self._bot is not None:
            if self._watch.is_holder:
                self._bot.start()
            else:
                self._bot.stop(0)
        return again_s
