"""The watch: looks every minute, decides, and sends notices. Of several watches on one database, one alerts.

The alerting one holds a lease that every look renews. When it dies, another takes the expired lease, reads the state
from the database's notes, and goes on from there: a firing alert is not raised again, and its recovery comes. While the
database is away nobody can take the lease over, and its last holder goes on alone.
"""

import json
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import structlog

from keystore.errors import KeystoreError
from keystore.store import Store
from keystore.upkeep import Upkeep
from monitor.alerts import memory, samples
from monitor.alerts.decisions import AlertState, Sample, after_clock_step, decide
from monitor.alerts.measurements import Measurements
from monitor.alerts.notices import firing_lines, message, unmuted_line
from monitor.alerts.outbox import Outbox
from monitor.alerts.rules import SILENT_AFTER, thresholds
from monitor.alerts.stored_state import Mute, read_state, write_state
from monitor.alerts.summary import DailySummary
from monitor.note_names import ANNOUNCED
from monitor.reports.formatting import duration, local_time
from monitor.running.bounded_calls import BoundedCalls
from monitor.running.clock_steps import ClockSteps
from monitor.running.leader import Leader
from monitor.watch_settings import WatchSettings

LEASE = "watch"
LEASE_S = 150.0
"""Life of the lease: two looks may fail before another watch takes over."""

TICK_S = 60.0
AWAY_TICK_S = 15.0
"""Interval while the database is unreachable, so that outage and recovery are reported promptly."""

STOP_WITHIN_S = 0.3
"""Time limit for each of the two questions to the database while the watch stops."""

ANNOUNCE_EVERY = timedelta(minutes=10)
"""Least time between two start notices, for a service that crashes and is restarted over and over."""

log = structlog.get_logger()


class Announcements:
    """The start and the stop of one service. It announces its stop only where it announced its start."""

    def __init__(
        self, store: Upkeep, settings: WatchSettings, post: Callable[[str], None], questions: BoundedCalls
    ) -> None:
        self.service = f"Signal Keystore {settings.version}"
        self.host = socket.gethostname()
        self._store = store
        self._settings = settings
        self._post = post
        self._questions = questions
        self._announced: bool | None = None

    def start(self, now: datetime, *, alerting: bool, muted: bool) -> None:
        """Announce the start, once, and unless one was announced minutes ago. Raises what the store raises."""
        if self._announced is not None:
            return
        name = f"{ANNOUNCED}{self.host}"
        last = self._questions.call(lambda: self._store.recall(name))
        self._announced = last is None or not timedelta(0) <= now - last.updated_at < ANNOUNCE_EVERY
        if not self._announced:
            log.info("start_not_announced", reason="one was, minutes ago")
            return
        self._questions.call(lambda: self._store.remember(name, json.dumps({"version": self._settings.version})))
        if not muted:
            role = "sends the alerts" if alerting else "stands by; another instance sends the alerts"
            lines = [
                f"▶ {self._settings.name}: {self.service} has started on {self.host} and {role}. "
                f"It watches {self._store.database}."
            ]
            if self._settings.public_url:
                lines.append(f"Status page: {self._settings.public_url}")
            self._post("\n".join(lines))

    def stop(self, uptime: str, firing: list[str]) -> None:
        """Announce the stop, with the lines of the alerts that still fire."""
        if self._announced:
            left = ["", "Still firing:", *firing] if firing else []
            head = f"⏹ {self._settings.name}: {self.service} on {self.host} stops, after {uptime}"
            self._post("\n".join([head, *left]))


