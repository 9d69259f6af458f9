"""What is told of a finished request: to the log, to the metrics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FinishedRequest:
    """One request: its route's template, who it was about, and how it came out. Never a value, never a token."""

    route: str
    method: str
    company: str | None
    status: int
    took_ms: float
    request_id: str
