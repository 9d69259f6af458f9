"""Counts the events of keys by the hour, without an additional round trip for any write.

An operation adds to counts in memory. A thread of the store saves them once a minute, and `close` saves the rest. A
process that is killed loses the counts since its last save: a minute of counts, but never a key.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from keystore.errors import KeystoreError
from keystore.ids import ReservedCompany
from keystore.records import Event

SAVE_EVERY_S = 60.0
MOST_PENDING = 50_000
"""Limit of different counts held while they can't be saved; a store makes some hundred an hour."""

CLOSE_WITHIN_S = 2.0

BURST_FROM_KEYS = 100
"""Keys of a type created by one set that make a burst: a reconnect (Baileys writes 250, or 812) or a first sync."""

PROBE_COMPANY = ReservedCompany("~performance probe")
"""The company of performance probes. Nobody else can have this id, and writes for it aren't counted."""

EVERYBODY = ""
"""The company id that holds the counts of the whole database."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Count:
    """The name of a counter: an event in an hour, of all companies or (bursts) of one."""

    company_id: str
    hour: datetime
    key_type: str
    event: Event


def hour_of(moment: datetime) -> datetime:
    """Return the first moment of the hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


class Tally:
    """The counts of a store that aren't saved yet; thread-safe."""

    def __init__(self, save: Callable[[dict[Count, int]], None]) -> None:
        """`save` adds counts to those in the database; it raises KeystoreError."""
        self._save = save
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._pending: Counter[Count] = Counter()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, company_id: str, now: datetime, events: Iterable[tuple[Event, str, int]]) -> None:
        """Count events `(event, key_type, keys)`, in memory only."""
        if company_id == PROBE_COMPANY:
            return
        hour = hour_of(now)
        with self._lock:
            for event, key_type, keys in events:
                if keys:
                    self._add(Count(EVERYBODY, hour, key_type, event), keys)
                if event == "created" and keys >= BURST_FROM_KEYS:
                    self._add(Count(company_id, hour, key_type, "burst"), keys)
            if self._pending and self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="keystore-tally", daemon=True)
                self._thread.start()

    def save(self) -> None:
        """Save the pending counts. They stay pending when the database raises an error."""
        with self._saving:
            with self._lock:
                pending, self._pending = self._pending, Counter()
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
        """Let the thread save the rest and end. Counts that aren't saved within two seconds are lost, and logged."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WITHIN_S)
        with self._lock:
            lost = self._pending.total()
            self._pending.clear()
        if lost:
            log.warning("counts_lost", keys=lost, reason="the database couldn't be reached when the store was closed")

    def _add(self, count: Count, keys: int) -> None:
        if count in self._pending or len(self._pending) < MOST_PENDING:
            self._pending[count] += keys
        else:
            self._dropped += keys

    def _run(self) -> None:
        closing = failing = False
        while not closing:
            closing = self._closing.wait(SAVE_EVERY_S)
            try:
                self.save()
            except KeystoreError as error:
                if not failing:
                    log.warning("counts_not_saved", error=str(error), retry_s=SAVE_EVERY_S)
                failing = True
                continue
            failing = False
            dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("counts_dropped", keys=dropped, reason="too many were pending while they couldn't be saved")
