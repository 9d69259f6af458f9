"""The bot's texts: reports as lines of a phone's width, the verdict first. Pure; `messages` turns them into HTML."""

from datetime import datetime, tzinfo

from keystore.errors import KeystoreError, StoreUnavailable
from monitor.growth import GrowthReport
from monitor.held_back import in_words
from monitor.reports.check import check_rows
from monitor.reports.formatting import counted, local_time, size
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import DbHealth, LoadTime
from monitor.reports.perf import PerfReport
from monitor.sweeper import SweepReport
from monitor.telegram.messages import Line, Lines, pairs, plain, table
from monitor.watch_settings import WatchSettings

COMMANDS = {
    "status": "Is the service well? Which alerts fire?",
    "db_health": "Is the database well? Counts, last sweep",
    "types": "Number of keys by type",
    "growth": "How many keys there will be",
    "perf": "How fast the database answers",
    "sweep": "Delete expired keys; asks first",
    "mute": "Pause notices, for example /mute 2h",
    "unmute": "Send notices again",
    "help": "List of commands",
}
"""The bot's menu: each command with its description."""

FORECAST_DAYS = (7, 30)
PHONE_COLUMNS = 32
"""Width of a table that a small phone shows without breaking its lines."""

_MARKS = {"ok": "🟢", "warning": "🟡", "critical": "🔴"}
_RATING_MARKS = {"excellent": "🟢", "good": "🟢", "acceptable": "🟡", "slow": "🔴"}

HELP = (
    Line("Commands", "bold"),
    *(Line(f"/{name} – {description}") for name, description in COMMANDS.items()),
    Line("In a group, only its administrators may use /sweep, /mute and /unmute."),
)

NOT_ALLOWED = plain("Only administrators of this group may do that.")
RIGHTS_UNKNOWN = plain(
    "Telegram didn't tell me whether you are an administrator of this group, so nothing was done. Try again, or make "
    "me an administrator."
)
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


def start(settings: WatchSettings) -> Lines:
    """The greeting, with the address of the status page if it is known."""
    page = plain(f"Status page: {settings.public_url}") if settings.public_url else ()
    greeting = Line("I watch over your bots' keys. What do you want to know?")
    return (Line(f"Signal Keystore {settings.name}", "bold"), greeting, *page)


def unknown(name: str) -> Lines:
    """The answer to a command that doesn't exist."""
    return plain(f"I don't know /{name}. /help lists the commands.")


def moved(old: int, new: int) -> Lines:
    """The news that a group's number has changed."""
    return plain(
        f"Telegram has changed this chat's number from {old} to {new}, because the group became a supergroup. Alerts "
        f"come here as before. Put {new} into TELEGRAM_CHAT_ID in place of {old}."
    )


def db_health(report: DbHealth, settings: WatchSettings) -> Lines:
    """The verdict, the counts, the load time against the budget, and advice."""
    check = report.check
    rows = pairs(*check_rows(check, settings.zone).items(), ("load", _load(report.load)))
    advice = [Line(f"• {line}") for line in check.advice]
    if report.write_error is not None:
        advice.insert(0, Line(f"• no bot can save a key: {report.write_error}"))
    if not report.load.within_budget:
        advice.insert(0, Line("• a reconnecting bot waits longer for its keys than it should; see /perf"))
    head = Line(f"{_MARKS[report.verdict]} {report.verdict.upper()}  {settings.name}", "bold")
    return (head, *rows, *advice, Line(check.database))


def types(report: TypesReport, settings: WatchSettings) -> Lines:
    """The keys by type, and their sum."""
    counts = [(each.key_type, f"{each.total:,}") for each in report.types] + [("all", f"{report.total:,}")]
    name_columns = PHONE_COLUMNS - 2 - max(len(keys) for _, keys in counts)
    rows = [(shortened(key_type, name_columns), keys) for key_type, keys in counts]
    head = Line(f"{settings.name}: keys by type", "bold")
    if not report.without_expiry:
        return (head, *table(*rows), Line("Every key has an expiry."))
    lacking = [f"{each.key_type} {each.without_expiry:,}" for each in report.types if each.without_expiry]
    return (head, *table(*rows), Line(f"Without expiry: {', '.join(lacking)}"))


