"""Everything that runs beside a store until it is told to stop: sweeper, journal, watch, outbox and Telegram bot.

Two loops, so that a long sweep delays no alert and a slow look no sweep; the outbox and the bot have threads of their
own, so that an outage of Telegram delays neither. The bot polls only where the watch holds its lease: of two pollers
with one token Telegram refuses one.
"""

from datetime import UTC, datetime, time, tzinfo
from functools import partial
from time import monotonic

from keystore.store import Store
from monitor.alerts import mute
from monitor.alerts.outbox import Outbox
from monitor.alerts.watch import TICK_S, Watch
from monitor.forecast.daily_records import write_journal
from monitor.running.loop import Loop
from monitor.sweeper import sweep_and_log
from monitor.telegram.access import TelegramAccess
from monitor.telegram.api import TelegramApi
from monitor.telegram.bot import Bot
from monitor.telegram.delivery import delivery
from monitor.telegram.desk import desk_of
from monitor.telegram.offsets import offsets_in

JOURNAL_EVERY_S = 300.0
"""An entry an hour is written, soon after the hour begins."""

FAREWELL_S = 1.5
"""For the notice that the service stops, and what else still waits, to be delivered."""


class Service:
    """The running service on one store, which stays its caller's to close."""

    def __init__(
        self,
        store: Store,
        *,
        sweep_every_s: float,
        load_budget_ms: float,
        memory_alert_percent: float,
        zone: tzinfo,
        summary_at: time | None,
        version: str,
        telegram: TelegramAccess | None,
    ) -> None:
        self._api = None if telegram is None else TelegramApi(telegram.token, telegram.api_url)
        chats = () if telegram is None else telegram.chats
        deliver = _nobody if self._api is None else delivery(self._api)
        self._outbox = Outbox(deliver, chats, zone=zone)
        self._watch = Watch(
            store,
            self._outbox,
            load_budget_ms=load_budget_ms,
            sweep_every_s=sweep_every_s,
            memory_alert_percent=memory_alert_percent,
            zone=zone,
            summary_at=summary_at,
            version=version,
        )
        self._upkeep, self._looking = Loop("upkeep"), Loop("watch")
        self._upkeep.every(sweep_every_s, "sweep", partial(sweep_and_log, store, self._upkeep.stopping))
        self._upkeep.every(JOURNAL_EVERY_S, "journal", partial(write_journal, store))
        self._looking.every(TICK_S, "watch", self._look)
        self._bot: Bot | None = None
        if self._api is not None:
            desk = desk_of(
                store,
                sweep_every_s=sweep_every_s,
                load_budget_ms=load_budget_ms,
                status=self._watch.status,
                mute=self._watch.mute,
                unmute=self._watch.unmute,
                muted_until=lambda: mute.muted_until(store, datetime.now(UTC)),
                stopping=self._upkeep.stopping,
            )
            self._bot = Bot(self._api, desk, chats, offsets_in(store, self._api.bot_id))

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


def _nobody(chat: int, text: str) -> None:
    """Delivers nothing: there are no chats."""
