"""The reports as the status page's HTML.

The templates are Jinja's, with escaping always on and a name that isn't there an error: of the engines that escape by
themselves the one most people know, pure Python but for MarkupSafe. It is loaded with the first page that is asked
for (`api.page.routes`), and so is the watch's list of rules; a worker that serves bots alone has neither in memory.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from api.page import drawing
from api.page.login_sessions import LASTS
from api.reports import Alerts, Firing, ReportResult
from keystore.records import CompanyPage, SweepRun
from monitor.alerts.decisions import Severity, duration
from monitor.alerts.rules import alert_rules
from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport
from monitor.reports.check_rows import check_rows
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import LoadTime
from monitor.watch_settings import WatchSettings

HERE = Path(__file__).parent
STYLE = (HERE / "style.css").read_text(encoding="utf-8")
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
AHEAD_DAYS = (7, 14, 30, 90)
ALERTS_SHOWN = 20
PAGE_COMPANIES = 25

Level = Literal["ok", "warning", "critical", "unknown"]
_WORDS: dict[Level, tuple[str, str]] = {
    "ok": ("✓", "All is well"),
    "warning": ("!", "Needs a look"),
    "critical": ("✕", "Needs you now"),
    "unknown": ("?", "Can't tell"),
}
_COLOURS: dict[Level, str] = {"ok": "1a7340", "warning": "b37400", "critical": "b3201a", "unknown": "b3201a"}
_NEUTRAL = "1f5fa8"
CODE = Markup("<code>{}</code>")

# The numbers don't matter here: only a rule's title and severity are shown.
_RULES = alert_rules(WatchSettings())


@dataclass(frozen=True)
class Status:
    """Everything that the page shows, each with its error where it failed."""

    database: str
    check: ReportResult[CheckReport]
    types: ReportResult[TypesReport]
    growth: ReportResult[GrowthReport]
    load: ReportResult[LoadTime]
    sweeps: ReportResult[list[SweepRun]]
    alerts: ReportResult[Alerts]
    companies: ReportResult[CompanyPage]

    @property
    def reports(self) -> Mapping[str, ReportResult[Any]]:
        """Everything beside the check, by the head that it stands under."""
        return {
            "alerts": self.alerts,
            "keys by type": self.types,
            "growth": self.growth,
            "load time": self.load,
            "sweeps": self.sweeps,
            "companies": self.companies,
        }


@dataclass(frozen=True)
class VerdictLine:
    """The one line, and why."""

    level: Level
    reasons: tuple[str, ...]

    @property
    def mark(self) -> str:
        """A sign for those who don't see the colour."""
        return _WORDS[self.level][0]

    @property
    def word(self) -> str:
        """In words."""
        return _WORDS[self.level][1]


@dataclass(frozen=True)
class AlertRow:
    """An alert as it is shown."""

    title: str
    severity: Severity
    subject: str
    since: datetime | None
    detail: str


@dataclass(frozen=True)
class TypeRow:
    """A type's numbers and its pictures."""

    key_type: str
    total: int
    without_expiry: int
    bar: Markup
    trend: Markup


@dataclass(frozen=True)
class Listing:
    """Where in the companies the reader is, and the ways on from there."""

    search: str
    first: int
    last: int
    previous: str | None
    next: str | None


def status_page(status: Status, search: str, page: int, now: datetime) -> str:
    """The page; `page` counts from 1."""
    firing = _told(status.alerts.value)
    growth, types = status.growth.value, status.types.value
    forecast = growth.forecast if growth is not None else None
    verdict = verdict_of(status, firing)
    return _render(
        "status.html",
        now=now,
        mark=_COLOURS[verdict.level],
        verdict=verdict,
        database=status.database,
        check=status.check,
        check_rows=None if status.check.value is None else check_rows(status.check.value),
        types=status.types,
        growth=status.growth,
        load=status.load,
        sweeps=status.sweeps,
        alerts=status.alerts,
        companies=status.companies,
        firing=firing[:ALERTS_SHOWN],
        more_firing=max(0, len(firing) - ALERTS_SHOWN),
        type_rows=[] if types is None else list(_type_rows(types)),
        trends=types is not None and any(len(totals) > 1 for totals in types.totals_30d.values()),
        growth_chart=_growth_chart(status.growth),
        ahead=[] if forecast is None else [(days, *forecast.keys_at(days)) for days in AHEAD_DAYS],
        load_bar=_load_bar(status.load.value),
        sweep_chart=drawing.sweeps(status.sweeps.value or []),
        listing=listing(status.companies.value, search, page),
    )


