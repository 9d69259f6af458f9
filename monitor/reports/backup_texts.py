"""The reports of a backup, of its import and of its trial, as text for a terminal."""

from datetime import datetime

from rich.console import Group, RenderableType

from monitor.backup.export import BackupReport
from monitor.backup.restore import BackupImportReport
from monitor.backup.verify import VerifyReport
from monitor.reports.formatting import counted, size
from monitor.reports.layout import bullets, columns, pairs, paragraphs
from monitor.transfer.state import Skipped

MOST_SHOWN = 20
"""The most entries of a list that are shown; --json has them all."""


def exported(report: BackupReport) -> RenderableType:
    """The amounts in the archive, whether it is sealed, and what was left out."""
    verb = "would be exported" if report.dry_run else "exported"
    rows = [
        ("database", report.database),
        ("archive", report.target),
        ("moment", _moment(report.exported_at)),
        (verb, f"{_companies(report.companies)}, {counted(report.keys, 'key')}, {counted(report.tokens, 'token')}"),
        ("values", size(report.value_bytes)),
        ("file", size(report.file_bytes)),
        ("sealed", "yes" if report.sealed else "no"),
    ]
    advice = []
    if not report.sealed:
        advice.append("the values in this archive are in clear: whoever reads it has every account's private keys")
    if not report.dry_run:
        advice.append("it was read back, and its checksums are right; verify ARCHIVE restores it on trial")
    return Group(pairs(rows), *_listed("left out", report.left_out), bullets(advice))


def imported(report: BackupImportReport) -> RenderableType:
    """The amounts that are in the database as in the backup, and the companies that were left as they are."""
    verb = "would be there" if report.dry_run else "there now"
    rows = [
        ("archive", f"{report.source}, of {_moment(report.exported_at)}"),
        ("database", report.database),
        (verb, f"{_companies(report.companies)}, {counted(report.keys, 'key')}"),
        ("tokens added", f"{report.tokens:,}"),
    ]
    advice = ["bots have used their accounts since the backup: before any starts, run rolled-back"]
    if report.refused:
        advice.append("repeat the import once the reasons are gone; it goes on with the rest")
    return Group(pairs(rows), *_listed("left as they are", report.refused), bullets(advice))


def verified(report: VerifyReport) -> RenderableType:
    """The verdict first, then the amounts, then the differences."""
    verdict = "the backup can be restored" if report.good else "the backup doesn't restore as it is"
    rows = [
        ("archive", f"{report.archive}, of {_moment(report.exported_at)}"),
        ("written by", f"version {report.program}"),
        ("sealed", "yes" if report.sealed else "no"),
        ("restored into", report.scratch),
        (
            "compared",
            f"{_companies(report.companies)}, {counted(report.keys, 'key')}, {report.creds:,} creds, "
            f"{counted(report.tokens, 'token')}",
        ),
        ("values", size(report.value_bytes)),
    ]
    style = "green" if report.good else "bold red"
    return Group(paragraphs(verdict, style=style), pairs(rows), *_listed("differences", report.differences))


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _companies(number: int) -> str:
    return counted(number, "company", "companies")


def _listed(heading: str, entries: tuple[Skipped, ...]) -> list[RenderableType]:
    """A heading and the first entries; nothing without any."""
    if not entries:
        return []
    more = [paragraphs(f"and {len(entries) - MOST_SHOWN:,} more")] if len(entries) > MOST_SHOWN else []
    return [paragraphs(f"{heading}: {len(entries):,}"), columns(entries[:MOST_SHOWN]), *more]
