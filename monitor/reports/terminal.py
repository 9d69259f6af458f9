"""The reports as text and tables for a terminal: one function for each report."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from monitor.forecast.backtest import Outcome
from monitor.forecast.forecast import Forecast
from monitor.forecast.type_forecast import TypeForecast
from monitor.growth import GrowthReport
from monitor.held_back import in_words
from monitor.reports.check import CheckReport, Verdict, check_rows
from monitor.reports.doctor import DoctorReport
from monitor.reports.formatting import counted, signed, size, sparkline
from monitor.reports.key_types import TypesReport
from monitor.reports.layout import Columns, bullets, columns, pairs, paragraphs, table
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.transfer.state import Skipped, TransferReport
from monitor.upkeep.backfill import BackfillReport
from monitor.upkeep.repair import Move, RepairReport
from monitor.upkeep.rotate import RotationReport

BAR_WIDTH = 18
"""The width of the longest bar; with the numbers beside it, a line fits into 60 columns."""

TREND_WIDTH = 12

SHOWN_DAYS = (7, 14, 30, 90)
"""The days that a forecast is shown for."""

VERDICT_STYLES: Mapping[Verdict, str] = {"ok": "green", "warning": "yellow", "critical": "bold red"}


def check(report: CheckReport) -> RenderableType:
    """The verdict first, then the counts, then what to do."""
    trend = [("last 30 days", sparkline(report.totals_30d))] if len(report.totals_30d) > 1 else []
    rows = pairs([*check_rows(report).items(), *trend])
    return Group(_headed(report.verdict, report.database), rows, bullets(report.advice))


def types(report: TypesReport) -> RenderableType:
    """Keys by type, as a table that ends with their sum."""
    header = ["key type", "total", "with expiry", "without expiry"]
    trends = any(len(totals) > 1 for totals in report.totals_30d.values())
    rows = [
        [count.key_type, f"{count.total:,}", f"{count.with_expiry:,}", f"{count.without_expiry:,}"]
        for count in report.types
    ]
    rows.append(["all types", f"{report.total:,}", f"{report.with_expiry:,}", f"{report.without_expiry:,}"])
    if trends:
        header.append("last 30 days")
        series = [report.totals_30d.get(count.key_type, ()) for count in report.types]
        sums = [sum(day) for day in zip(*report.totals_30d.values(), strict=True)]
        for row, totals in zip(rows, [*series, sums], strict=True):
            row.append(sparkline(totals, TREND_WIDTH))
    counts = table(header, rows, numeric=(1, 2, 3))
    return Group(paragraphs(report.database, style="bold"), counts, bullets(report.advice))


def growth(report: GrowthReport) -> RenderableType:
    """The latest arrivals, the legacy projection, the forecast, and the results of earlier forecasts."""
    rows = [
        ("total", counted(report.total, "key")),
        ("oldest", counted(report.oldest_days, "day")),
        ("created in 24 h", f"{report.created_24h:,}"),
        ("created in 7 days", f"{report.created_7d:,}, {report.per_day:,} a day"),
    ]
    if len(report.history) > 1:
        totals = [count.total for count in report.history]
        days = (report.history[-1].at - report.history[0].at).days
        trend = f"{sparkline(totals)}  {totals[0]:,} → {totals[-1]:,}"
        rows.append((f"last {days} days" if days > 1 else "last hours", trend))
    bars = [("now", report.total, "")]
    for days_each, projected in report.diary.items():
        fewer_or_more = f"{abs(projected.change):,} {'fewer' if projected.change < 0 else 'more'}"
        bars.append((f"{days_each} days each", projected.keys, f"{signed(projected.percent)} %, {fewer_or_more}"))
    parts: list[RenderableType] = [
        paragraphs(report.database, style="bold"),
        pairs(rows),
        paragraphs("the original operator's projection", style="bold"),
        _bars(bars),
        columns([[report.caveat]]),
    ]
    if report.forecast is None:
        parts += [paragraphs("forecast", style="bold"), columns([[f"none yet: it needs {report.forecast_waits_for}"]])]
    else:
        parts += _forecast("forecast", report.forecast)
    if report.what_if is not None:
        parts += _forecast("what if: the forecast under --ttl", report.what_if)
    if report.outcomes:
        header = ("ahead", "forecasts", "median error", "worst error", "within the 90 % range")
        outcomes = table(header, map(_outcome, report.outcomes), numeric=range(1, 5))
        parts += [paragraphs("earlier forecasts", style="bold"), outcomes]
    return Group(*parts)


def _forecast(title: str, forecast: Forecast) -> list[RenderableType]:
    """Today, some later days and the equilibrium as bars, a line for each type, and the bursts."""
    bars = [("now", forecast.now, "")]
    for days in SHOWN_DAYS:
        low, expected, high = forecast.keys_at(days)
        bars.append((f"in {days} days", expected, f"{low:,} to {high:,}"))
    if forecast.equilibrium is not None:
        bars.append(("levels off at", forecast.equilibrium, f"in {counted(forecast.days_to_equilibrium or 0, 'day')}"))
    header = ("key type", "now", "new a day", "lives", "in 30 days", "levels off at", "kept by use")
    types = table(header, map(_type_forecast, forecast.per_type), numeric=range(1, 7))
    bursts = [
        f"{type_.key_type}: bursts of {type_.burst_keys:,} new keys every {1 / type_.bursts_per_day:.1f} days as well"
        for type_ in forecast.per_type
        if type_.bursts_per_day
    ]
    learned = f"learned from {forecast.days_seen:g} days; the two numbers are its 90 % range"
    head = columns([[Text(title, "bold"), learned]], indent=0)
    return [head, _bars(bars), types, columns([burst] for burst in bursts)]


def _type_forecast(type_: TypeForecast) -> tuple[str, ...]:
    return (
        type_.key_type,
        f"{type_.now:,}",
        f"{type_.arrivals_per_day:,.1f}",
        "forever" if type_.lifetime_days is None else f"{type_.lifetime_days:,} d",
        f"{type_.in_30_days:,}",
        "never" if type_.equilibrium is None else f"{type_.equilibrium:,}",
        f"{type_.kept_by_use:,}" if type_.kept_by_use else "",
    )


def _outcome(outcome: Outcome) -> tuple[str, ...]:
    errors = f"{outcome.median_error_percent} %", f"{outcome.worst_error_percent} %"
    return counted(outcome.days, "day"), f"{outcome.forecasts:,}", *errors, f"{outcome.within:,}"


def perf(report: PerfReport) -> RenderableType:
    """The verdict first, then each time, its rating, and the budget."""
    budget = "within" if report.within_budget else "over"
    loaded = f"{counted(report.keys, 'key')}, {size(report.loaded_bytes)}, of {report.company or 'no company'}"
    rows = pairs(
        [
            ("load", f"{report.load_ms:,.1f} ms, {report.rating} ({loaded})"),
            ("get of 20", f"{report.get_ms:,.1f} ms"),
            ("burst of 250", f"{report.burst_ms:,.1f} ms"),
            ("reconnect", f"{report.reconnect_ms:,.1f} ms, {budget} the budget of {report.budget_ms:,.0f} ms"),
            ("size", size(report.size_bytes)),
        ]
    )
    return Group(_headed(report.verdict, report.database), rows)


def backfill(report: BackfillReport) -> RenderableType:
    """The keys that got an expiry, by type, and the database's rule."""
    verb = "would get" if report.dry_run else "got"
    parts: list[RenderableType] = [
        paragraphs(f"{counted(report.updated, 'key')} {verb} an expiry in {report.database}"),
        _by_type(report.by_type),
    ]
    if report.enforced:
        parts.append(paragraphs("the database refuses keys without expiry"))
    elif report.enforce:
        parts.append(paragraphs("the database would then refuse every write of a key without expiry, by any program"))
    return Group(*parts)


