"""How the service is: for a process supervisor, for a load balancer, for an operator; and what it offers."""

import threading
from collections.abc import Callable
from time import monotonic

import falcon
import msgspec

from api.openapi import openapi
from api.problems import Problem, retry_after
from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.note_names import READINESS
from monitor.reports.check import check_report
from monitor.running.bounded_calls import BoundedCalls

READY_WITHIN_S = 2.0
READY_KEPT_S = 1.0
"""Strangers may ask, so the database is asked at most so often."""

CHECK_WITHIN_S = 10.0
"""The census reads the whole table; a million keys take some two seconds."""

_encoder = msgspec.json.Encoder()


class Alive:
    """The process: it answers, so it lives."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Asks nothing of the database."""
        resp.data = b'{"alive":true}'


class Ready:
    """Whether a bot can use it: the database answers, and the tables are ours."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._slots = BoundedCalls(1, "ready")
        self._asking = threading.Lock()
        self._known: tuple[float, str | None] = (float("-inf"), None)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answers within two seconds."""
        with self._asking:
            asked_at, wrong = self._known
            if monotonic() - asked_at > READY_KEPT_S:
                wrong = self._wrong()
                self._known = monotonic(), wrong
        if wrong is not None:
            raise Problem("unavailable", wrong, retry_after(READY_KEPT_S))
        resp.data = b'{"ready":true}'

    def _wrong(self) -> str | None:
        """What is in the way. Strangers hear it, so the database isn't named."""
        try:
            converted = self._slots.call(self._converted, READY_WITHIN_S)
        except KeystoreError:
            return (
                "the database doesn't answer, or its tables aren't ours; the service's log and `run.py doctor` say more"
            )
        return None if converted else "only the watch is attached here; run `python run.py migrate`"

    def _converted(self) -> bool:
        store = self._store()
        store.recall(READINESS)
        return store.converted


class Health:
    """The `check` report."""

    def __init__(self, store: Callable[[], Store], sweep_every_s: float) -> None:
        self._store = store
        self._sweep_every_s = sweep_every_s
        self._slots = BoundedCalls(1, "check")

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Counts the table."""
        report = self._slots.call(lambda: check_report(self._store(), self._sweep_every_s), CHECK_WITHIN_S)
        resp.data = _encoder.encode(report)


class Description:
    """What the service offers, for programs."""

    def __init__(self, version: str) -> None:
        self._document = _encoder.encode(openapi(version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """OpenAPI 3.1."""
        resp.data = self._document
