"""The reports as text and tables for a terminal: one function for each report."""

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from monitor.forecast.backtest import Outcome
from monitor.forecast.forecast import Forecast
from monitor.forecast.type_forecast import TypeForecast
from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport, check_rows
from monitor.reports.doctor import DoctorReport
from monitor.reports.formatting import signed, size, sparkline
from monitor.reports.key_types import TypesReport
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.transfer.state import TransferReport
from monitor.upkeep.backfill import BackfillReport
from monitor.upkeep.repair import Move, RepairReport

BAR_WIDTH = 18
"""The width of the longest bar; with the numbers beside it, a line fits into 60 columns."""

TREND_WIDTH = 12

SHOWN_DAYS = (7, 14, 30, 90)
"""The days that a forecast is shown for."""

_STYLES = {
    **dict.fromkeys(("ok", "excellent", "good"), "green"),
    **dict.fromkeys(("warning", "acceptable"), "yellow"),
    **dict.fromkeys(("critical", "failed", "slow"), "bold red"),
}


def check(report: CheckReport) -> RenderableType:
    """The verdict first, then the counts, then what to do."""
    trend = [("last 30 days", sparkline(report.totals_30d))] if len(report.totals_30d) > 1 else []
    rows = _pairs(*check_rows(report).items(), *trend)
    advice = [Text(f"• {line}") for line in report.advice]
    return Group(_headed(report.verdict.upper(), report.database), rows, *advice)


def types(report: TypesReport) -> RenderableType:
    """Keys by type, as a table with a total."""
    table = Table(title=report.database, title_justify="left", show_footer=True)
    table.add_column("key type", footer="all", overflow="fold")
    footers = {"total": report.total, "with expiry": report.with_expiry, "without expiry": report.without_expiry}
    for name, footer in footers.items():
        table.add_column(name, footer=f"{footer:,}", justify="right")
    trends = any(len(totals) > 1 for totals in report.totals_30d.values())
    if trends:
        table.add_column("last 30 days", max_width=TREND_WIDTH)
    for count in report.types:
        cells = [count.key_type, *(f"{n:,}" for n in (count.total, count.with_expiry, count.without_expiry))]
        table.add_row(*cells, *([sparkline(report.totals_30d.get(count.key_type, ()), TREND_WIDTH)] if trends else []))
    return table


def growth(report: GrowthReport) -> RenderableType:
    """The latest arrivals, the legacy projection, the forecast, and the results of earlier forecasts."""
    rows = [
        ("total", f"{report.total:,} keys"),
        ("oldest", f"{report.oldest_days} days"),
        ("created in 24 h", f"{report.created_24h:,}"),
        ("created in 7 days", f"{report.created_7d:,}, {report.per_day}/day"),
    ]
    if len(report.history) > 1:
        totals = [count.total for count in report.history]
        days = (report.history[-1].at - report.history[0].at).days
        rows.append(
            (f"last {days} days" if days > 1 else "last hours", f"{sparkline(totals)}  {totals[0]:,} → {totals[-1]:,}")
        )
    bars = [("now", report.total, "")]
    for days_each, projected in report.diary.items():
        fewer_or_more = f"{abs(projected.change):,} {'fewer' if projected.change < 0 else 'more'}"
        bars.append((f"{days_each} days each", projected.keys, f"{signed(projected.percent)} %, {fewer_or_more}"))
    legacy = Text("the original operator's projection", "bold")
    parts: list[RenderableType] = [Text(report.database, "bold"), _pairs(*rows), legacy, _bars(bars), report.caveat]
    if report.forecast is None:
        parts += [Text("forecast", "bold"), f"  none yet: it waits for {report.forecast_waits_for}"]
    else:
        parts += _forecast("forecast", report.forecast)
    if report.what_if is not None:
        parts += _forecast("what if: the forecast under --ttl", report.what_if)
    if report.outcomes:
        parts += [Text("earlier forecasts", "bold"), _pairs(*map(_outcome, report.outcomes))]
    return Group(*parts)


def _forecast(title: str, forecast: Forecast) -> list[RenderableType]:
    """Today, some later days and the equilibrium as bars, and a line for each type."""
    bars = [("now", forecast.now, "")]
    for days in SHOWN_DAYS:
        low, expected, high = forecast.keys_at(days)
        bars.append((f"in {days} days", expected, f"{low:,} to {high:,}"))
    if forecast.equilibrium is not None:
        bars.append(("equilibrium", forecast.equilibrium, f"in {forecast.days_to_equilibrium} days"))
    names = [Text(name, "dim") for name in ("key type", "now", "a day", "bursts", "lives", "in 30 days", "equilibrium")]
    types = [
        (
            type_.key_type,
            f"{type_.now:,}",
            f"{type_.arrivals_per_day:,.1f}",
            f"{type_.burst_keys:,} every {1 / type_.bursts_per_day:.1f} days" if type_.bursts_per_day else "",
            "forever" if type_.lifetime_days is None else f"{type_.lifetime_days} days",
            f"{type_.in_30_days:,}",
            _equilibrium(type_),
        )
        for type_ in forecast.per_type
    ]
    learned = f"learned from {forecast.days_seen:g} days; nine in ten outcomes should lie between the two numbers"
    return [Text.assemble((title, "bold"), f"  {learned}"), _bars(bars), _indented([names, *types])]