def rotation(report: RotationReport) -> RenderableType:
    """The sealed values, and whether an older secret key is still needed."""
    verb = "would be sealed" if report.dry_run else "sealed"
    companies = counted(report.companies, "company", "companies")
    lines = [f"{counted(report.keys, 'value')} of {companies} {verb} in {report.database}"]
    if report.rewrapped:
        verb = "would get" if report.dry_run else "got"
        lines.append(
            f"the data keys of {counted(report.rewrapped, 'company', 'companies')} {verb} the newest secret key"
        )
    if not report.dry_run and not report.old_keys_needed:
        lines.append("no secret key but the newest is needed any more")
    return paragraphs(*lines)


def sweep(report: SweepReport) -> RenderableType:
    """The deleted keys, by type."""
    if report.skipped:
        return paragraphs(f"nothing swept: another sweeper is at work on {report.database}")
    expired = counted(report.deleted, "expired key")
    if report.dry_run:
        text = f"{expired} would be deleted from {report.database}"
    else:
        text = f"{expired} deleted from {report.database} in {report.took_ms:,.0f} ms"
    lines = [text]
    if report.losing_most:
        lines.append(in_words(report.losing_most, "would lose" if report.dry_run else "lost"))
    return Group(paragraphs(*lines), _by_type(report.by_type))


