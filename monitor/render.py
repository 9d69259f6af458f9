"""Two of a report's renderings: a table for a terminal, and JSON. (A report is a value; it knows of neither.)"""

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from monitor.backfill import BackfillReport
from monitor.doctor import DoctorReport
from monitor.growth import GrowthReport
from monitor.health import CheckReport
from monitor.perf import PerfReport
from monitor.repair import Move, RepairReport
from monitor.sweeper import SweepReport
from monitor.transfer import TransferReport
from monitor.types import TypesReport

BAR_WIDTH = 18
"""Fits, with what stands beside it, into 60 columns."""
_STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "failed": "bold red"}
_RATING_STYLES = {"excellent": "green", "good": "green", "acceptable": "yellow", "slow": "bold red"}


def as_json(report: Any) -> str:
    """Any report as a JSON document; times as ISO 8601 with their zone."""
    return json.dumps(_plain(report), ensure_ascii=False, indent=2)


def check(report: CheckReport) -> RenderableType:
    """The verdict first, then the counts, then what to do."""
    rows = _pairs(
        ("total", f"{report.total:,}"),
        ("active", f"{report.active:,}"),
        ("expired", f"{report.expired:,}"),
        ("guarded", f"{report.guarded:,}"),
        ("without expiry", f"{report.without_expiry:,}"),
        ("companies", f"{report.companies:,}"),
        ("last activity", _ago(report.last_activity_at, report.taken_at)),
        ("last sweep", _last_sweep(report)),
        ("size", _size(report.size_bytes)),
    )
    advice = [Text(f"• {line}") for line in report.advice]
    return Group(_headed(report.verdict, report.database), rows, *advice)


def types(report: TypesReport) -> RenderableType:
    """Keys by type, as a table with its sum."""
    table = Table("key type", title=report.database, title_justify="left", show_footer=True)
    table.columns[0].footer = "all"
    table.columns[0].overflow = "fold"
    for name, footer in (
        ("total", report.total),
        ("with expiry", report.with_expiry),
        ("without expiry", report.without_expiry),
    ):
        table.add_column(name, footer=f"{footer:,}", justify="right")
    for count in report.types:
        table.add_row(count.key_type, *(f"{n:,}" for n in (count.total, count.with_expiry, count.without_expiry)))
    return table


def growth(report: GrowthReport) -> RenderableType:
    """What came lately, the diary's projection, and its picture."""
    rows = _pairs(
        ("total", f"{report.total:,} keys"),
        ("oldest", f"{report.oldest_days} days"),
        ("created in 24 h", f"{report.created_24h:,}"),
        ("created in 7 days", f"{report.created_7d:,}, {report.per_day}/day"),
    )
    bars = [("now", report.total, "")]
    for days, projected in report.diary.items():
        fewer_or_more = f"{abs(projected.change):,} {'fewer' if projected.change < 0 else 'more'}"
        bars.append((f"{days} days each", projected.keys, f"{_signed(projected.percent)} %, {fewer_or_more}"))
    return Group(
        Text(report.database, "bold"), rows, Text("the diary's projection", "bold"), _bars(bars), report.caveat
    )


def perf(report: PerfReport) -> RenderableType:
    """The rating first, then each time against the budget."""
    style = _RATING_STYLES[report.rating]
    budget = "within" if report.within_budget else "over"
    rows = _pairs(
        ("load", f"{report.load_ms:,.1f} ms ({report.keys:,} keys, {_size(report.loaded_bytes)}, of {report.company})"),
        ("get of 20", f"{report.get_ms:,.1f} ms"),
        ("burst of 250", f"{report.burst_ms:,.1f} ms"),
        ("reconnect", f"{report.reconnect_ms:,.1f} ms, {budget} the budget of {report.budget_ms:,.0f} ms"),
        ("size", _size(report.size_bytes)),
    )
    return Group(Text.assemble((report.rating, style), f"  {report.database}"), rows)


def backfill(report: BackfillReport) -> RenderableType:
    """How many keys got an expiry, by type."""
    verb = "would get" if report.dry_run else "got"
    lines = [f"{report.updated:,} keys {verb} an expiry in {report.database}", *_by_type(report.by_type)]
    if report.enforced:
        lines.append("the database refuses keys without expiry")
    return Group(*lines)


