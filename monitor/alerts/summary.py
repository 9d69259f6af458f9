"""What is told unasked, alerts apart: the day's summary, and that the service starts and stops. Pure.

The summary comes once for each day of the operator's calendar, at his time. On the day his clocks skip that time it
comes as much later as they jump, on the day they show it twice the first time, and after downtime late, or not at all
where the day is too far gone.
"""

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport, Verdict
from monitor.reports.check_rows import check_rows
from monitor.reports.sparkline import sparkline

LATE_AT_MOST = timedelta(hours=6)
"""A summary that comes later than that tells nobody how the day began."""

_MARKS: dict[Verdict, str] = {"ok": "🟢", "warning": "🟡", "critical": "🔴"}


def due(last_sent_on: date | None, now: datetime, zone: tzinfo, at: time) -> date | None:
    """The local day whose summary should be sent now, None when none should. `last_sent_on` is the last one's day."""
    today = now.astimezone(zone).date()
    for day in (today, today - timedelta(days=1)):
        # In UTC: two local times of one zone are subtracted as if no clock had been changed between them.
        due_at = datetime.combine(day, at, zone).astimezone(UTC)
        if timedelta(0) <= now - due_at < LATE_AT_MOST and (last_sent_on is None or last_sent_on < day):
            return day
    return None


def text(day: date, check: CheckReport, growth: GrowthReport, firing: list[str]) -> str:
    """The summary of a day: the verdict, the counts, how they went, what is expected, and what to do."""
    rows = check_rows(check)
    lines = [
        f"{_MARKS[check.verdict]} {day:%A, %d %B}: {check.verdict}, {check.database}",
        f"keys: {rows['total']} of {rows['companies']} companies, {rows['size']}",
        f"expired {rows['expired']}, guarded {rows['guarded']}, without expiry {rows['no expiry']}",
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
        lines += ["", "still firing:", *firing]
    return "\n".join(lines)


def started(version: str, database: str, host: str, *, alerting: bool) -> str:
    """When the service begins to work."""
    role = "it alerts" if alerting else "another one alerts; this one stands by"
    return f"▶ Signal Keystore {version} has started on {host}: {role}. It watches {database}"


def stopping(version: str, host: str, uptime: str, firing: list[str]) -> str:
    """When the service was asked to stop."""
    left = ["", "it leaves behind:", *firing] if firing else []
    return "\n".join([f"⏹ Signal Keystore {version} on {host} stops, after {uptime}", *left])
