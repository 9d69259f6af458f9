"""Reports as lines for a chat: a phone's width, the verdict first. Pure; `message` makes HTML of them."""

from datetime import datetime

from keystore.errors import KeystoreError, StoreUnavailable
from monitor.growth import GrowthReport
from monitor.reports.check_rows import check_rows
from monitor.reports.formatting import signed, size
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import DbHealth, LoadTime
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.telegram.message import Line, pairs, plain, table

COMMANDS = {
    "status": "How the service is",
    "db_health": "How the database is: counts, last sweep, load time",
    "types": "Keys by type",
    "growth": "How many keys there will be",
    "perf": "Times load, get and burst on the live database",
    "sweep": "Delete expired keys now, after a question",
    "mute": "No notices for a while, for example /mute 2h",
    "unmute": "Notices again",
    "help": "What I can do",
}
"""The menu."""

FORECAST_DAYS = (7, 30)
TYPES_SHOWN = 8

_MARKS = {"ok": "🟢", "warning": "🟡", "critical": "🔴"}
_RATING_MARKS = {"excellent": "🟢", "good": "🟢", "acceptable": "🟡", "slow": "🔴"}

Lines = tuple[Line, ...]


def start() -> Lines:
    """The greeting; the buttons under it do the rest."""
    return (Line("Signal Keystore", "bold"), Line("I watch over your bots' keys. What do you want to know?"))


def help_text() -> Lines:
    """Every command."""
    return (Line("Commands", "bold"), *(Line(f"/{name} – {told}") for name, told in COMMANDS.items()))


def unknown(name: str) -> Lines:
    """For a command that there isn't."""
    return plain(f"I don't know /{name}. /help says what I can do.")


def db_health(report: DbHealth) -> Lines:
    """The verdict, the counts, the load time against the budget, and what to do."""
    check = report.check
    rows = pairs(*check_rows(check).items(), ("load", _load(report.load)))
    advice = [Line(f"• {line}") for line in check.advice]
    if not report.load.within_budget:
        advice.insert(0, Line("• a reconnecting bot waits longer for its keys than it should; /perf says more"))
    return (_headed(report.verdict, check.database), *rows, *advice)


def types(report: TypesReport) -> Lines:
    """Keys by type with their sum."""
    rows = [(c.key_type, f"{c.total:,}", f"{c.without_expiry:,}") for c in report.types]
    rows.append(("all", f"{report.total:,}", f"{report.without_expiry:,}"))
    return (Line(report.database, "bold"), *table(("type", "keys", "no expiry"), *rows))


def growth(report: GrowthReport) -> Lines:
    """What came lately, the forecast with its interval, the diary's arithmetic beside it, and how wrong we were."""
    lately = pairs(
        ("now", f"{report.total:,} keys"),
        ("oldest", f"{report.oldest_days} days"),
        ("24 h", f"{report.created_24h:,} created"),
        ("7 days", f"{report.created_7d:,} created"),
    )
    return (Line(report.database, "bold"), *lately, *_forecast(report), *_diary(report), *_outcomes(report))


def perf(report: PerfReport) -> Lines:
    """The rating, then each time, and the reconnect against the budget."""
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
    """What the buttons under it decide."""
    return plain(f"Delete {_keys(expired, 'expired ')} from {database} now?")


def sweep(report: SweepReport) -> Lines:
    """What a sweep deleted, by type."""
    if report.skipped:
        return plain(f"Nothing swept: another sweeper is at work on {report.database}.")
    told = f"{_keys(report.deleted, 'expired ')} deleted from {report.database} in {report.took_ms:,.0f} ms"
    if report.stopped:
        told += "; it was stopped before its end"
    by_type = sorted(report.by_type.items(), key=lambda item: (-item[1], item[0]))
    return (Line(told), *(table(*((key_type, f"{keys:,}") for key_type, keys in by_type)) if by_type else ()))


def sweep_goes_on() -> Lines:
    """For a sweep that takes longer than a chat waits."""
    return plain("The sweep takes longer than I can wait here, and goes on. /db_health shows when it was done.")


