"""The bot's texts: reports as lines of a phone's width, the verdict first. Pure; `messages` turns them into HTML."""

from datetime import datetime

from keystore.errors import KeystoreError, StoreUnavailable
from monitor.growth import GrowthReport
from monitor.reports.check import check_rows
from monitor.reports.formatting import signed, size
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import DbHealth, LoadTime
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.telegram.messages import Line, Lines, pairs, plain, table

COMMANDS = {
    "status": "State of the service",
    "db_health": "State of the database: counts, last sweep, load time",
    "types": "Keys by type",
    "growth": "Forecast of the number of keys",
    "perf": "Times load, get and burst on the live database",
    "sweep": "Delete expired keys now; asks first",
    "mute": "Pause notices, for example /mute 2h",
    "unmute": "Resume notices",
    "help": "List of commands",
}
"""The bot's menu: each command with its description."""

FORECAST_DAYS = (7, 30)
TYPES_SHOWN = 8

_MARKS = {"ok": "🟢", "warning": "🟡", "critical": "🔴"}
_RATING_MARKS = {"excellent": "🟢", "good": "🟢", "acceptable": "🟡", "slow": "🔴"}

START = (Line("Signal Keystore", "bold"), Line("I watch over your bots' keys. What do you want to know?"))
HELP = (Line("Commands", "bold"), *(Line(f"/{name} – {description}") for name, description in COMMANDS.items()))

UNMUTED = plain("Notices are on again.")

NOT_SWEPT = plain("Nothing was swept.")
QUESTION_EXPIRED = plain("That question is no longer open, so nothing was swept. Send /sweep to be asked again.")
SWEEP_CONTINUES = plain(
    "The sweep takes longer than I can wait here, and continues. /db_health shows when it has finished."
)
PERF_CONTINUES = plain(
    "🔴 The database is so slow that this takes longer than I can wait here. /db_health times a load alone."
)
BUSY = plain("An earlier sweep or perf is still running. Try again in a minute.")
BROKEN = plain("That failed in a way I didn't expect; the service's log has the details.")


def unknown(name: str) -> Lines:
    """The answer to a command that doesn't exist."""
    return plain(f"I don't know /{name}. /help lists the commands.")


def db_health(report: DbHealth) -> Lines:
    """The verdict, the counts, the load time against the budget, and advice."""
    check = report.check
    rows = pairs(*check_rows(check).items(), ("load", _load(report.load)))
    advice = [Line(f"• {line}") for line in check.advice]
    if report.write_error is not None:
        advice.insert(0, Line(f"• no bot can save a key: {report.write_error}"))
    if not report.load.within_budget:
        advice.insert(0, Line("• a reconnecting bot waits longer for its keys than it should; see /perf"))
    return (Line(f"{_MARKS[report.verdict]} {report.verdict.upper()}  {check.database}", "bold"), *rows, *advice)


def types(report: TypesReport) -> Lines:
    """The keys by type, and their sum."""
    rows = [(c.key_type, f"{c.total:,}", f"{c.without_expiry:,}") for c in report.types]
    total = "all", f"{report.total:,}", f"{report.without_expiry:,}"
    return (Line(report.database, "bold"), *table(("type", "keys", "no expiry"), *rows, total))


def growth(report: GrowthReport) -> Lines:
    """Recent growth, the forecast with its interval, the legacy projection, and the errors of earlier forecasts."""
    recent = pairs(
        ("now", f"{report.total:,} keys"),
        ("oldest", f"{report.oldest_days} days"),
        ("24 h", f"{report.created_24h:,} created"),
        ("7 days", f"{report.created_7d:,} created"),
    )
    head = Line(report.database, "bold")
    return (head, *recent, *_forecast(report), *_legacy_projection(report), *_forecast_errors(report))


def perf(report: PerfReport) -> Lines:
    """The rating, each time, and the reconnect against the budget."""
    budget = "within" if report.within_budget else "over"
    rows = pairs(
        ("load", f"{report.load_ms:,.1f} ms, {report.keys:,} keys, {size(report.loaded_bytes)}"),
        ("get of 20", f"{report.get_ms:,.1f} ms"),
        ("burst of 250", f"{report.burst_ms:,.1f} ms"),
        ("reconnect", f"{report.reconnect_ms:,.1f} ms"),
        ("budget", f"{budget} {report.budget_ms:,.0f} ms"),
        ("size", size(report.size_bytes)),
    )
    return (Line(f"{_RATING_MARKS[report.rating]} {report.rating}  {report.database}", "bold"), *rows)