def sign_in_page(error: str | None = None) -> str:
    """The form, and why the last try came to nothing."""
    return _render("sign_in.html", mark=_NEUTRAL, error=error, lasts_h=LASTS.seconds // 3600)


def away_page() -> str:
    """When the database doesn't even say who is signed in."""
    return _render("away.html", mark=_COLOURS["unknown"])


def verdict_of(status: Status, firing: list[AlertRow]) -> VerdictLine:
    """The worst of the check, the load and what fires, with the reasons that aren't told elsewhere on the page."""
    check, load = status.check.value, status.load.value
    if check is None:
        return VerdictLine("unknown", ())
    reasons = list(check.advice)
    levels: list[Level] = [check.verdict]
    if load is not None and not load.within_budget:
        levels.append("warning")
        reasons.append(f"a load takes {load.took_ms:,.0f} ms, and {load.budget_ms:,.0f} ms is the budget")
    if firing:
        levels.append("critical" if any(alert.severity == "critical" for alert in firing) else "warning")
        reasons.append(f"{len(firing):,} alert{'' if len(firing) == 1 else 's'} below")
    unknown = [name for name, answer in status.reports.items() if answer.error is not None]
    if unknown:
        levels.append("warning")
        reasons.append(f"not known: {', '.join(unknown)}")
    return VerdictLine(next(level for level in ("critical", "warning", "ok") if level in levels), tuple(reasons))


def listing(companies: CompanyPage | None, search: str, page: int) -> Listing:
    """The ways from this page of companies to the ones beside it."""
    total = 0 if companies is None else companies.total
    shown = 0 if companies is None else len(companies.companies)
    first = (page - 1) * PAGE_COMPANIES + 1
    pages = -(-total // PAGE_COMPANIES)
    return Listing(
        search=search,
        first=first,
        last=first + shown - 1,
        previous=_place(search, min(page - 1, pages)) if page > 1 and total else None,
        next=_place(search, page + 1) if page < pages else None,
    )


def _told(alerts: Alerts | None) -> list[AlertRow]:
    """What fires, worst first; an alert of a rule that this version doesn't know is told by the rule's name."""
    told = [_tell(firing) for firing in (() if alerts is None else alerts.firing)]
    return sorted(told, key=lambda alert: alert.severity != "critical")


def _tell(firing: Firing) -> AlertRow:
    rule = _RULES.get(firing.rule)
    if rule is None:
        return AlertRow(firing.rule, "warning", firing.subject, firing.since, firing.detail)
    return AlertRow(rule.title, rule.severity, firing.subject, firing.since, firing.detail)


def _type_rows(report: TypesReport) -> Iterator[TypeRow]:
    most = max(count.total for count in report.types) if report.types else 0
    for count in report.types:
        active = count.total - count.without_expiry - count.guarded - count.expired
        parts = [
            ("active", active),
            ("without-expiry", count.without_expiry),
            ("guarded", count.guarded),
            ("expired", count.expired),
        ]
        yield TypeRow(
            count.key_type,
            count.total,
            count.without_expiry,
            drawing.share(parts, most, count.key_type),
            drawing.sparkline(report.totals_30d.get(count.key_type, ()), f"{count.key_type} in the last 30 days"),
        )


def _growth_chart(answer: ReportResult[GrowthReport]) -> Markup | None:
    report = answer.value
    if report is None:
        return None
    now = answer.at if report.forecast is None else report.forecast.made_at
    return drawing.growth(report.history, report.total, now, report.forecast)


def _load_bar(load: LoadTime | None) -> Markup | None:
    return None if load is None or load.company is None else drawing.against_budget(load.took_ms, load.budget_ms)


def _place(search: str, page: int) -> str:
    given = {**({"search": search} if search else {}), **({"page": page} if page > 1 else {})}
    return f"/?{urlencode(given)}#companies" if given else "/#companies"


@pass_context
def _ago(context: Context, at: datetime) -> str:
    """`5 min ago`, as of the page's `now`."""
    return f"{duration((context['now'] - at).total_seconds())} ago"


def _with_code(text: str) -> Markup:
    """A report's words, with what stands between backquotes as code."""
    parts = [CODE.format(part) if n % 2 else escape(part) for n, part in enumerate(text.split("`"))]
    return Markup("").join(parts)


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {"ago": _ago, "with_code": _with_code}
# It is ours: escaped, it would no longer be what its hash was made of.
_TEMPLATES.globals["style"] = Markup(STYLE)  # noqa: S704


def _render(template: str, **context: object) -> str:
    return _TEMPLATES.get_template(template).render(**context)
