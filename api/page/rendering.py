"""The status page as HTML, made from the reports.

Templates are Jinja's, with escaping always on and an undefined name an error. Among the engines that escape by
themselves Jinja is the best known, and pure Python except for MarkupSafe. `api.page.routes` loads this module with the
first page that is asked for: a worker that only serves bots has neither Jinja nor the alert rules in memory.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from api.page import drawing
from api.page.login_sessions import LIFETIME
from api.reports import Alerts, FiringAlert, ReportResult
from keystore.records import CompanyPage, SweepRun, TypeCount
from monitor.alerts.rules import RULES
from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport, check_rows
from monitor.reports.formatting import duration
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import LoadTime
from monitor.severity import Severity

HERE = Path(__file__).parent
STYLE = (HERE / "style.css").read_text(encoding="utf-8")
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
AHEAD_DAYS = (7, 14, 30, 90)
ALERTS_SHOWN = 20
PAGE_COMPANIES = 25

Level = Literal["ok", "warning", "critical", "unknown"]
_LEVELS: dict[Level, tuple[str, str, str]] = {
    "ok": ("✓", "All is well", "1a7340"),
    "warning": ("!", "Needs a look", "b37400"),
    "critical": ("✕", "Needs you now", "b3201a"),
    "unknown": ("?", "Can't tell", "b3201a"),
}
"""Sign, words and colour of each verdict; the sign is for readers who don't see the colour."""

SEVEREST_FIRST: tuple[Level, ...] = ("critical", "warning", "ok")
_HEADINGS = {"types": "keys by type", "load": "load time"}
"""Headings of the sections that aren't named like their report."""

_NEUTRAL = "1f5fa8"
CODE = Markup("<code>{}</code>")


@dataclass(frozen=True)
class Status:
    """All that the page shows; each report has its value or its error."""

    database: str
    check: ReportResult[CheckReport]
    alerts: ReportResult[Alerts]
    types: ReportResult[TypesReport]
    growth: ReportResult[GrowthReport]
    load: ReportResult[LoadTime]
    sweeps: ReportResult[list[SweepRun]]
    companies: ReportResult[CompanyPage]


AlertRow = tuple[Severity, str, FiringAlert]
"""An alert with its rule's severity and title."""


@dataclass(frozen=True)
class Listing:
    """The part of the list of companies that is shown, and the links to the parts beside it."""

    search: str
    first: int
    last: int
    previous: str | None
    next: str | None


def status_page(status: Status, search: str, page: int, now: datetime) -> str:
    """Return the status page; `page` is the page of the list of companies, from 1."""
    alerts = _alert_rows(status.alerts.value)
    growth, types = status.growth.value, status.types.value
    forecast = growth.forecast if growth is not None else None
    level, reasons = verdict_of(status, alerts)
    sign, headline, colour = _LEVELS[level]
    return _render(
        "status.html",
        now=now,
        sign=sign,
        headline=headline,
        icon_colour=colour,
        level=level,
        reasons=reasons,
        **vars(status),
        check_rows=None if status.check.value is None else check_rows(status.check.value),
        alert_rows=alerts[:ALERTS_SHOWN],
        more_alerts=max(0, len(alerts) - ALERTS_SHOWN),
        type_rows=[] if types is None else list(_type_rows(types)),
        trends=types is not None and any(len(totals) > 1 for totals in types.totals_30d.values()),
        ahead=[] if forecast is None else [(days, *forecast.keys_at(days)) for days in AHEAD_DAYS],
        listing=listing(status.companies.value, search, page),
    )