def sweep_question(expired: int, database: str) -> Lines:
    """The question before a sweep. Its buttons decide."""
    return plain(f"Delete {_keys(expired)} from {database} now?")


def sweep(report: SweepReport) -> Lines:
    """The keys that a sweep deleted, by type."""
    if report.skipped:
        return plain(f"Nothing swept: another sweeper is at work on {report.database}.")
    stopped = "; it was stopped before its end" if report.stopped else ""
    summary = f"{_keys(report.deleted)} deleted from {report.database} in {report.took_ms:,.0f} ms{stopped}"
    by_type = sorted(report.by_type.items(), key=lambda item: (-item[1], item[0]))
    return (Line(summary), *(table(*((key_type, f"{keys:,}") for key_type, keys in by_type)) if by_type else ()))


def muted(until: datetime) -> Lines:
    """The answer to /mute with a duration."""
    return plain(f"No notices until {until:%Y-%m-%d %H:%M} UTC. Alerts that still fire then will be reported.")


def how_to_mute(until: datetime | None) -> Lines:
    """The answer to /mute without a usable duration."""
    state = "Notices are on." if until is None else f"Notices are off until {until:%Y-%m-%d %H:%M} UTC."
    return plain(f"{state} Say for how long: /mute 30m, /mute 2h, /mute 1d, at most 30 days.")


def unavailable(error: KeystoreError) -> Lines:
    """The answer instead of a report that failed."""
    if isinstance(error, StoreUnavailable):
        return (Line("🔴 CRITICAL  the database is down", "bold"), Line(str(error)))
    return failed(error)


def failed(error: KeystoreError) -> Lines:
    """The answer instead of an action that failed."""
    return (Line("🔴 that didn't work", "bold"), Line(str(error)))


def _load(load: LoadTime) -> str:
    if load.company is None:
        return "no keys to load"
    budget = "within" if load.within_budget else "OVER"
    return f"{load.took_ms:,.1f} ms for {load.keys:,} keys, {budget} budget of {load.budget_ms:,.0f} ms"


def _forecast(report: GrowthReport) -> Lines:
    forecast = report.forecast
    if forecast is None:
        reason = f"It waits for {report.forecast_waits_for or 'counted arrivals'}."
        return (Line("No forecast yet", "bold"), Line(reason))
    rows = []
    for days in FORECAST_DAYS:
        low, expected, high = forecast.keys_at(days)
        rows.append((f"in {days} days", f"{expected:,} ({low:,}–{high:,})"))
    settles, in_days = forecast.equilibrium, forecast.days_to_equilibrium
    rows.append(("settles", "not within a year" if settles is None else f"at {settles:,} in {in_days} days"))
    largest = sorted(forecast.per_type, key=lambda item: -max(item.now, item.in_30_days))[:TYPES_SHOWN]
    by_type = [(item.key_type, f"{item.now:,}", f"{item.in_30_days:,}") for item in largest]
    type_table = table(("type", "now", "30 days"), *by_type) if by_type else ()
    return (Line("Forecast, with its 90 % interval", "bold"), *pairs(*rows), *type_table)


def _legacy_projection(report: GrowthReport) -> Lines:
    rows = [
        (f"{days} days each", f"{projection.keys:,} ({signed(projection.percent)} %)")
        for days, projection in report.diary.items()
    ]
    return (Line("The original operator's projection, wrong by construction", "bold"), *pairs(*rows)) if rows else ()


def _forecast_errors(report: GrowthReport) -> Lines:
    if not report.outcomes:
        return ()
    rows = [
        (f"{outcome.days} d", f"{outcome.median_error_percent:g} %", f"{outcome.within}/{outcome.forecasts}")
        for outcome in report.outcomes
    ]
    return (Line("Errors of earlier forecasts", "bold"), *table(("ahead", "median", "in interval"), *rows))


def _keys(count: int) -> str:
    return f"{count:,} expired {'key' if count == 1 else 'keys'}"
