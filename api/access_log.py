"""A line in the log for each request, in the form of the other lines, on standard error.

Lines are made by hand (structlog and logging take 60 µs for one, a sixth of what a small read takes), all together and
a moment later: a write for each would hand the interpreter to another thread in the middle of a request.
"""

import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from api.finished_request import FinishedRequest

WRITTEN_AFTER_S = 0.05

_encoder = msgspec.json.Encoder()


class AccessLog:
    """Takes finished requests from every thread, and writes their lines from one of its own."""

    def __init__(self, form: Literal["text", "json"], stream: TextIO | None = None) -> None:
        self._line = _json_line if form == "json" else _text_line
        self._stream = stream or sys.stderr
        self._finished: deque[tuple[datetime, FinishedRequest]] = deque()
        self._come = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()

    def observe(self, seen: FinishedRequest) -> None:
        """Takes one."""
        self._finished.append((datetime.now(UTC), seen))
        if not self._come.is_set():
            self._come.set()

    def flush(self) -> None:
        """Writes what has come."""
        with self._writing, suppress(OSError):  # Whoever took the log has gone; the requests are answered all the same.
            lines = [self._line(*self._finished.popleft()) for _ in range(len(self._finished))]
            self._stream.write("".join(lines))
            self._stream.flush()

    def _run(self) -> None:
        together = threading.Event()
        while True:
            self._come.wait()
            together.wait(WRITTEN_AFTER_S)
            self._come.clear()  # Before the lines are taken: one that comes now is written now, or sets it again.
            self.flush()


def _json_line(at: datetime, seen: FinishedRequest) -> str:
    told = {
        "company": seen.company,
        "route": f"{seen.method} {seen.route}",
        "status": seen.status,
        "ms": round(seen.took_ms, 1),
        "request_id": seen.request_id,
        "event": "request",
        "level": "info",
        "timestamp": _written(at),
    }
    return _encoder.encode(told).decode() + "\n"


def _text_line(at: datetime, seen: FinishedRequest) -> str:
    return (
        f"{_written(at)} [info     ] request                        company={seen.company} ms={seen.took_ms:.1f} "
        f"request_id={seen.request_id} route='{seen.method} {seen.route}' status={seen.status}\n"
    )


def _written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