def sweep(report: SweepReport) -> RenderableType:
    """What a sweep deleted, by type."""
    if report.skipped:
        return f"nothing swept: another sweeper is at work on {report.database}"
    if report.dry_run:
        told = f"{report.deleted:,} expired keys would be deleted from {report.database}"
        return Group(told, *_by_type(report.by_type))
    told = f"{report.deleted:,} expired keys deleted from {report.database} in {report.took_ms:,.0f} ms"
    return Group(told, *_by_type(report.by_type))


def transfer(report: TransferReport) -> RenderableType:
    """What went in or out, and what was left out and why."""
    verb = "would be taken" if report.dry_run else "taken"
    creds = "creds and " if report.creds else ""
    lines = [
        f"{creds}{report.keys:,} keys of company {report.company} {verb} from {report.source} to {report.target}",
        *_by_type(report.by_type),
    ]
    if not report.dry_run:
        lines.append(f"{report.verified:,} keys read back and compared")
    if not report.creds:
        lines.append("there are no creds among them: a bot can't connect with these keys alone")
    if report.expired:
        lines.append(f"{report.expired:,} of them are past their expiry, and go with the next sweep unless guarded")
    if report.deleted_files:
        lines.append(f"{report.deleted_files:,} source files deleted")
    if report.skipped:
        lines += [f"left out: {len(report.skipped):,}", *(f"  {name}: {reason}" for name, reason in report.skipped)]
    return Group(*lines)


def repair(report: RepairReport) -> RenderableType:
    """What moved, by type; in a dry run each row, and always the rows that stay and why."""
    verb = "would be moved" if report.dry_run else "moved"
    lines = [f"{report.moved:,} rows {verb} to the type they belong to in {report.database}", *_by_type(report.by_type)]
    if report.dry_run:
        lines += [f"  {move.company_id}: {_move(move)}" for move in report.moves]
    if report.kept:
        lines.append(f"{len(report.kept):,} stay: something newer stands where they belong")
        lines += [f"  {move.company_id}: {_move(move)}" for move in report.kept]
    return Group(*lines)


def doctor(report: DoctorReport) -> RenderableType:
    """Everything looked at, a line each."""
    table = Table.grid(padding=(0, 2))
    for looked_at in report.checks:
        table.add_row(Text(looked_at.status, _STYLES[looked_at.status]), looked_at.name, looked_at.detail)
    return table


def _headed(verdict: str, database: str) -> Text:
    return Text.assemble((verdict.upper(), _STYLES[verdict]), f"  {database}")


def _pairs(*pairs: tuple[str, str]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs:
        table.add_row(Text(name, "dim"), value)
    return Padding(table, (0, 0, 0, 2))


def _bars(bars: list[tuple[str, int, str]]) -> RenderableType:
    most = max(1, *(keys for _, keys, _ in bars))
    table = Table.grid(padding=(0, 2))
    for name, keys, told in bars:
        table.add_row(Text(name, "dim"), "█" * round(BAR_WIDTH * keys / most), f"{keys:,}", told)
    return Padding(table, (0, 0, 0, 2))


def _by_type(by_type: Mapping[str, int]) -> list[str]:
    return [
        f"  {key_type}: {keys:,}" for key_type, keys in sorted(by_type.items(), key=lambda item: (-item[1], item[0]))
    ]


def _move(move: Move) -> str:
    return f"{move.key_type} {move.key_id} → {move.to_type} {move.to_id}"


def _last_sweep(report: CheckReport) -> str:
    if report.last_sweep is None:
        return "never"
    return f"{_ago(report.last_sweep.finished_at, report.taken_at)}, {report.last_sweep.deleted:,} deleted"


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = max(0.0, (now - moment).total_seconds())
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit} ago ({moment:%Y-%m-%d %H:%M} UTC)"
    return f"{seconds:.0f} s ago ({moment:%Y-%m-%d %H:%M} UTC)"


def _signed(percent: int) -> str:
    return f"+{percent}" if percent > 0 else f"−{-percent}" if percent < 0 else "±0"


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({**asdict(value), **_derived(value)})
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _derived(value: Any) -> dict[str, Any]:
    """A report's properties, which `asdict` leaves out."""
    return {name: getattr(value, name) for name, part in vars(type(value)).items() if isinstance(part, property)}
