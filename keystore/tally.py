"""Counts by the hour what happens to keys, without costing a write a round trip.

An operation adds to a count in memory; a thread of the store saves what has come together once a minute, and `close`
saves the rest. What a process counted since the last save is lost when it is killed: a minute of counts, never a key.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from keystore.errors import KeystoreError
from keystore.records import Event

SAVE_EVERY_S = 60.0
MOST_PENDING = 50_000
"""Different counts kept while they can't be saved; a store counts some hundred an hour."""

CLOSE_WITHIN_S = 2.0

BURST_FROM_KEYS = 100
"""So many keys of a type created by one set are a burst: a reconnect (Baileys writes 250, or 812) or a first sync."""

PROBE_COMPANY = "keystore-perf-probe"
"""What is written for it is a measurement, and no arrival."""

EVERYBODY = ""
"""The company under which the counts of the whole database stand."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Count:
    """How often something happened in an hour: of the whole database, or (bursts) of one company."""

    company_id: str
    hour: datetime
    key_type: str
    event: Event


def hour_of(moment: datetime) -> datetime:
    """The first moment of that hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


class Tally:
    """The counts of one store that are not saved yet; thread-safe."""

    def __init__(self, save: Callable[[dict[Count, int]], None]) -> None:
        """`save` adds counts to those in the database; it raises KeystoreError."""
        self._save = save
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._pending: dict[Count, int] = {}
        self._dropped = 0
        self._failing = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, company_id: str, now: datetime, happened: Iterable[tuple[Event, str, int]]) -> None:
        """Counts `(event, key_type, keys)`; only adds numbers in memory."""
        if company_id == PROBE_COMPANY:
            return
        hour = hour_of(now)
        with self._lock:
            for event, key_type, keys in happened:
                if keys:
                    self._add(Count(EVERYBODY, hour, key_type, event), keys)
                if event == "created" and keys >= BURST_FROM_KEYS:
                    self._add(Count(company_id, hour, key_type, "burst"), keys)
            if self._pending and self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="keystore-tally", daemon=True)
                self._thread.start()

    def save(self) -> None:
        """Saves what is pending. Raises what the database raises; then it stays pending."""
        with self._saving:
            with self._lock:
                pending, self._pending = self._pending, {}
            if not pending:
                return
            try:
                self._save(pending)
            except BaseException:
                with self._lock:
                    for count, keys in pending.items():
                        self._add(count, keys)
                raise

    def close(self) -> None:
        """Has the thread save the rest and end; what it can't save in two seconds is lost, and logged."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WITHIN_S)
        with self._lock:
            lost = sum(self._pending.values())
            self._pending.clear()
        if lost:
            log.warning("counts_lost", keys=lost, reason="the database was away when the store was closed")

    def _add(self, count: Count, keys: int) -> None:
        if count in self._pending or len(self._pending) < MOST_PENDING:
            self._pending[count] = self._pending.get(count, 0) + keys
        else:
            self._dropped += keys

    def _run(self) -> None:
        while not self._closing.wait(SAVE_EVERY_S):
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self.save()
        except KeystoreError as error:
            if not self._failing:
                log.warning("counts_not_saved", error=str(error), retry_s=SAVE_EVERY_S)
            self._failing = True
        else:
            self._failing = False
            dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning(
                    "counts_dropped", keys=dropped, reason="too many came together while they couldn't be saved"
                )
