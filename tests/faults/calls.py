"""Calls that are made one after the other while a fault lasts: how long the longest took, and how many failed."""

import json
import threading
import urllib.request
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self
from urllib.error import HTTPError

from keystore.errors import KeystoreError

PAUSE_S = 0.1
NO_ANSWER_S = 90.0
"""Far beyond every deadline of ours, so that the service's own is measured."""


class Calls:
    """One call, again and again, in a thread. Each ends, with an answer or an error."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.longest_s = 0.0
        self.answered = self.failed = 0
        self.errors: set[str] = set()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = monotonic()
            try:
                self._call()
                self.answered += 1
            except (KeystoreError, OSError) as error:
                self.failed += 1
                self.errors.add(str(error))
            self.longest_s = max(self.longest_s, monotonic() - began)
            self._stop.wait(PAUSE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(NO_ANSWER_S)
        assert not self._thread.is_alive(), "a call doesn't end"


def http_get(url: str, token: str = "") -> None:
    """Send a GET. Raises as `http_post`."""
    _send(url, token, None)


def http_post(url: str, token: str, body: object) -> None:
    """Send a request over a connection of its own. Raises OSError, with the problem, for any answer but a 2xx."""
    _send(url, token, json.dumps(body).encode())


def _send(url: str, token: str, body: bytes | None) -> None:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=NO_ANSWER_S) as answer:  # noqa: S310
            answer.read()
    except HTTPError as error:
        problem = json.loads(error.read() or b"{}")
        raise OSError(f"{error.code} {problem.get('type')}: {problem.get('detail')}") from None
