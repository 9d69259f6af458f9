"""The running services of one database, each with its role, as notes in the store.

A service renews its note after each look of its watch. So the status page of any service shows which of them sends the
alerts, and since when none looks. Functions that take a store raise what the store raises.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keystore.errors import KeystoreError
from keystore.upkeep import Upkeep
from monitor.note_names import INSTANCE
from monitor.recent_notes import recent_notes
from monitor.running.bounded_calls import BoundedCalls

SEEN_FOR = timedelta(minutes=4)
"""Age of its note up to which a service counts as running. It looks every minute, and a look may fail."""

FORGOTTEN_AFTER = timedelta(hours=1)
"""Age at which the note of a service that stopped without a word is deleted."""

WRITE_WITHIN_S = 2.0
REMOVE_WITHIN_S = 0.3


@dataclass(frozen=True)
class Instance:
    """A service: `address` is its HOST:PORT, by which it is known, and `name` that of its installation.

    `alerting` is None before its first look, which ended at `looked_at`.
    """

    address: str
    name: str
    host: str
    version: str
    started_at: datetime
    workers: int
    alerting: bool | None = None
    looked_at: datetime | None = None


class InstanceNote:
    """The note of this service, for one thread."""

    def __init__(self, store: Upkeep, instance: Instance) -> None:
        self._store = store
        self._instance = instance
        self._calls = BoundedCalls(1, "instance-note")
        self._written = False

    def renew(self, *, alerting: bool) -> None:
        """Write the note. An outage is reported by the watch, so it is passed over here."""
        instance = self._instance
        document = {
            "name": instance.name,
            "host": instance.host,
            "version": instance.version,
            "started_at": instance.started_at.isoformat(),
            "workers": instance.workers,
            "alerting": alerting,
        }
        self._written = False
        with suppress(KeystoreError):
            self._write(json.dumps(document), WRITE_WITHIN_S)
            self._written = True

    def remove(self) -> None:
        """Delete the note at an orderly stop, unless the database is away."""
        if self._written:
            with suppress(KeystoreError):
                self._write(None, REMOVE_WITHIN_S)

    def _write(self, document: str | None, within_s: float) -> None:
        self._calls.call(lambda: self._store.remember(INSTANCE + self._instance.address, document), within_s)


def instances(store: Upkeep) -> list[Instance]:
    """Return the services that looked within the last hour, by address; older notes are deleted."""
    now, known = store.now(), []
    for address, note in recent_notes(store, INSTANCE, now, FORGOTTEN_AFTER):
        with suppress(ValueError, KeyError, TypeError):  # A later version wrote it.
            fields = json.loads(note.document)
            started_at = datetime.fromisoformat(fields.pop("started_at")).astimezone(UTC)
            known.append(Instance(address, started_at=started_at, looked_at=note.updated_at, **fields))
    return known


def alerting_instance(known: list[Instance], now: datetime) -> Instance | None:
    """Return the service that sends the alerts; None if no service that looked just now does."""
    running = [each for each in known if each.looked_at is not None and now - each.looked_at <= SEEN_FOR]
    return next((each for each in running if each.alerting), None)