def sign_in_page(error: str | None = None) -> str:
    """Return the form for an admin token, with the error of the last attempt."""
    return _render("sign_in.html", icon_colour=_NEUTRAL, error=error, lasts_h=LIFETIME.seconds // 3600)


def unavailable_page() -> str:
    """Return the page shown when even the session can't be checked, because the database doesn't answer."""
    return _render("unavailable.html", icon_colour=_LEVELS["unknown"][2])


def verdict_of(status: Status, alerts: list[AlertRow]) -> tuple[Level, list[str]]:
    """Return the worst of the check, the load time and the alerts, with reasons that the page shows nowhere else."""
    check, load = status.check.value, status.load.value
    if check is None:
        return "unknown", []
    reasons = list(check.advice)
    levels: list[Level] = [check.verdict]
    if load is not None and not load.within_budget:
        levels.append("warning")
        reasons.append(f"a load takes {load.took_ms:,.0f} ms, and {load.budget_ms:,.0f} ms is the budget")
    if alerts:
        levels.append("critical" if any(severity == "critical" for severity, _, _ in alerts) else "warning")
        reasons.append(f"{len(alerts):,} alert{'' if len(alerts) == 1 else 's'} below")
    failed = [name for name, report in vars(status).items() if isinstance(report, ReportResult) and report.error]
    if failed:
        levels.append("warning")
        reasons.append(f"not known: {', '.join(_HEADINGS.get(name, name) for name in failed)}")
    return next(level for level in SEVEREST_FIRST if level in levels), reasons


def listing(companies: CompanyPage | None, search: str, page: int) -> Listing:
    """Return the position of a page of companies, with links to the pages before and after it."""
    total = 0 if companies is None else companies.total
    shown = 0 if companies is None else len(companies.companies)
    first = (page - 1) * PAGE_COMPANIES + 1
    pages = -(-total // PAGE_COMPANIES)
    return Listing(
        search=search,
        first=first,
        last=first + shown - 1,
        previous=_link(search, min(page - 1, pages)) if page > 1 and total else None,
        next=_link(search, page + 1) if page < pages else None,
    )


def _alert_rows(alerts: Alerts | None) -> list[AlertRow]:
    """Return the alerts that fire, worst first. A rule that this version doesn't know is shown by its name."""
    rows: list[AlertRow] = []
    for alert in () if alerts is None else alerts.firing:
        rule = RULES.get(alert.rule)
        rows.append(("warning", alert.rule, alert) if rule is None else (rule.severity, rule.title, alert))
    return sorted(rows, key=lambda row: row[0] != "critical")


def _type_rows(report: TypesReport) -> Iterator[tuple[TypeCount, Markup, Markup]]:
    """Yield each type with its bar and its sparkline."""
    most = max(count.total for count in report.types) if report.types else 0
    for count in report.types:
        active = count.total - count.without_expiry - count.guarded - count.expired
        names = ("active", "without-expiry", "guarded", "expired")
        segments = zip(names, (active, count.without_expiry, count.guarded, count.expired), strict=True)
        trend = report.totals_30d.get(count.key_type, ())
        sparkline = drawing.sparkline(trend, f"{count.key_type} in the last 30 days")
        yield count, drawing.stacked_bar(segments, most, count.key_type), sparkline


def _link(search: str, page: int) -> str:
    params = {**({"search": search} if search else {}), **({"page": page} if page > 1 else {})}
    return f"/?{urlencode(params)}#companies" if params else "/#companies"


@pass_context
def _ago(context: Context, at: datetime) -> str:
    """Return the age of a time as of the page's `now`: `5 min ago`."""
    return f"{duration((context['now'] - at).total_seconds())} ago"


def _with_code(text: str) -> Markup:
    """Return a report's text, with the parts between backquotes as code."""
    parts = [CODE.format(part) if n % 2 else escape(part) for n, part in enumerate(text.split("`"))]
    return Markup("").join(parts)


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {"ago": _ago, "with_code": _with_code}
# Our own style sheet isn't escaped, or it would no longer match its hash.
_TEMPLATES.globals |= {"draw": drawing, "style": Markup(STYLE)}  # noqa: S704


def _render(template: str, **context: object) -> str:
    return _TEMPLATES.get_template(template).render(**context)