def growth(report: GrowthReport, settings: WatchSettings) -> Lines:
    """Recent growth, and the forecast with its interval."""
    rows = [
        ("now", f"{report.total:,} keys"),
        ("24 h", f"{report.created_24h:,} created"),
        ("7 days", f"{report.created_7d:,} created"),
    ]
    head = Line(f"{settings.name}: growth", "bold")
    forecast = report.forecast
    if forecast is None:
        missing = report.forecast_waits_for or "counted arrivals"
        return (head, *pairs(*rows), Line(f"No forecast yet: it waits for {missing}."))
    for days in FORECAST_DAYS:
        low, expected, high = forecast.keys_at(days)
        rows.append((f"in {days} d", f"{expected:,} ({low:,}–{high:,})"))
    settles, in_days = forecast.equilibrium, forecast.days_to_equilibrium
    rows.append(("settles", "not within a year" if settles is None else f"at {settles:,} in {in_days} days"))
    return (head, *pairs(*rows), Line("In brackets: the range that holds 90 % of the outcomes."))


def perf(report: PerfReport, settings: WatchSettings) -> Lines:
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
    return (Line(f"{_RATING_MARKS[report.rating]} {report.rating}  {settings.name}", "bold"), *rows)


def sweep_question(expired: int, settings: WatchSettings) -> Lines:
    """The question before a sweep. Its buttons decide."""
    return plain(f"Delete {_expired(expired)} from {settings.name} now?")


def nothing_to_sweep(guarded: int) -> Lines:
    """The answer to /sweep where it would delete nothing."""
    if not guarded:
        return plain("No key has expired: there is nothing to sweep.")
    keys = counted(guarded, "key that is past its expiry stays", "keys that are past their expiry stay")
    return plain(f"There is nothing to sweep: {keys}, because a bot still needs what can't be replaced.")


def sweep(report: SweepReport, settings: WatchSettings) -> Lines:
    """The keys that a sweep deleted, by type."""
    if report.skipped:
        return plain(f"Nothing swept: another sweeper is at work on {settings.name}.")
    stopped = "; it was stopped before its end" if report.stopped else ""
    summary = f"{_expired(report.deleted)} deleted from {settings.name} in {report.took_ms:,.0f} ms{stopped}"
    by_type = sorted(report.by_type.items(), key=lambda item: (-item[1], item[0]))
    lost = (Line(in_words(report.losing_most, "lost")),) if report.losing_most else ()
    return (Line(summary), *lost, *(table(*((key_type, f"{keys:,}") for key_type, keys in by_type)) if by_type else ()))


def muted(until: datetime, zone: tzinfo) -> Lines:
    """The answer to /mute with a duration."""
    return plain(f"No notices until {local_time(until, zone)}. Alerts that still fire then will be reported.")


def how_to_mute(until: datetime | None, zone: tzinfo) -> Lines:
    """The answer to /mute without a duration."""
    state = "Notices are on." if until is None else f"Notices are off until {local_time(until, zone)}."
    return plain(f"{state} {_MUTE_EXAMPLES}")


def not_a_time(argument: str) -> Lines:
    """The answer to /mute with something that isn't a duration."""
    return plain(f"{shortened(argument, 40)} isn't a length of time, so nothing was changed. {_MUTE_EXAMPLES}")


def mute_too_long(argument: str) -> Lines:
    """The answer to /mute with a duration over the longest."""
    return plain(f"{argument} is longer than 30 days, so nothing was changed. {_MUTE_EXAMPLES}")


def unmuted(firing: list[str]) -> Lines:
    """The answer to /unmute, with the lines of the alerts that fire."""
    return plain("\n".join([f"Notices are on again. {'Still firing:' if firing else 'Nothing fires.'}", *firing]))


def unavailable(error: KeystoreError) -> Lines:
    """The answer instead of a report that failed."""
    if isinstance(error, StoreUnavailable):
        return (Line("🔴 CRITICAL  the database is down", "bold"), Line(str(error)))
    return failed(error)


def failed(error: KeystoreError) -> Lines:
    """The answer instead of an action that failed."""
    return (Line("🔴 that didn't work", "bold"), Line(str(error)))


def shortened(text: str, columns: int) -> str:
    """A text of at most this many characters."""
    return text if len(text) <= columns else f"{text[: columns - 1]}…"


_MUTE_EXAMPLES = "Say for how long: /mute 30m, /mute 2h, /mute 1d, at most 30 days."


def _load(load: LoadTime) -> str:
    if load.company is None:
        return "no keys to load"
    budget = "within" if load.within_budget else "OVER"
    return f"{load.took_ms:,.1f} ms for {load.keys:,} keys, {budget} budget of {load.budget_ms:,.0f} ms"


def _expired(count: int) -> str:
    return counted(count, "expired key")
