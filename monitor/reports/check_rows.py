"""The counts of a `check` in words, for every rendering: terminal, chat, status page, daily summary. Pure."""

from monitor.reports.check import CheckReport
from monitor.reports.formatting import ago, size


def check_rows(report: CheckReport) -> dict[str, str]:
    """`{label: value}`, in the order shown."""
    sweep = report.last_sweep
    return {
        "total": f"{report.total:,}",
        "active": f"{report.active:,}",
        "expired": f"{report.expired:,}",
        "no expiry": f"{report.without_expiry:,}",
        "guarded": f"{report.guarded:,}",
        "companies": f"{report.companies:,}",
        "size": size(report.size_bytes),
        "activity": ago(report.last_activity_at, report.taken_at),
        "sweep": f"{ago(sweep.finished_at, report.taken_at)}, {sweep.deleted:,} deleted" if sweep else "never",
    }
