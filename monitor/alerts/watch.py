"""The watch: looks every minute, decides, and tells. Of several on one database, one.

That one holds a lease, which every look renews; when it dies, another finds the lease run out, takes up its state from
the database's notes, and goes on where it stopped: an alert that stands is not raised again, and its recovery comes.
While the database is away nobody can take the lease over, and its last holder goes on alone.
"""

import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic

import structlog

from keystore.errors import KeystoreError
from keystore.records import Lease
from keystore.store import Store
from monitor.alerts import memory, mute, rules, summary
from monitor.alerts.decisions import AlertState, Sample, decide, duration, firing_lines, from_json, message, to_json
from monitor.alerts.outbox import Outbox
from monitor.alerts.probes import Probes
from monitor.growth import growth_report
from monitor.reports.check import check_report
from monitor.running.bounded_calls import Busy, TimedOut
from monitor.watch_settings import WatchSettings

LEASE = "watch"
LEASE_S = 150.0
"""Two looks may fail before another takes over."""

TICK_S = 60.0
AWAY_TICK_S = 15.0
"""While the database is away; so that neither its outage nor its return is told late."""

ALERTS, SUMMARY, ANNOUNCED = "alerts", "summary", "announced/"
ANNOUNCE_EVERY = timedelta(minutes=10)
"""A service that crashes and is restarted over and over doesn't say so each time."""

SUMMARY_RETRY_S = 600.0
STOP_WITHIN_S = 0.3
"""For each of the two questions on the way out."""

log = structlog.get_logger()