def transfer(report: TransferReport) -> RenderableType:
    """The imported or exported keys, and what was left out, counted by reason."""
    verb = "would be taken" if report.dry_run else "taken"
    creds = "creds and " if report.creds else ""
    taken = f"{creds}{counted(report.keys, 'key')} of company {report.company} {verb} from {report.source}"
    lines = []
    if not report.dry_run:
        lines.append(f"{counted(report.verified, 'key')} read back and compared")
    if report.creds_missing:
        lines.append("creds are missing: a bot can't connect with these keys alone")
    if report.sealed_by_bot:
        lines.append(f"{counted(report.sealed_by_bot, 'value')} sealed by the bot, and of use only with its secret key")
    if report.removed:
        verb = "would be deleted" if report.dry_run else "deleted"
        lines.append(f"{counted(report.removed, 'key')} {verb} that the company has and the source doesn't")
    if report.expired:
        lines.append(f"{report.expired:,} of them are past their expiry; the next sweep deletes those without a guard")
    if report.deleted_files:
        lines.append(f"{counted(report.deleted_files, 'source file')} deleted")
    if report.source_stays:
        lines.append(f"no source file was deleted: {report.source_stays}")
    parts = [paragraphs(f"{taken} to {report.target}"), _by_type(report.by_type), paragraphs(*lines)]
    if report.unwrapped:
        unwrapped = [(f"{values:,}", wrapping) for wrapping, values in report.unwrapped.items()]
        parts += [paragraphs("taken off the values:"), columns(unwrapped)]
    lists = (
        (report.skipped, "left out, and may be keys"),
        (report.ignored, "no keys"),
        (report.odd, "taken as they are, though Baileys can't read them"),
    )
    for entries, heading in lists:
        if entries:
            parts += [paragraphs(f"{heading}: {len(entries):,}"), columns(_grouped(entries))]
    if any(len(_grouped(entries)) < len(entries) for entries, _ in lists):
        parts.append(paragraphs("--json lists each by its name"))
    return Group(*parts)


def _grouped(skipped: Sequence[Skipped]) -> list[Skipped]:
    """Everything that was left out, counted by reason.

    Names hold phone numbers. Only a single name is shown, because it says which file to look at.
    """
    groups: dict[str, list[Skipped]] = defaultdict(list)
    for entry in skipped:
        groups[entry[1].partition(" (")[0]].append(entry)  # The text in brackets differs from file to file.
    return [group[0] if len(group) == 1 else (f"{len(group):,}", reason) for reason, group in groups.items()]


def repair(report: RepairReport) -> RenderableType:
    """The moved rows by type, and the rows that stay, each counted by company."""
    verb = "would be moved" if report.dry_run else "moved"
    moved = f"{counted(report.moved, 'row')} {verb} to the type they belong to in {report.database}"
    parts = [paragraphs(moved), _moves(report.moves)]
    if report.kept:
        reason = "a newer row has the name that they would get, or their bot has sealed them"
        stay = f"{counted(len(report.kept), 'row')} will stay: {reason}"
        parts += [paragraphs(stay), _moves(report.kept)]
    if report.moves or report.kept:
        parts.append(paragraphs("--json lists each row"))
    return Group(*parts)


def doctor(report: DoctorReport) -> RenderableType:
    """The worst verdict first, then the checks, one a line."""
    passed = sum(item.status == "ok" for item in report.checks)
    rows = [(Text(item.verdict, VERDICT_STYLES[item.verdict]), item.name, item.detail) for item in report.checks]
    return Group(_headed(report.verdict, f"{passed} of {counted(len(rows), 'check')} passed"), columns(rows))


def tokens(rows: Iterable[Iterable[str]]) -> RenderableType:
    """The API's tokens, each as its id, owner, date and state."""
    return table(("id", "access", "made", "state"), rows)


def logins(rows: Iterable[Iterable[str]]) -> RenderableType:
    """The bots' logins, each as its name, companies, date and state."""
    return table(("login", "companies", "made", "state"), rows)


def _headed(verdict: Verdict, text: str) -> Columns:
    return columns([[Text(verdict.upper(), VERDICT_STYLES[verdict]), text]], indent=0)


def _bars(bars: list[tuple[str, int, str]]) -> Columns:
    most = max(1, *(keys for _, keys, _ in bars))
    return columns(
        (Text(name, "dim"), "█" * round(BAR_WIDTH * keys / most), f"{keys:,}", note) for name, keys, note in bars
    )


def _by_type(by_type: Mapping[str, int]) -> Columns:
    rows = sorted(by_type.items(), key=lambda item: (-item[1], item[0]))
    return columns([(key_type, f"{keys:,}") for key_type, keys in rows], numeric=(1,))


def _moves(moves: Sequence[Move]) -> Columns:
    """The moves counted by company and types; the ids are phone numbers, and not shown."""
    counts = Counter((move.company_id, f"{move.key_type} → {move.to_type}") for move in moves)
    return columns([(company, types, f"{rows:,}") for (company, types), rows in sorted(counts.items())], numeric=(2,))
