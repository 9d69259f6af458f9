"""The state of the service: for a process supervisor, for a load balancer, for an operator."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import falcon
import msgspec

from api.access_log import UnavailableLog
from api.problems import Problem, retry_after
from keystore.errors import KeystoreError
from keystore.invocation import command
from keystore.store import Store
from monitor.reports.check import check_report
from monitor.running.bounded_calls import BoundedCalls

PROBE_TIMEOUT_S = 2.0
PROBED_EVERY_S = 1.0

CHECK_TIMEOUT_S = 10.0
"""Time for the check. It reads the whole table; a million keys take some two seconds."""

_encoder = msgspec.json.Encoder()


class AliveResource:
    """Tells that the process is alive, without asking the database."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer at once."""
        resp.data = b'{"alive":true}'


class Readiness:
    """Knows if a bot can use the service: the database takes writes, and its tables are ours.

    Anyone may ask, so the database is probed once a second at most. It is for any number of threads.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._calls = BoundedCalls(1, "readiness")
        self._lock = threading.Lock()
        self._probed_at = float("-inf")
        self._takes_writes = self._converted = False
        self._log = UnavailableLog()

    def takes_writes(self) -> bool:
        """Return True if the database takes a write within two seconds, or did a second ago."""
        return self._probed()[0]

    def obstacle(self) -> str | None:
        """Return the reason why a bot can't use the service. Strangers see it, so it doesn't name the database."""
        takes_writes, converted = self._probed()
        if not takes_writes:
            return (
                "the database takes no writes, or its tables aren't ours; the service's log and "
                f"`{command('doctor')}` say more"
            )
        return None if converted else f"only the watch is attached here; run `{command('migrate')}`"

    def _probed(self) -> tuple[bool, bool]:
        with self._lock:
            if monotonic() - self._probed_at > PROBED_EVERY_S:
                try:
                    self._converted = self._calls.call(self._probe, PROBE_TIMEOUT_S)
                    self._takes_writes = True
                except KeystoreError as error:
                    self._takes_writes = False
                    self._log.observe("GET /readyz", error)
                self._probed_at = monotonic()
            return self._takes_writes, self._converted

    def _probe(self) -> bool:
        store = self._store()
        store.probe_write()
        return store.converted


@dataclass(frozen=True)
class ReadyResource:
    """Tells a load balancer that a bot can use the service."""

    readiness: Readiness

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer within two seconds. Raises Problem (503)."""
        obstacle = self.readiness.obstacle()
        if obstacle is not None:
            raise Problem("unavailable", obstacle, retry_after(PROBED_EVERY_S))
        resp.data = b'{"ready":true}'


class CheckResource:
    """The `check` report."""

    def __init__(self, store: Callable[[], Store], sweep_every_s: float) -> None:
        self._store = store
        self._sweep_every_s = sweep_every_s
        self._calls = BoundedCalls(1, "check")

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Count the whole table, and answer with the report."""
        report = self._calls.call(lambda: check_report(self._store(), self._sweep_every_s), CHECK_TIMEOUT_S)
        resp.data = _encoder.encode(report)
