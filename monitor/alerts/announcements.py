"""The notices that the service has started and that it stops."""

import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from keystore.store import Upkeep
from monitor.note_names import ANNOUNCED
from monitor.running.bounded_calls import BoundedCalls

ANNOUNCE_EVERY = timedelta(minutes=10)
"""Least time between two start notices, for a service that crashes and is restarted over and over."""

log = structlog.get_logger()


class Announcements:
    """The start and the stop of one service. It announces its stop only where it announced its start."""

    def __init__(self, store: Upkeep, version: str, post: Callable[[str], None], questions: BoundedCalls) -> None:
        self.service = f"Signal Keystore {version}"
        self.host = socket.gethostname()
        self._store = store
        self._version = version
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
        self._questions.call(lambda: self._store.remember(name, json.dumps({"version": self._version})))
        if not muted:
            role = "it alerts" if alerting else "another one alerts; this one stands by"
            self._post(f"▶ {self.service} has started on {self.host}: {role}. It watches {self._store.database}")

    def stop(self, uptime: str, firing: list[str]) -> None:
        """Announce the stop, with the lines of the alerts that still fire."""
        if self._announced:
            left = ["", "it leaves behind:", *firing] if firing else []
            self._post("\n".join([f"⏹ {self.service} on {self.host} stops, after {uptime}", *left]))
