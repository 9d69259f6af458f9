"""The access log: one line on standard error for each request, in the form of the other log lines.

Lines are formatted by hand, because structlog and logging take 60 µs for each. That is a sixth of the time of a small
read. The lines are passed on together a moment later, because a write in the middle of a request would hand the
interpreter to another thread.
"""

import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

import msgspec
import structlog

from api.access.allowance import Allowance
from api.problems import rfc3339
from monitor.running.logs import LineWriter

WRITE_DELAY_S = 0.05

STRANGER_LINES_PER_S, STRANGER_BURST = 20.0, 100
"""Lines for requests without a known token. Anybody can send these, and they would fill the disk."""

COUNT_EVERY_S = 1.0
"""Interval between two lines with the number of lines that were left out."""

REASON_EVERY_S = 60.0
MAX_REASONS = 50

log = structlog.get_logger()

_DIGITS = re.compile(r"\d+")
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class FinishedRequest:
    """A request and its outcome. `route` is the path template. It holds no value and no token, but a token's id.

    `address` is the client's, for a request without a known token.
    """

    route: str
    method: str
    company: str | None
    status: int
    took_ms: float
    request_id: str
    token_id: str | None = None
    address: str | None = None


class AccessLog:
    """Collects finished requests from every thread, and passes their lines on from a thread of its own."""

    def __init__(self, form: Literal["text", "json"], lines: LineWriter) -> None:
        self._lines = lines
        self._line = _json_line if form == "json" else _text_line
        self._finished: deque[tuple[datetime, FinishedRequest]] = deque()
        self._strangers = LineLimit(STRANGER_LINES_PER_S, STRANGER_BURST)
        self._pending = threading.Event()
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()

    def observe(self, request: FinishedRequest) -> None:
        """Add a request, to be written soon. Of requests without a known token only some a second are written."""
        if request.token_id is None and not self._strangers.allows():
            return
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


class LineLimit:
    """Allows some lines a second, and counts the others."""

    def __init__(self, per_s: float, burst: int) -> None:
        now = monotonic()
        self._lock = threading.Lock()
        self._allowance = Allowance.full(burst, per_s, now)
        self._left_out, self._counted_at = 0, now

    def allows(self) -> bool:
        """Return True if a line may be written now; otherwise count it as left out."""
        with self._lock:
            now = monotonic()
            if self._allowance.refilled(now) < 1:
                self._left_out += 1
                return False
            self._allowance.spend(1)
            if now - self._counted_at < COUNT_EVERY_S:
                return True
            self._counted_at = now
            left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning("request_lines_left_out", lines=left_out, hint="requests without a known token, too many")
        return True


class UnavailableLog:
    """Logs the reason of a 503: each reason once a minute, with the number of answers since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[float, int]] = {}
        """The time of each reason's latest line, and its answers since."""

    def observe(self, route: str, error: Exception) -> None:
        """Log the error, if it wasn't logged within the last minute."""
        reason = str(error)
        kind = f"{type(error).__name__} {_DIGITS.sub('', reason)}"
        with self._lock:
            now = monotonic()
            at, unlogged = self._logged.get(kind, (-REASON_EVERY_S, 0))
            if now - at < REASON_EVERY_S:
                self._logged[kind] = at, unlogged + 1
                return
            if len(self._logged) >= MAX_REASONS:
                self._logged = {
                    known: entry for known, entry in self._logged.items() if now - entry[0] < REASON_EVERY_S
                }
            if len(self._logged) >= MAX_REASONS:
                return
            self._logged[kind] = now, 0
        log.warning("unavailable", reason=reason, error=type(error).__name__, route=route, answers_before=unlogged)


def _json_line(at: datetime, request: FinishedRequest) -> str:
    line = {
        "company": request.company,
        "route": f"{request.method} {request.route}",
        "status": request.status,
        "ms": round(request.took_ms, 1),
        "request_id": request.request_id,
        **({"address": request.address} if request.token_id is None else {"token_id": request.token_id}),
        "event": "request",
        "level": "info",
        "timestamp": rfc3339(at),
    }
    return _encoder.encode(line).decode() + "\n"


def _text_line(at: datetime, request: FinishedRequest) -> str:
    caller = f"address={request.address}" if request.token_id is None else f"token_id={request.token_id}"
    return (
        f"{rfc3339(at)} [info     ] request                        {caller} company={request.company} "
        f"ms={request.took_ms:.1f} "
        f"request_id={request.request_id} route='{request.method} {request.route}' status={request.status}\n"
    )
