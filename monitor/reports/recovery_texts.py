"""The reports of the trash, of what came back, and of what was erased, as text for a terminal."""

from datetime import datetime

from rich.console import Group, RenderableType

from monitor.recovery.purge import PurgeReport
from monitor.recovery.restore import RestoreReport
from monitor.recovery.rolled_back import RolledBackReport
from monitor.recovery.trash import TrashReport
from monitor.reports.formatting import counted, size
from monitor.reports.layout import bullets, pairs, paragraphs, table

COUNTERS_STAY = (
    "the bot has sealed its creds, so the pre-key counters in them are those of the backup, and an id of a pre-key may "
    "be given out twice; pair the account once more"
)
"""The advice where fresh sessions need later counters."""


def trash(report: TrashReport) -> RenderableType:
    """A line for each deletion, newest first."""
    if not report.entries:
        keeps = f"it keeps {report.trash_days:g} days" if report.trash_days else "it is off (KEYSTORE_TRASH)"
        return paragraphs(f"{report.database}: the trash is empty; {keeps}")
    header = ["company", "deleted", "kept until", "by", "keys", "creds", "size"]
    rows = [
        [
            entry.company,
            _moment(entry.deleted_at),
            "the next sweep" if entry.kept_until is None else f"{entry.kept_until:%Y-%m-%d}",
            entry.reason,
            f"{entry.keys:,}",
            "yes" if entry.creds else "no",
            size(entry.value_bytes),
        ]
        for entry in report.entries
    ]
    advice = bullets(("restore --company COMPANY brings the latest of it back; --as-of TIME what it had then",))
    return Group(paragraphs(report.database, style="bold"), table(header, rows, numeric=(4, 6)), advice)


def restore(report: RestoreReport) -> RenderableType:
    """The keys that came back and those that were left out, and a warning."""
    verb = "would come back" if report.dry_run else "came back"
    creds = "creds and " if report.creds else ""
    rows: list[tuple[str, str]] = [
        ("company", report.company),
        ("deleted", f"{_moment(report.deleted_at)} UTC, by: {report.reason}"),
        (verb, f"{creds}{counted(report.keys, 'key')}"),
        *((key_type, f"{keys:,}") for key_type, keys in report.by_type.items()),
    ]
    if report.left_out:
        rows.append(("left out", f"{counted(report.left_out, 'ratchet')}, to be agreed on again"))
    if report.replaced:
        place = "which would go to the trash" if report.dry_run else "now in the trash"
        rows.append(("replaced", f"{counted(report.replaced, 'key')}, {place}"))
    used = f"if a bot used this account after {_moment(report.deleted_at)} UTC, repeat it with --fresh-sessions"
    advice = [used] if report.keys and not report.fresh_sessions else []
    if report.counters_stay:
        advice.append(COUNTERS_STAY)
    return Group(paragraphs(report.database, style="bold"), pairs(rows), bullets(advice))


def rolled_back(report: RolledBackReport) -> RenderableType:
    """The number of ratchets, and the companies that were left as they are."""
    verb = "would be dropped" if report.dry_run else "dropped"
    companies = counted(report.companies, "company", "companies")
    lines = [f"{counted(report.keys, 'ratchet')} of {companies} {verb} in {report.database}"]
    advice = [
        f"{company}: its bot is running, so nothing was changed; stop it and repeat this" for company in report.leased
    ]
    advice += [f"{company}: {COUNTERS_STAY}" for company in report.sealed]
    return Group(paragraphs(*lines), bullets(advice))


def purge(report: PurgeReport) -> RenderableType:
    """The rows that were erased."""
    if report.dry_run:
        return paragraphs(
            f"company {report.company} and its {counted(report.keys, 'key')} would be erased from {report.database}"
        )
    erased = [(table_name, f"{rows:,}") for table_name, rows in report.rows.items() if rows]
    return Group(
        paragraphs(f"company {report.company} erased from {report.database}", style="bold"),
        pairs([*erased, ("documents", f"{report.documents:,}")]),
    )


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"
