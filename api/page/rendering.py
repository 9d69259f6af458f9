"""The status page as HTML, made from the reports.

Templates are Jinja's, with escaping always on and an undefined name an error. Among the engines that escape by
themselves Jinja is the best known, and pure Python except for MarkupSafe. `api.page.routes` loads this module with the
first page that is asked for: a worker that only serves bots has neither Jinja nor the alert rules in memory.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from api.page import drawing
from api.page.login_sessions import LIFETIME
from api.page.view import REFRESH_S, View
from api.page.words import WORDS
from api.reports import Alerts, FiringAlert, ReportResult
from keystore.invocation import as_started, command
from keystore.records import CompanyPage, CompanySummary, SweepRun, TypeCount
from monitor.alerts.memory import BotReport
from monitor.alerts.rules import RULES, SILENT_AFTER
from monitor.growth import GrowthReport
from monitor.instances import SEEN_FOR, Instance, alerting_instance
from monitor.remedies import REMEDIES
from monitor.reports.check import CheckReport, check_rows, verdict_on
from monitor.reports.formatting import duration, size
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import LoadTime
from monitor.severity import SEVERITIES, Severity

HERE = Path(__file__).parent
STYLE = (HERE / "style.css").read_text(encoding="utf-8")
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
AHEAD_DAYS = (7, 14, 30, 90)
ALERTS_SHOWN = 20
PAGE_COMPANIES = 25
BOTS_SHOWN = 10
NAMES_SHOWN = 3
"""Number of silent bots that the verdict names."""

RETRY_S = 10
"""Interval at which a page about an outage loads itself again."""

Level = Literal["ok", "new", "warning", "critical", "unknown"]
_LEVELS: dict[Level, tuple[str, str, str]] = {
    "ok": ("✓", "All is well", "1a7340"),
    "new": ("→", "Welcome", "1f5fa8"),
    "warning": ("!", "Needs a look", "b37400"),
    "critical": ("✕", "Needs you now", "b3201a"),
    "unknown": ("?", "Can't tell", "b3201a"),
}
"""Sign, words and colour of each verdict; the sign is for readers who don't see the colour."""

SEVEREST_FIRST: tuple[Level, ...] = ("critical", "warning", "ok")
_HEADINGS = {"types": "keys by type", "load": "load time", "instances": "services"}
"""Headings of the sections that aren't named like their report."""

_NEUTRAL = "1f5fa8"
CODE = Markup("<code>{}</code>")
WORD = Markup('<a class="word" href="help#{}" title="{}">{}</a>')


@dataclass(frozen=True)
class Status:
    """All that the page shows; each report has its value or its error."""

    database: str
    check: ReportResult[CheckReport]
    alerts: ReportResult[Alerts]
    instances: ReportResult[list[Instance]]
    bots: ReportResult[dict[str, BotReport]]
    types: ReportResult[TypesReport]
    growth: ReportResult[GrowthReport]
    load: ReportResult[LoadTime]
    sweeps: ReportResult[list[SweepRun]]
    companies: ReportResult[CompanyPage]


@dataclass(frozen=True)
class AlertRow:
    """An alert that fires, with its rule's severity and title, and the first step against it."""

    severity: Severity
    title: str
    remedy: str
    alert: FiringAlert


@dataclass(frozen=True)
class BotRow:
    """A bot by its last heartbeat."""

    company_id: str
    report: BotReport
    silent: bool

    @property
    def worst_first(self) -> tuple[bool, float, str]:
        """The key by which silent bots come first, and then those with the least memory left."""
        return not self.silent, -self.report.memory.used_share, self.company_id


@dataclass(frozen=True)
class CompanyRow:
    """A company of the list, its bot if it sent heartbeats, and the worst severity of the alerts about it."""

    company: CompanySummary
    bot: BotRow | None
    severity: Severity | None


@dataclass(frozen=True)
class Listing:
    """The part of the list of companies that is shown, and the links to the parts beside it."""

    first: int
    last: int
    previous: str | None
    next: str | None


