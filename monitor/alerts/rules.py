"""The rules: what each watches, and the numbers at which an alert is raised and is over. Pure.

Each number has its reason beside it. A few minutes at the threshold leave time for trouble that passes by itself, and a
cooldown of hours keeps an alert worth reading.
"""

from dataclasses import dataclass
from datetime import timedelta

from monitor.severity import SEVERITIES, Severity
from monitor.watch_settings import WatchSettings

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0

LOW_PRE_KEYS = 5
"""Baileys uploads new pre-keys when the server holds fewer than this; a company that stays below isn't getting any."""

PRE_KEYS_ENOUGH = 20
"""Number of pre-keys at which a company is out of danger again."""

SILENT_AFTER = timedelta(minutes=10)
"""Time without a heartbeat after which a bot is silent. Bots send one every minute; a restart takes less than ten."""

BURST_REPORTED_FOR = timedelta(hours=3)
"""Age up to which a burst is news. A burst that happened while no service ran is in the reports."""


@dataclass(frozen=True)
class Rule:
    """One thing to watch, for each of its subjects separately.
    A rule with the severity "information" reports each of its subjects (an event) once; an event never recovers."""

    id: str
    title: str
    severity: Severity = "warning"


def _rule(rule_id: str, title: str) -> Rule:
    return Rule(rule_id, title, SEVERITIES[rule_id])


MEMORY = _rule("memory", "memory of this service")
BOT_MEMORY = _rule("bot-memory", "memory of a bot")
DATABASE = _rule("database", "database")
WENT_BACK = _rule("went-back", "database went back")
UNREADABLE = _rule("unreadable", "unreadable values")
LOAD = _rule("load", "loading a bot's state")
BACKLOG = _rule("backlog", "expired keys")
NO_EXPIRY = _rule("no-expiry", "keys without expiry")
SWEEPER = _rule("sweeper", "sweeper")
HELD_BACK = _rule("held-back", "sweep held back")
GROWTH = _rule("growth", "size of the table")
PRE_KEYS = _rule("pre-keys", "pre-keys")
SILENT_BOT = _rule("silent-bot", "silent bot")
BURST = _rule("burst", "reconnect")
DISK = _rule("disk", "disk of the database")

RULES = {
    rule.id: rule
    for rule in (
        MEMORY,
        BOT_MEMORY,
        SILENT_BOT,
        DATABASE,
        WENT_BACK,
        UNREADABLE,
        LOAD,
        BACKLOG,
        NO_EXPIRY,
        SWEEPER,
        HELD_BACK,
        GROWTH,
        PRE_KEYS,
        BURST,
        DISK,
    )
}
"""Every rule by its id."""


@dataclass(frozen=True)
class Thresholds:
    """The numbers of one rule.

    An alert is raised once its value was at `raise_at` or above for `for_s` seconds, and no sooner than `cooldown_s`
    after it was raised before. It is over once its value is at `clear_at` or below. An event is remembered for
    `cooldown_s`.
    """

    raise_at: float
    clear_at: float
    for_s: float
    cooldown_s: float

    def __post_init__(self) -> None:
        if not self.clear_at < self.raise_at:
            raise ValueError(f"it clears at {self.clear_at}, which isn't below its threshold {self.raise_at}")


def thresholds(settings: WatchSettings) -> dict[str, Thresholds]:
    """The numbers of every rule, by the rule's id."""
    # 5 points lower clears: a garbage collection frees less than that, a restart frees more.
    # Two minutes: longer than a burst's values are in memory, shorter than a leak's last part.
    memory = Thresholds(
        settings.memory_alert_percent / 100, max(0.0, settings.memory_alert_percent - 5) / 100, 2 * MINUTE_S, 6 * HOUR_S
    )
    budget_ms = settings.load_budget_ms
    return {
        MEMORY.id: memory,
        BOT_MEMORY.id: memory,
        # The value is the time since the last heartbeat, in parts of SILENT_AFTER. It is over with the next heartbeat.
        SILENT_BOT.id: Thresholds(1, 0.5, 0, HOUR_S),
        # Half a minute: a restarted database is back by then. Hardly any cooldown: every outage is news.
        DATABASE.id: Thresholds(1, 0, 30, 5 * MINUTE_S),
        # Certain at once: a bot has acknowledged writes that aren't there.
        WENT_BACK.id: Thresholds(1, 0, 0, HOUR_S),
        # Certain at once: a read has met the value. It stays until its bot writes the key again.
        UNREADABLE.id: Thresholds(1, 0, 0, DAY_S),
        # The 95th percentile of 20 loads, a minute apart: it is over the budget only when two of them were.
        LOAD.id: Thresholds(budget_ms, 0.8 * budget_ms, 5 * MINUTE_S, 6 * HOUR_S),
        # A tenth of the table, and still there after the next sweep was due: sweeps don't keep up.
        BACKLOG.id: Thresholds(0.10, 0.05, settings.sweep_every_s + 10 * MINUTE_S, DAY_S),
        # A quarter of an hour lets a running `backfill` finish.
        NO_EXPIRY.id: Thresholds(1, 0, 15 * MINUTE_S, DAY_S),
        # The value is in intervals. Ten minutes let the sweep that runs at a start finish.
        SWEEPER.id: Thresholds(2, 1, 10 * MINUTE_S, 6 * HOUR_S),
        # At once, because it stays until somebody decides, or the bots use their sessions again.
        HELD_BACK.id: Thresholds(1, 0, 0, DAY_S),
        # One day in twenty lies above a correct interval; a tenth above it for six hours is none of those.
        GROWTH.id: Thresholds(1.1, 1.0, 6 * HOUR_S, DAY_S),
        # The value is the number of missing pre-keys. A quarter of an hour lets a pairing write its first ones.
        PRE_KEYS.id: Thresholds(1, LOW_PRE_KEYS - PRE_KEYS_ENOUGH, 15 * MINUTE_S, 6 * HOUR_S),
        # An event is remembered for longer than it is reported.
        BURST.id: Thresholds(1, 0, 0, 2 * BURST_REPORTED_FOR.total_seconds()),
        # With a tenth left there is time to make room; with nothing left no bot can write a key.
        DISK.id: Thresholds(0.90, 0.85, 5 * MINUTE_S, 6 * HOUR_S),
    }