def _equilibrium(type_: TypeForecast) -> str:
    if type_.equilibrium is None:
        return "keeps growing"
    return f"{type_.equilibrium:,}" + (f", {type_.kept_by_use:,} of them by use" if type_.kept_by_use else "")


def _outcome(outcome: Outcome) -> tuple[str, str]:
    return f"over {outcome.days} day{'' if outcome.days == 1 else 's'}", (
        f"{outcome.forecasts:,} forecasts, off by {outcome.median_error_percent} % in the median and "
        f"{outcome.worst_error_percent} % at worst; {outcome.within:,} within their interval"
    )


def perf(report: PerfReport) -> RenderableType:
    """The rating first, then each time against the budget."""
    budget = "within" if report.within_budget else "over"
    rows = _pairs(
        ("load", f"{report.load_ms:,.1f} ms ({report.keys:,} keys, {size(report.loaded_bytes)}, of {report.company})"),
        ("get of 20", f"{report.get_ms:,.1f} ms"),
        ("burst of 250", f"{report.burst_ms:,.1f} ms"),
        ("reconnect", f"{report.reconnect_ms:,.1f} ms, {budget} the budget of {report.budget_ms:,.0f} ms"),
        ("size", size(report.size_bytes)),
    )
    return Group(_headed(report.rating, report.database), rows)


def backfill(report: BackfillReport) -> RenderableType:
    """The keys that got an expiry, by type."""
    verb = "would get" if report.dry_run else "got"
    lines = [f"{report.updated:,} keys {verb} an expiry in {report.database}", *_by_type(report.by_type)]
    if report.enforced:
        lines.append("the database refuses keys without expiry")
    return Group(*lines)


def sweep(report: SweepReport) -> RenderableType:
    """The deleted keys, by type."""
    if report.skipped:
        return f"nothing swept: another sweeper is at work on {report.database}"
    if report.dry_run:
        text = f"{report.deleted:,} expired keys would be deleted from {report.database}"
    else:
        text = f"{report.deleted:,} expired keys deleted from {report.database} in {report.took_ms:,.0f} ms"
    return Group(text, *_by_type(report.by_type))


def transfer(report: TransferReport) -> RenderableType:
    """The imported or exported keys, and the files or keys left out, with reasons."""
    verb = "would be taken" if report.dry_run else "taken"
    creds = "creds and " if report.creds else ""
    lines = [
        f"{creds}{report.keys:,} keys of company {report.company} {verb} from {report.source} to {report.target}",
        *_by_type(report.by_type),
    ]
    if not report.dry_run:
        lines.append(f"{report.verified:,} keys read back and compared")
    if not report.creds:
        lines.append("creds are missing: a bot can't connect with these keys alone")
    if report.expired:
        lines.append(f"{report.expired:,} of them are past their expiry, and go with the next sweep unless guarded")
    if report.deleted_files:
        lines.append(f"{report.deleted_files:,} source files deleted")
    if report.skipped:
        lines += [f"left out: {len(report.skipped):,}", *(f"  {name}: {reason}" for name, reason in report.skipped)]
    return Group(*lines)


def repair(report: RepairReport) -> RenderableType:
    """The moved rows by type, and the rows that stay; a dry run also lists each row that would move."""
    verb = "would be moved" if report.dry_run else "moved"
    lines = [f"{report.moved:,} rows {verb} to the type they belong to in {report.database}", *_by_type(report.by_type)]
    if report.dry_run:
        lines += map(_move, report.moves)
    if report.kept:
        lines.append(f"{len(report.kept):,} stay: a newer row stands where they belong")
        lines += map(_move, report.kept)
    return Group(*lines)


def doctor(report: DoctorReport) -> RenderableType:
    """The checks, one a line."""
    return _grid((Text(item.status, _STYLES[item.status]), item.name, item.detail) for item in report.checks)


def _headed(word: str, database: str) -> Text:
    return Text.assemble((word, _STYLES[word.lower()]), f"  {database}")


def _grid(rows: Iterable[Iterable[RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def _indented(rows: Iterable[Iterable[RenderableType]]) -> RenderableType:
    return Padding(_grid(rows), (0, 0, 0, 2))


def _pairs(*pairs: tuple[str, str]) -> RenderableType:
    return _indented((Text(name, "dim"), value) for name, value in pairs)


def _bars(bars: list[tuple[str, int, str]]) -> RenderableType:
    most = max(1, *(keys for _, keys, _ in bars))
    return _indented(
        (Text(name, "dim"), "█" * round(BAR_WIDTH * keys / most), f"{keys:,}", note) for name, keys, note in bars
    )


def _by_type(by_type: Mapping[str, int]) -> list[str]:
    return [
        f"  {key_type}: {keys:,}" for key_type, keys in sorted(by_type.items(), key=lambda item: (-item[1], item[0]))
    ]


def _move(move: Move) -> str:
    return f"  {move.company_id}: {move.key_type} {move.key_id} → {move.to_type} {move.to_id}"
