"""The daily summary: once for each day of the operator's calendar, at the operator's time.

On a day when the clocks skip that time, the summary comes as much later as the clocks jump. On a day when they show it
twice, it comes the first time. After downtime it comes late, or not at all when the day is too far gone.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from time import monotonic

import structlog

from keystore.sql.link import StatementTimedOut
from keystore.store import Store
from monitor.alerts.measurements import SURVEY_WITHIN_S
from monitor.growth import GrowthReport, growth_report
from monitor.note_names import SUMMARY
from monitor.reports.check import CheckReport, Verdict, check_report, check_rows
from monitor.reports.formatting import counted, sparkline
from monitor.running.bounded_calls import BoundedCalls, Busy, TimedOut
from monitor.watch_settings import WatchSettings

LATE_AT_MOST = timedelta(hours=6)
"""Delay after which a summary isn't sent any more: it would say nothing about how the day began."""

RETRY_S = 600.0
"""Pause after a summary that the database could not give."""

_MARKS: dict[Verdict, str] = {"ok": "🟢", "warning": "🟡", "critical": "🔴"}

log = structlog.get_logger()


@dataclass
class DailySummary:
    """The schedule of the summaries of one store. The database remembers the last day, so each day has one summary."""

    store: Store
    settings: WatchSettings
    questions: BoundedCalls
    surveys: BoundedCalls
    ticks: Callable[[], float] = monotonic
    _last_day: date | None = None
    _not_before: float = 0.0

    def text_if_due(self, now: datetime, firing: list[str]) -> str | None:
        """The day's summary when it is due, else None. Raises what the store raises, and is then tried again later."""
        if self._due(now) is None or self.ticks() < self._not_before:
            return None
        self._not_before = self.ticks() + RETRY_S
        self._last_day = self.questions.call(self._stored_day)
        day = self._due(now)
        if day is None:
            return None
        try:
            check, growth = self.surveys.call(
                lambda: (check_report(self.store, self.settings.sweep_every_s), growth_report(self.store)),
                SURVEY_WITHIN_S,
            )
        except (TimedOut, Busy, StatementTimedOut) as error:  # A table too large to count in time is no outage.
            log.warning("summary_put_off", error=str(error), retry_s=RETRY_S)
            return None
        self.questions.call(lambda: self.store.remember(SUMMARY, json.dumps({"day": day.isoformat()})))
        self._last_day, self._not_before = day, 0.0
        return text(day, check, growth, firing, self.settings)

    def _due(self, now: datetime) -> date | None:
        at = self.settings.summary_at
        return None if at is None else due(self._last_day, now, self.settings.zone, at)

    def _stored_day(self) -> date | None:
        note = self.store.recall(SUMMARY)
        try:
            return date.fromisoformat(json.loads(note.document)["day"]) if note is not None else None
        except (ValueError, KeyError, TypeError):
            return None


def due(last_day: date | None, now: datetime, zone: tzinfo, at: time) -> date | None:
    """The local day whose summary is to be sent now, None when there is none. `last_day` is the last summary's day.

    A last day in the future was sent before the clock was set back, and counts for nothing.
    """
    today = now.astimezone(zone).date()
    for day in (today, today - timedelta(days=1)):
        # In UTC: two local times of one zone are subtracted as if no clock had been changed between them.
        due_at = datetime.combine(day, at, zone).astimezone(UTC)
        if timedelta(0) <= now - due_at < LATE_AT_MOST and (last_day is None or not day <= last_day <= today):
            return day
    return None


def text(day: date, check: CheckReport, growth: GrowthReport, firing: list[str], settings: WatchSettings) -> str:
    """The summary of a day: verdict, counts, history, forecast, advice, and the lines of the firing alerts."""
    rows = check_rows(check, settings.zone)
    companies = counted(check.companies, "company", "companies")
    lines = [
        f"{_MARKS[check.verdict]} {settings.name}, {day:%A} {day.day} {day:%B}: {check.verdict}",
        f"{counted(check.total, 'key')} of {companies}, {rows['size']}",
        f"expired {rows['expired']}, guarded {rows['guarded']}, without expiry {rows['without expiry']}",
        f"created: {growth.created_24h:,} in 24 h, {growth.created_7d:,} in 7 days",
        f"last activity: {rows['activity']}",
        f"last sweep: {rows['sweep']}",
    ]
    if len(growth.history) > 1:
        first = growth.history[0]
        lines.append(f"since {first.at:%d %b}: {sparkline([count.total for count in growth.history])} {check.total:,}")
    if growth.forecast is not None:
        low, expected, high = growth.forecast.keys_at(7)
        lines.append(f"in 7 days: about {expected:,} ({low:,} to {high:,})")
    lines += [f"• {advice}" for advice in check.advice]
    if firing:
        lines += ["", "Still firing:", *firing]
    if settings.public_url:
        lines += ["", f"Status page: {settings.public_url}"]
    return "\n".join(lines)