class Watch:
    """The watch over one store. `tick` is a loop's job; `is_alerting` and `status` are for any thread."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox[Any],
        settings: WatchSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = monotonic,
        process_memory: Callable[[], memory.ProcessMemory] = memory.measure,
    ) -> None:
        """The caller starts the outbox; `stop` stops it."""
        questions, surveys = BoundedCalls(1, "watch-question"), BoundedCalls(1, "watch-survey")
        self._store = store
        self._outbox = outbox
        self._zone, self._name, self._public_url = settings.zone, settings.name, settings.public_url
        self._thresholds = thresholds(settings)
        self._clock = clock
        self._process_memory = process_memory
        self._ticks = ticks
        self._began = ticks()
        self._clock_steps = ClockSteps(clock(), ticks)
        self._questions = questions
        self._leader = Leader(store, LEASE, LEASE_S, questions)
        self._mute = Mute(store, questions)
        self._announcements = Announcements(store, settings, outbox.post, questions)
        self._summary = DailySummary(store, settings, questions, surveys, ticks)
        self._measurements = Measurements(store, settings, questions, surveys, clock(), ticks, process_memory)
        self.is_alerting = False
        """True for the one watch that alerts, and that may poll Telegram."""
        self._state = AlertState()
        self._stored_state: AlertState | None = None
        self._looked_at: float | None = None
        self._outage: str | None = None

    def tick(self) -> float | None:
        """Look once; the seconds until the next look, where that is sooner than usual."""
        now, outage = self._clock(), None
        self._follow_clock(now)
        if self._outage is not None:
            self._measurements.miss_no_earlier_heartbeat()
        measured: list[Sample] = []
        try:
            self._renew(now)
            if self.is_alerting:
                for sample in self._measurements.of_database(self._state, now):
                    measured.append(sample)  # One by one: a sample from before an outage counts.
        except KeystoreError as error:
            outage = str(error)
        if self.is_alerting:
            availability = samples.of_database(self._store.database, outage)
            self._judge([*self._measurements.of_this_machine(), *measured, availability], now)
        if self.is_alerting and outage is None:
            try:
                self._store_state()
                self._send_due(now)
            except KeystoreError as error:
                outage = str(error)
        if (outage is None) != (self._outage is None):
            log.warning("database_away" if outage else "database_back", database=self._store.database, error=outage)
        self._outage, self._looked_at = outage, self._ticks()
        return None if outage is None else AWAY_TICK_S

    def mute(self, until: datetime) -> None:
        """Send no notices until then, from this moment on. Raises what the store raises."""
        self._mute.begin(until)

    def unmute(self) -> list[str]:
        """End the mute at this moment, and return the lines of the firing alerts. Raises what the store raises."""
        now = self._clock()
        if self.is_alerting:
            self._mute.forget()  # The caller says so: the next look announces nothing.
        else:
            self._mute.end(now)
        return firing_lines(self._state, now)

    def stop(self, within_s: float) -> bool:
        """Announce the stop, let the outbox deliver what it can, and release the lease.
        To be called after the loop has ended; returns True when the outbox ended in time."""
        now = self._clock()
        if self._outage is None:
            try:  # An operator who sends /mute and then restarts the service wants no notice of that.
                self._mute.refresh(STOP_WITHIN_S)
            except KeystoreError as error:
                self._outage = str(error)
        if not self._mute.is_on(now):
            self._announcements.stop(self._uptime(), firing_lines(self._state, now))
        delivered = self._outbox.stop(max(0.0, within_s - 2 * STOP_WITHIN_S))
        self.is_alerting = False
        if self._outage is None:
            try:
                self._leader.resign(STOP_WITHIN_S)
            except KeystoreError as error:
                log.warning("alerting_lease_not_released", error=str(error))
        return delivered

    def status(self) -> str:
        """The state of the service itself, in plain text; asks the database nothing."""
        now = self._clock()
        announcements, database = self._announcements, self._store.database
        looked = None if self._looked_at is None else duration(self._ticks() - self._looked_at)
        lines = [
            f"{announcements.service} on {announcements.host}, up {self._uptime()}",
            f"database: {database}" if self._outage is None else samples.of_database(database, self._outage).detail,
            f"memory: {self._process_memory().in_words}",
            "last look: none yet" if looked is None else f"last look: {looked} ago",
        ]
        if self._public_url:
            lines.append(f"status page: {self._public_url}")
        if not self.is_alerting:
            return "\n".join([*lines, "role: stands by; another instance sends the alerts"])
        lines.append("role: sends the alerts")
        muted_until = self._mute.until
        if muted_until is not None and self._mute.is_on(now):
            lines.append(f"muted until {local_time(muted_until, self._zone)}")
        if self._outbox.pending:
            lines.append(f"notices that wait to be delivered: {self._outbox.pending:,}")
        lines += self._outbox.refusals()
        firing = firing_lines(self._state, now)
        return "\n".join([*lines, "firing:" if firing else "nothing fires", *firing])

    def _follow_clock(self, now: datetime) -> None:
        """After a step of the wall clock, move the times of the state with it: no alert comes later for it."""
        step = self._clock_steps.since_last(now)
        if not step:
            return
        log.warning("clock_was_set", seconds=round(step.total_seconds()), now=now.isoformat(timespec="seconds"))
        self._state = after_clock_step(self._state, step)
        if step >= SILENT_AFTER / 2:  # A heartbeat that came just before the step seems as old as the step.
            self._measurements.miss_no_earlier_heartbeat()
        if self.is_alerting and step < timedelta(0):
            self._mute.set_back(-step)

    def _renew(self, now: datetime) -> None:
        """Renew the lease or ask for it, and change the role accordingly."""
        leads = self._leader.renew()
        if self.is_alerting and not leads:
            self._hand_over(now)  # Before anything that can fail: another watch alerts already.
        elif not leads and self._looked_at is None:
            log.info("standing_by", reason="another one alerts, or did until minutes ago", lease_s=LEASE_S)
        self._mute.refresh()
        if leads and not self.is_alerting:
            self._take_over()
        self._announcements.start(now, alerting=self.is_alerting, muted=self._mute.is_on(now))

    def _take_over(self) -> None:
        self._stored_state = self._questions.call(lambda: read_state(self._store))
        self._state = self._stored_state or AlertState()
        self.is_alerting = True
        self._outbox.keep_in(self._store)
        log.info("alerting_taken_over", holder=self._leader.holder, database=self._store.database)

    def _hand_over(self, now: datetime) -> None:
        """Stand by from now on, after the database's recovery: a watch that took over meanwhile knows no outage."""
        self._judge([samples.of_database(self._store.database, None)], now)
        self.is_alerting, self._state = False, AlertState()
        self._outbox.keep_in(None)
        log.warning("alerting_handed_over", holder=self._leader.holder, database=self._store.database)

    def _judge(self, measured: Iterable[Sample], now: datetime) -> None:
        self._state, notices = decide(self._thresholds, self._state, measured, now)
        muted = self._mute.is_on(now)
        for notice in notices:
            names = {"rule": notice.rule.id, "subject": notice.subject, "detail": notice.detail}
            log.warning(f"alert_{notice.kind}", **names, muted=muted)
        if notices and not muted:
            self._outbox.post(message(notices, self._name))

    def _store_state(self) -> None:
        """Store the state for a successor, where it has changed."""
        state = self._state
        if state != self._stored_state:
            self._questions.call(lambda: write_state(self._store, state))
            self._stored_state = state

    def _send_due(self, now: datetime) -> None:
        """Send the notice that the mute has ended, and the daily summary, when they are due."""
        firing = firing_lines(self._state, now)
        if self._mute.is_over(now):
            self._mute.forget()
            self._outbox.post("\n".join([unmuted_line(self._name, firing), *firing]))
        summary = self._summary.text_if_due(now, firing)
        if summary is not None and not self._mute.is_on(now):
            self._outbox.post(summary)

    def _uptime(self) -> str:
        return duration(self._ticks() - self._began)
