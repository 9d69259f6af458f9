"""Tells strangers that the database is down, before they are asked for a token that could not be checked."""

import threading
from collections.abc import Callable
from time import monotonic

from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.note_names import READINESS
from monitor.running.bounded_calls import BoundedCalls

ANSWER_TIMEOUT_S = 2.0
CACHED_FOR_S = 1.0
"""Interval between two looks at the database: anyone may ask for the form."""


class Availability:
    """Knows if the database answers. It is for any number of threads."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._calls = BoundedCalls(1, "page-availability")
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._answers = False

    def answers(self) -> bool:
        """Return True if the database answers within two seconds, or did a second ago."""
        with self._lock:
            if monotonic() - self._asked_at > CACHED_FOR_S:
                try:
                    self._calls.call(lambda: self._store().recall(READINESS), ANSWER_TIMEOUT_S)
                    self._answers = True
                except KeystoreError:
                    self._answers = False
                self._asked_at = monotonic()
            return self._answers