def no_sweep() -> Lines:
    """After the other button."""
    return plain("Nothing was swept.")


def stale_question() -> Lines:
    """For a press of a button whose time is over."""
    return plain("That question is no longer open, so nothing was swept. Send /sweep to be asked again.")


def muted(until: datetime) -> Lines:
    """After /mute."""
    return plain(f"No notices until {until:%Y-%m-%d %H:%M} UTC. What still fires then, you will hear.")


def unmuted() -> Lines:
    """After /unmute."""
    return plain("Notices are on again.")


def how_to_mute(until: datetime | None) -> Lines:
    """For a /mute that doesn't say for how long."""
    now = "Notices are on." if until is None else f"Notices are off until {until:%Y-%m-%d %H:%M} UTC."
    return plain(f"{now} Say for how long: /mute 30m, /mute 2h, /mute 1d, at most 30 days.")


def perf_goes_on() -> Lines:
    """For a perf that takes longer than a chat waits."""
    return plain(
        "🔴 The database is so slow that this takes longer than I can wait here. /db_health times a load alone."
    )


def busy() -> Lines:
    """While an earlier sweep or perf hasn't ended."""
    return plain("An earlier sweep or perf is still at work. Try again in a minute.")


def failed(error: KeystoreError) -> Lines:
    """Instead of a report."""
    if isinstance(error, StoreUnavailable):
        return (Line("🔴 CRITICAL  the database is down", "bold"), Line(str(error)))
    return did_not_work(error)


def did_not_work(error: KeystoreError) -> Lines:
    """Instead of what was to be done."""
    return (Line("🔴 that didn't work", "bold"), Line(str(error)))


def broken() -> Lines:
    """For a failure that nobody expected."""
    return plain("That went wrong in a way I didn't expect; the service's log says more.")


def _headed(verdict: str, database: str) -> Line:
    return Line(f"{_MARKS[verdict]} {verdict.upper()}  {database}", "bold")


def _load(load: LoadTime) -> str:
    if load.company is None:
        return "no keys to load"
    budget = "within" if load.within_budget else "OVER"
    return f"{load.took_ms:,.1f} ms for {load.keys:,} keys, {budget} budget of {load.budget_ms:,.0f} ms"


def _forecast(report: GrowthReport) -> Lines:
    made = report.forecast
    if made is None:
        return (
            Line("No forecast yet", "bold"),
            Line(f"It waits for {report.forecast_waits_for or 'counted arrivals'}."),
        )
    rows = []
    for days in FORECAST_DAYS:
        low, expected, high = made.keys_at(days)
        rows.append((f"in {days} days", f"{expected:,} ({low:,}–{high:,})"))
    if made.equilibrium is None:
        rows.append(("settles", "not within a year"))
    else:
        rows.append(("settles", f"at {made.equilibrium:,} in {made.days_to_equilibrium} days"))
    by_type = [
        (one.key_type, f"{one.now:,}", f"{one.in_30_days:,}")
        for one in sorted(made.per_type, key=lambda one: -max(one.now, one.in_30_days))[:TYPES_SHOWN]
    ]
    told = table(("type", "now", "30 days"), *by_type) if by_type else ()
    return (Line("Forecast, 9 in 10 within", "bold"), *pairs(*rows), *told)


def _diary(report: GrowthReport) -> Lines:
    rows = [
        (f"{days} days each", f"{projected.keys:,} ({signed(projected.percent)} %)")
        for days, projected in report.diary.items()
    ]
    return (Line("The diary's projection, wrong by construction", "bold"), *pairs(*rows)) if rows else ()


def _outcomes(report: GrowthReport) -> Lines:
    if not report.outcomes:
        return ()
    rows = [
        (f"{one.days} d", f"{one.median_error_percent:g} %", f"{one.within}/{one.forecasts}") for one in report.outcomes
    ]
    return (Line("How wrong earlier forecasts were", "bold"), *table(("ahead", "median", "came true"), *rows))


def _keys(count: int, which: str) -> str:
    return f"{count:,} {which}{'key' if count == 1 else 'keys'}"
