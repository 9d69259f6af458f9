"""The operator's settings for alerting, reports and the Telegram bot."""

import socket
from dataclasses import dataclass, field
from datetime import UTC, time, tzinfo


@dataclass(frozen=True)
class WatchSettings:
    """`summary_at` is a time of day in `zone`; None means no daily summary. `version` is the program's own.

    `name` is the installation's in messages, and `public_url` the address of its status page, "" if it isn't known.
    """

    sweep_every_s: float = 21_600.0
    load_budget_ms: float = 750.0
    memory_alert_percent: float = 90.0
    zone: tzinfo = UTC
    summary_at: time | None = None
    version: str = ""
    name: str = field(default_factory=socket.gethostname)
    public_url: str = ""