def status_page(status: Status, view: View, own: Instance, zone: tzinfo, now: datetime) -> str:
    """Return the status page of the service `own`, with its times in `zone`."""
    alerts = _alert_rows(status.alerts.value)
    bots = bot_rows(status.bots.value or {}, now)
    growth, types, instances = status.growth.value, status.types.value, status.instances.value or []
    forecast = growth.forecast if growth is not None else None
    level, reasons = verdict_of(status, alerts, bots, own, now)
    sign, headline, colour = _LEVELS[level]
    return _render(
        "status.html",
        now=now,
        zone=zone,
        zone_name=f"{zone} ({now.astimezone(zone):%Z})" if f"{zone}" != f"{now.astimezone(zone):%Z}" else f"{zone}",
        own=next((each for each in instances if each.address == own.address), own),
        alerting=alerting_instance(instances, now),
        view=view,
        refresh_s=view.refresh_s,
        next_load=view.next_load,
        default_refresh_s=REFRESH_S,
        sign=sign,
        headline=headline,
        icon_colour=colour,
        level=level,
        reasons=reasons,
        **vars(status),
        check_rows=None if status.check.value is None else check_rows(status.check.value),
        alert_rows=alerts[:ALERTS_SHOWN],
        more_alerts=max(0, len(alerts) - ALERTS_SHOWN),
        bot_rows=bots[:BOTS_SHOWN],
        bots_total=len(bots),
        bots_silent=sum(1 for bot in bots if bot.silent),
        company_rows=list(_company_rows(status.companies.value, bots, alerts)),
        type_rows=[] if types is None else list(_type_rows(types, now, zone)),
        trend=None if types is None else trend_period(types, now, zone),
        ahead=[] if forecast is None else [(days, *forecast.keys_at(days)) for days in AHEAD_DAYS],
        listing=listing(status.companies.value, view),
    )


def sign_in_page(token_file: str | None, error: str | None = None) -> str:
    """Return the form for an admin token, with the error of the last attempt.

    `token_file` is the name of the file that holds the first admin token, if there is one.
    """
    lasts_h = LIFETIME.seconds // 3600
    return _render("sign_in.html", icon_colour=_NEUTRAL, error=error, lasts_h=lasts_h, token_file=token_file)


def unavailable_page() -> str:
    """Return the page shown when even the session can't be checked, because the database doesn't answer."""
    return _render("unavailable.html", icon_colour=_LEVELS["unknown"][2], refresh_s=RETRY_S, next_load="./")


def problem_page(title: str, detail: str, request_id: str, status_page: str) -> str:
    """Return the page about a refused or failed request; `status_page` is the address of the status page."""
    return _render(
        "problem.html", icon_colour=_NEUTRAL, title=title, detail=detail, request_id=request_id, status_page=status_page
    )


def help_page() -> str:
    """Return the explanations of words and alerts."""
    alerts = [(fact, SEVERITIES[fact], RULES[fact].title if fact in RULES else fact) for fact in REMEDIES]
    return _render("help.html", icon_colour=_NEUTRAL, words=WORDS, alerts=alerts, remedies=REMEDIES)


def verdict_of(
    status: Status, alerts: list[AlertRow], bots: list[BotRow], own: Instance, now: datetime
) -> tuple[Level, list[str]]:
    """Return the worst of the check, the load time, the bots and the alerts, with its reasons, worst first."""
    check, load = status.check.value, status.load.value
    if check is None:
        return "unknown", []
    reasons: list[tuple[Level, str]] = []
    if alerts:
        severest: Level = "critical" if any(row.severity == "critical" for row in alerts) else "warning"
        reasons.append((severest, f"{len(alerts):,} alert{'' if len(alerts) == 1 else 's'} below"))
    reasons += [(check.verdict, advice) for advice in check.advice]
    silent = [bot.company_id for bot in bots if bot.silent]
    if silent:
        names = ", ".join(silent[:NAMES_SHOWN]) + (" and others" if len(silent) > NAMES_SHOWN else "")
        count = "1 bot is" if len(silent) == 1 else f"{len(silent):,} bots are"
        reasons.append((verdict_on("silent-bot"), f"{count} silent: {names}"))
    if load is not None and not load.within_budget:
        took = f"a load takes {load.took_ms:,.0f} ms, and {load.budget_ms:,.0f} ms is the budget"
        reasons.append((verdict_on("load"), took))
    instances = status.instances.value
    if instances is not None and now - own.started_at > SEEN_FOR and alerting_instance(instances, now) is None:
        reasons.append((verdict_on("no-watch"), "no service looks and sends alerts at present: see the service's log"))
    reports = {name: report for name, report in vars(status).items() if isinstance(report, ReportResult)}
    for state, affected in (
        ("not known", [name for name, report in reports.items() if report.error]),
        ("old, because newer counts didn't come in time", [name for name, report in reports.items() if report.late]),
    ):
        if affected:
            reasons.append(("warning", f"{state}: {', '.join(_HEADINGS.get(name, name) for name in affected)}"))
    reasons.sort(key=lambda reason: SEVEREST_FIRST.index(reason[0]))
    worst = min([check.verdict, *(level for level, _ in reasons)], key=SEVEREST_FIRST.index)
    level: Level = "new" if worst == "ok" and check.new else worst
    return level, [text for _, text in reasons]


