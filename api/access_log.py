"""The access log: one line on standard error for each request, in the form of the other log lines.

Lines are formatted by hand, because structlog and logging take 60 µs for each. That is a sixth of the time of a small
read. The lines are passed on together a moment later, because a write in the middle of a request would hand the
interpreter to another thread.
"""

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from api.problems import rfc3339
from monitor.running.logs import LineWriter

WRITE_DELAY_S = 0.05

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class FinishedRequest:
    """A request and its outcome, without values and tokens. `route` is the path template."""

    route: str
    method: str
    company: str | None
    status: int
    took_ms: float
    request_id: str


class AccessLog:
    """Collects finished requests from every thread, and passes their lines on from a thread of its own."""

    def __init__(self, form: Literal["text", "json"], lines: LineWriter) -> None:
        self._lines = lines
        self._line = _json_line if form == "json" else _text_line
        self._finished: deque[tuple[datetime, FinishedRequest]] = deque()
        self._pending = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()

    def observe(self, request: FinishedRequest) -> None:
        """Add a request, to be written soon."""
        self._finished.append((datetime.now(UTC), request))
        if not self._pending.is_set():
            self._pending.set()

    def flush(self) -> None:
        """Pass on the lines that are pending."""
        with self._writing:
            lines = [self._line(*self._finished.popleft()) for _ in range(len(self._finished))]
            self._lines.write("".join(lines))

    def _run(self) -> None:
        delay = threading.Event()  # Nobody sets it: its wait is a pause.
        while True:
            self._pending.wait()
            delay.wait(WRITE_DELAY_S)
            self._pending.clear()  # Before the flush: a request added from now on is written by it or sets the event.
            self.flush()


def _json_line(at: datetime, request: FinishedRequest) -> str:
    line = {
        "company": request.company,
        "route": f"{request.method} {request.route}",
        "status": request.status,
        "ms": round(request.took_ms, 1),
        "request_id": request.request_id,
        "event": "request",
        "level": "info",
        "timestamp": rfc3339(at),
    }
    return _encoder.encode(line).decode() + "\n"


def _text_line(at: datetime, request: FinishedRequest) -> str:
    return (
        f"{rfc3339(at)} [info     ] request                        company={request.company} ms={request.took_ms:.1f} "
        f"request_id={request.request_id} route='{request.method} {request.route}' status={request.status}\n"
    )
