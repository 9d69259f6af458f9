"""The state of the service: for a process supervisor, for a load balancer, for an operator."""

import threading
from collections.abc import Callable
from time import monotonic

import falcon
import msgspec

from api.access_log import UnavailableLog
from api.problems import Problem, retry_after
from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.reports.check import check_report
from monitor.running.bounded_calls import BoundedCalls

READY_TIMEOUT_S = 2.0
READY_CACHED_FOR_S = 1.0
"""Interval between two looks at the database. Anyone may ask for `/readyz`, so its answer is cached for so long."""

CHECK_TIMEOUT_S = 10.0
"""Time for the check. It reads the whole table; a million keys take some two seconds."""

_encoder = msgspec.json.Encoder()


class AliveResource:
    """Tells that the process is alive, without asking the database."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer at once."""
        resp.data = b'{"alive":true}'


class ReadyResource:
    """Tells that a bot can use the service: the database takes writes, and its tables are ours."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._calls = BoundedCalls(1, "ready")
        self._lock = threading.Lock()
        self._probed_at = float("-inf")
        self._obstacle: str | None = None
        self._log = UnavailableLog()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer within two seconds. Raises Problem (503)."""
        with self._lock:
            if monotonic() - self._probed_at > READY_CACHED_FOR_S:
                self._obstacle = self._probe()
                self._probed_at = monotonic()
            obstacle = self._obstacle
        if obstacle is not None:
            raise Problem("unavailable", obstacle, retry_after(READY_CACHED_FOR_S))
        resp.data = b'{"ready":true}'

    def _probe(self) -> str | None:
        """Return the reason why a bot can't use the service. Strangers see it, so it doesn't name the database."""
        try:
            converted = self._calls.call(self._converted, READY_TIMEOUT_S)
        except KeystoreError as error:
            self._log.observe("GET /readyz", error)
            return "the database takes no writes, or its tables aren't ours; the log and `run.py doctor` say more"
        return None if converted else "only the watch is attached here; run `python run.py migrate`"

    def _converted(self) -> bool:
        store = self._store()
        store.probe_write()
        return store.converted


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