def listing(companies: CompanyPage | None, view: View) -> Listing:
    """Return the position of a page of companies, with links to the pages before and after it."""
    total = 0 if companies is None else companies.total
    shown = 0 if companies is None else len(companies.companies)
    first = (view.page - 1) * PAGE_COMPANIES + 1
    pages = -(-total // PAGE_COMPANIES)
    return Listing(
        first=first,
        last=first + shown - 1,
        previous=view.link("companies", page=min(view.page - 1, pages)) if view.page > 1 and total else None,
        next=view.link("companies", page=view.page + 1) if view.page < pages else None,
    )


def bot_rows(reports: dict[str, BotReport], now: datetime) -> list[BotRow]:
    """Return every bot that sent a heartbeat, worst first."""
    rows = [BotRow(company, report, now - report.reported_at > SILENT_AFTER) for company, report in reports.items()]
    return sorted(rows, key=lambda row: row.worst_first)


def trend_period(report: TypesReport, now: datetime, zone: tzinfo) -> str | None:
    """Return the period that the sparklines cover, in words; None if there is nothing to draw."""
    since = report.totals_30d_at[0] if report.totals_30d_at else None
    if since is None or not any(len(totals) > 1 for totals in report.totals_30d.values()):
        return None
    if now - since >= timedelta(days=29):
        return "30 days"
    return f"since {since.astimezone(zone):{drawing.date_form(now - since)}}"


def _alert_rows(alerts: Alerts | None) -> list[AlertRow]:
    """Return the alerts that fire, worst first. A rule that this version doesn't know is shown by its name."""
    rows: list[AlertRow] = []
    for alert in () if alerts is None else alerts.firing:
        rule = RULES.get(alert.rule)
        severity: Severity = "warning" if rule is None else rule.severity
        title = alert.rule if rule is None else rule.title
        rows.append(AlertRow(severity, title, REMEDIES.get(alert.rule, ""), alert))
    return sorted(rows, key=lambda row: row.severity != "critical")


def _company_rows(page: CompanyPage | None, bots: list[BotRow], alerts: list[AlertRow]) -> Iterator[CompanyRow]:
    """Yield the companies of a page with their bots and alerts."""
    by_company = {bot.company_id: bot for bot in bots}
    # The worst come first, so the first of a company's alerts is its worst.
    severities = {row.alert.subject: row.severity for row in reversed(alerts)}
    for company in () if page is None else page.companies:
        yield CompanyRow(company, by_company.get(company.company_id), severities.get(company.company_id))


def _type_rows(report: TypesReport, now: datetime, zone: tzinfo) -> Iterator[tuple[TypeCount, Markup, Markup]]:
    """Yield each type with its bar and its sparkline."""
    most = max(count.total for count in report.types) if report.types else 0
    period = trend_period(report, now, zone)
    for count in report.types:
        active = count.total - count.without_expiry - count.guarded - count.expired
        names = ("active", "without-expiry", "guarded", "expired")
        segments = zip(names, (active, count.without_expiry, count.guarded, count.expired), strict=True)
        trend = report.totals_30d.get(count.key_type, ())
        sparkline = drawing.sparkline(trend, f"{count.key_type}, {period}")
        yield count, drawing.stacked_bar(segments, most, count.key_type), sparkline


@pass_context
def _ago(context: Context, at: datetime) -> str:
    """Return the age of a time as of the page's `now`: `5 min ago`."""
    return f"{duration((context['now'] - at).total_seconds())} ago"


@pass_context
def _local(context: Context, at: datetime) -> str:
    """Return a time in the page's zone, with the zone; a time of another day has its date."""
    here, today = at.astimezone(context["zone"]), context["now"].astimezone(context["zone"]).date()
    return f"{here:%H:%M:%S %Z}" if here.date() == today else f"{here:%Y-%m-%d %H:%M %Z}"


def _took(took_ms: float) -> str:
    """Return a time that work took, in the unit that suits it."""
    if took_ms < 1_000:
        return f"{took_ms:.1f} ms" if took_ms < 10 else f"{took_ms:.0f} ms"
    return f"{took_ms / 1_000:,.1f} s"


def _word(text: str, word: str | None = None) -> Markup | str:
    """Return a text that leads to the explanation of `word`, by default its own; the bare text if there is none."""
    word = word or text
    explanation = WORDS.get(word)
    if explanation is None:
        return text
    return WORD.format(word.replace(" ", "-"), explanation.replace("`", ""), text)


def _with_code(text: str) -> Markup:
    """Return a report's text, with the parts between backquotes as code, and commands as the program was started."""
    parts = [CODE.format(part) if n % 2 else escape(part) for n, part in enumerate(as_started(text).split("`"))]
    return Markup("").join(parts)


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {"ago": _ago, "local": _local, "size": size, "took": _took, "with_code": _with_code}
# Our own style sheet isn't escaped, or it would no longer match its hash.
_TEMPLATES.globals |= {
    "draw": drawing,
    "style": Markup(STYLE),  # noqa: S704
    "word": _word,
    "command": command,
    "refresh_s": None,
}


def _render(template: str, **context: object) -> str:
    return _TEMPLATES.get_template(template).render(**context)