class Watch:
    """The watch over one store. `tick` is a loop's job; the properties and `status` are for any thread."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        settings: WatchSettings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = monotonic,
        process_memory: Callable[[], memory.ProcessMemory] = memory.measure,
    ) -> None:
        """The outbox is started elsewhere, and stopped with the watch."""
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._rules = rules.alert_rules(settings)
        self._clock = clock
        self._ticks = ticks
        self._process_memory = process_memory
        self._began = clock()
        self._probes = Probes(
            store,
            settings,
            watching_since=self._began,
            ticks=ticks,
            process_memory=process_memory,
        )
        self._host = socket.gethostname()
        self._holder = f"{self._host}:{os.getpid()}:{secrets.token_hex(3)}"
        self._lease: Lease | None = None
        self._looked_at: datetime | None = None
        self._away: str | None = None
        self._state = AlertState()
        self._saved: str | None = None
        self._mute: datetime | None = None
        self._announced: bool | None = None
        self._last_summary: date | None = None
        self._summary_not_before = 0.0

    @property
    def is_holder(self) -> bool:
        """Whether this is the one that alerts, and that may poll Telegram."""
        return self._lease is not None

    @property
    def state(self) -> AlertState:
        """What fires, as this one knows it."""
        return self._state

    def tick(self) -> float | None:
        """Looks once; after how many seconds to look again, where that is sooner than usual."""
        now = self._clock()
        away = self._renew(now)
        if self._lease is not None:
            away = self._look(now, away)
            if away is None:
                away = self._keep(now)
        if (away is None) != (self._away is None):
            log.warning("database_away" if away else "database_back", database=self._store.database, error=away)
        self._away, self._looked_at = away, now
        return None if away is None else AWAY_TICK_S

    def mute(self, until: datetime) -> None:
        """Nothing goes out until then, from this moment on. Raises what the store raises."""
        mute.mute(self._store, until)
        self._mute = until  # Not only with the next look: what that finds is not to go out either.

    def unmute(self) -> None:
        """Ends the silence at this moment; the next look says what fires. Raises what the store raises."""
        now = self._clock()
        mute.unmute(self._store, now)
        if self._is_muted(now):
            self._mute = now

    def stop(self, within_s: float) -> bool:
        """Says that the service stops, has the outbox deliver what it can, and leaves the lease to another.

        For when the loop has ended; returns whether the outbox did.
        """
        now = self._clock()
        if self._away is None:
            try:  # Somebody who says /mute and then restarts the service wants to hear nothing of it.
                self._mute = self._probes.ask(lambda: mute.last_mute(self._store), STOP_WITHIN_S)
            except KeystoreError as error:
                self._away = str(error)
        if self._announced and not self._is_muted(now):
            notice = summary.stopping(self._settings.version, self._host, self._uptime(now), self._firing(now))
            self._outbox.post(notice)
        delivered = self._outbox.stop(max(0.0, within_s - 2 * STOP_WITHIN_S))
        lease, self._lease = self._lease, None
        if lease is not None and self._away is None:
            try:
                self._probes.ask(lambda: self._store.release_lease(lease), STOP_WITHIN_S)
            except KeystoreError as error:
                log.warning("watch_lease_not_released", error=str(error))
        return delivered

    def status(self) -> str:
        """How the service itself is, in plain text; asks the database nothing."""
        now = self._clock()
        used = self._process_memory()
        database = f"database: {self._store.database}"
        lines = [
            f"Signal Keystore {self._settings.version} on {self._host}, up {self._uptime(now)}",
            database if self._away is None else f"{database} is away: {self._away}",
            f"memory: {rules.of_process(used).detail}",
            "last look: "
            + ("none yet" if self._looked_at is None else f"{duration((now - self._looked_at).total_seconds())} ago"),
        ]
        if not self.is_holder:
            return "\n".join([*lines, "role: stands by, another one alerts"])
        lines.append("role: this one alerts")
        if self._mute is not None and self._is_muted(now):
            lines.append(f"muted until {self._mute.astimezone(self._settings.zone):%Y-%m-%d %H:%M %Z}")
        if self._outbox.pending:
            lines.append(f"notices that wait to be delivered: {self._outbox.pending:,}")
        firing = self._firing(now)
        return "\n".join([*lines, "firing:" if firing else "nothing fires", *firing])

    def _renew(self, now: datetime) -> str | None:
        """Takes or renews the lease, with what comes with it; why the database is away, None when it isn't."""
        try:
            lease = self._probes.ask(lambda: self._store.acquire_lease(LEASE, self._holder, LEASE_S))
            if lease is None:
                if self._looked_at is None:
                    log.info("watch_stands_by", reason="another one alerts, or did until minutes ago", lease_s=LEASE_S)
                self._hand_over(now)
            elif self._lease is None:
                self._take_over(lease)
            else:
                self._lease, self._mute = lease, self._probes.ask(lambda: mute.last_mute(self._store))
            if self._announced is None:
                self._announce(now)
        except KeystoreError as error:
            return str(error)
        return None

    def _take_over(self, lease: Lease) -> None:
        alerts, muted = self._probes.ask(lambda: (self._store.recall(ALERTS), mute.last_mute(self._store)))
        self._saved = alerts.document if alerts is not None else None
        try:
            self._state = from_json(self._saved) if self._saved is not None else AlertState()
        except ValueError as error:
            log.warning("alerts_not_readable", error=str(error))
            self._state = AlertState()
        self._mute, self._lease = muted, lease
        self._outbox.keep_in(self._store)
        log.info("watch_taken_over", holder=self._holder, database=self._store.database)

    def _hand_over(self, now: datetime) -> None:
        """Another one holds the lease: whoever took it while the database was away knows nothing of that outage."""
        if self._lease is None:
            return
        self._tell([rules.of_database(self._store.database, None)], now)
        self._lease, self._state, self._saved, self._mute = None, AlertState(), None, None
        self._outbox.keep_in(None)
        log.warning("watch_handed_over", holder=self._holder, database=self._store.database)

    def _announce(self, now: datetime) -> None:
        name = f"{ANNOUNCED}{self._host}"
        last, muted = self._probes.ask(lambda: (self._store.recall(name), mute.muted_until(self._store, now)))
        self._announced = last is None or not timedelta(0) <= now - last.updated_at < ANNOUNCE_EVERY
        if not self._announced:
            log.info("start_not_announced", reason="one was, minutes ago")
            return
        self._probes.ask(lambda: self._store.remember(name, json.dumps({"version": self._settings.version})))
        if muted is None:
            database = self._store.database
            self._outbox.post(summary.started(self._settings.version, database, self._host, alerting=self.is_holder))

    def _look(self, now: datetime, away: str | None) -> str | None:
        """Measures, decides and tells; why the database is away, None when it isn't."""
        samples = list(self._probes.of_this_machine())
        if away is None:
            try:
                for sample in self._probes.of_database(self._state, now):
                    samples.append(sample)  # One by one: what was measured before an outage counts.
            except KeystoreError as error:
                away = str(error)
        samples.append(rules.of_database(self._store.database, away))
        self._tell(samples, now)
        return away

    def _tell(self, samples: Iterable[Sample], now: datetime) -> None:
        self._state, notices = decide(self._rules, self._state, samples, now)
        for notice in notices:
            log.warning(
                f"alert_{notice.kind}",
                rule=notice.rule.id,
                subject=notice.subject,
                detail=notice.detail,
                muted=self._is_muted(now),
            )
        if notices and not self._is_muted(now):
            self._outbox.post(message(notices))

    def _keep(self, now: datetime) -> str | None:
        """Writes down what another would have to know, and does what the database has in store for today."""
        try:
            document = to_json(self._state)
            if document != self._saved:
                self._probes.ask(lambda: self._store.remember(ALERTS, document))
                self._saved = document
            if self._mute is not None and self._mute <= now:
                self._end_mute(now)
            if self._settings.summary_at is not None:
                self._summarise(self._settings.summary_at, now)
        except KeystoreError as error:
            return str(error)
        return None

    def _end_mute(self, now: datetime) -> None:
        self._probes.ask(lambda: mute.end_told(self._store))
        self._mute = None
        firing = self._firing(now)
        head = "No longer muted. Still firing:" if firing else "No longer muted. Nothing fires."
        self._outbox.post("\n".join([head, *firing]))

    def _summarise(self, at: time, now: datetime) -> None:
        """Sends the day's summary when it is due; one that the database can't give yet is tried again."""
        if (
            summary.due(self._last_summary, now, self._settings.zone, at) is None
            or self._ticks() < self._summary_not_before
        ):
            return
        self._summary_not_before = self._ticks() + SUMMARY_RETRY_S
        self._last_summary = self._probes.ask(self._summary_sent_on)
        day = summary.due(self._last_summary, now, self._settings.zone, at)
        if day is None:
            return
        try:
            check, growth = self._probes.ask_at_length(
                lambda: (check_report(self._store, self._settings.sweep_every_s), growth_report(self._store))
            )
        except (TimedOut, Busy) as error:  # A table too large to count in time is no outage.
            log.warning("summary_put_off", error=str(error), retry_s=SUMMARY_RETRY_S)
            return
        self._probes.ask(lambda: self._store.remember(SUMMARY, json.dumps({"day": day.isoformat()})))
        self._last_summary, self._summary_not_before = day, 0.0
        if not self._is_muted(now):
            self._outbox.post(summary.text(day, check, growth, self._firing(now)))

    def _summary_sent_on(self) -> date | None:
        note = self._store.recall(SUMMARY)
        try:
            return date.fromisoformat(json.loads(note.document)["day"]) if note is not None else None
        except (ValueError, KeyError, TypeError):
            return None

    def _uptime(self, now: datetime) -> str:
        return duration((now - self._began).total_seconds())

    def _is_muted(self, now: datetime) -> bool:
        return self._mute is not None and self._mute > now

    def _firing(self, now: datetime) -> list[str]:
        return firing_lines(self._rules, self._state, now)
