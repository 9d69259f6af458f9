"""The status page as a function of its reports: verdict, escaping, charts, failed reports; and the cache of reports."""

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest

from api.page import drawing
from api.page.rendering import (
    PAGE_COMPANIES,
    Status,
    bot_rows,
    help_page,
    listing,
    problem_page,
    sign_in_page,
    status_page,
    unavailable_page,
    verdict_of,
)
from api.page.view import View
from api.page.words import WORDS
from api.reports import (
    CACHE_FACTOR,
    CACHED_FOR_S,
    FAILURE_CACHED_FOR_S,
    Alerts,
    CachedReport,
    Deadline,
    FiringAlert,
    ReportResult,
    alerts,
)
from keystore import open_store
from keystore.errors import StoreUnavailable
from keystore.records import CompanyLease, CompanyPage, CompanySummary
from monitor.alerts.memory import BotMemory, BotReport
from monitor.alerts.rules import SILENT_AFTER
from monitor.instances import SEEN_FOR, Instance
from monitor.reports.load_time import LoadTime
from rig.fixtures.clock import START, Clock
from rig.paths import PROJECT
from rig.waiting import eventually
from tests.monitor.alerts.watches import Watched
from tests.monitor.sample_censuses import run
from tests.monitor.sample_reports import CHECK, FORECAST, GROWTH, LOAD, OUTCOMES, TYPES, without_forecast

HOSTILE = "<script>alert('1')</script>\"'&"
NO_ALERTS = Alerts((), None)
OWN = Instance(
    "vm1:8080",
    "shop bots",
    "vm1",
    "1.2.3",
    START - timedelta(hours=3),
    2,
    alerting=True,
    looked_at=START - timedelta(seconds=14),
)
OTHER = replace(OWN, address="vm2:8080", host="vm2", alerting=False)
MB = 1_000_000
DEFAULT_VIEW = View()


def result(value: Any) -> ReportResult[Any]:
    """A report that succeeded."""
    return ReportResult(value, None, START)


def failed(error: str = "db.example: no answer within 7 s") -> ReportResult[Any]:
    """A report that failed."""
    return ReportResult(None, error, START)


def company(number: int, holder: str | None = None) -> CompanySummary:
    """A company, with a lease if `holder` is given."""
    lease = None if holder is None else CompanyLease(f"c{number}", holder, 7, START + timedelta(seconds=40))
    return CompanySummary(f"c{number}", number, START - timedelta(minutes=number), lease)


STATUS = Status(
    database="postgresql://db.example/bots",
    check=result(replace(CHECK, advice=())),
    instances=result([OWN]),
    bots=result({}),
    types=result(TYPES),
    growth=result(replace(GROWTH, outcomes=OUTCOMES)),
    load=result(LOAD),
    sweeps=result([run(timedelta(hours=6 * n), deleted=30 * n, error="lost" if n == 3 else None) for n in range(9)]),
    alerts=result(NO_ALERTS),
    companies=result(CompanyPage(3, (company(1, "host:1"), company(2), company(3)))),
)


def shown(*, view: View = DEFAULT_VIEW, own: Instance = OWN, zone: str = "UTC", **changes: Any) -> str:
    """The page with these reports in place of STATUS's."""
    return status_page(replace(STATUS, **changes), view, own, ZoneInfo(zone), START)


def bot(used: float = 0.5, age: timedelta = timedelta(seconds=40)) -> BotReport:
    """A bot's heartbeat of some time ago, with this share of its heap used."""
    return BotReport(BotMemory(int(used * 400 * MB), 380 * MB, 400 * MB, 420 * MB), START - age)


def text_of(page: str) -> str:
    """The text of a page's body, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2])).split())


def firing(rule: str, detail: str = "2 left", subject: str = "") -> FiringAlert:
    """An alert that has been firing for half an hour."""
    return FiringAlert(rule, subject, START - timedelta(minutes=30), detail)


def head(page: str) -> str:
    """The heading with the verdict."""
    match = re.search(r'<h2 id="verdict-head">(.*?)</h2>', page)
    assert match is not None
    return match[1]


def test_the_verdict_comes_first_and_is_the_worst_of_all() -> None:
    assert head(shown()) == "✓ All is well"
    assert head(shown(load=result(replace(LOAD, took_ms=750.1)))) == "! Needs a look"
    assert head(shown(alerts=result(Alerts((firing("pre-keys"),), None)))) == "! Needs a look"
    assert head(shown(alerts=result(Alerts((firing("pre-keys"), firing("sweeper")), None)))) == "✕ Needs you now"
    assert head(shown(check=result(replace(CHECK, verdict="critical")))) == "✕ Needs you now"
    assert head(shown(check=failed())) == "? Can&#39;t tell"
    page = shown()
    assert page.index("verdict-head") < page.index("alerts-head") < page.index("types-head")


@pytest.mark.parametrize("report", ["check", "types", "growth", "load", "sweeps", "alerts", "bots", "companies"])
def test_a_failed_report_shows_its_error_beside_the_others(report: str) -> None:
    page = shown(**dict[str, Any]({report: failed("<b>no</b> answer")}))
    assert page.count("Not available: &lt;b&gt;no&lt;/b&gt; answer") == 1
    assert head(page) != "✓ All is well"
    others = {
        "types": "pre-key",
        "growth": "nine in ten outcomes",
        "load": "123.4 ms",
        "sweeps": "failed: lost",
        "alerts": "No alert fires.",
        "companies": "host:1",
    }
    for other, text in others.items():
        assert (text in page) == (other != report), other


def test_texts_of_reports_are_escaped() -> None:
    page = shown(
        view=View(HOSTILE),
        own=replace(OWN, address=HOSTILE, name=HOSTILE, version=HOSTILE),
        instances=result([OWN, replace(OTHER, address=HOSTILE, name=HOSTILE)]),
        bots=result({HOSTILE: bot(age=timedelta(hours=1))}),
        database=HOSTILE,
        check=result(replace(CHECK, advice=(f"run `{HOSTILE}`", HOSTILE))),
        types=result(replace(TYPES, types=tuple(replace(count, key_type=HOSTILE) for count in TYPES.types))),
        growth=result(replace(without_forecast(), forecast_waits_for=HOSTILE)),
        load=result(LoadTime(HOSTILE, 1, 1.0, 2.0)),
        sweeps=result([run(timedelta(hours=n), error=HOSTILE) for n in range(4)]),
        alerts=result(Alerts((firing(HOSTILE, HOSTILE, HOSTILE),), None)),
        companies=result(CompanyPage(900, (replace(company(1, HOSTILE), company_id=HOSTILE),))),
    )
    assert "<script" not in page
    assert "alert('1')" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "<script" not in sign_in_page(HOSTILE, HOSTILE)
    assert "<script" not in problem_page(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    well_formed(page)


def well_formed(page: str) -> None:
    """Check that every element of the body is closed in its place; the pages are written so that XML can be parsed."""
    body = re.sub(r"<(input|br|meta|link)\b([^<>]*?)(?<!/)>", r"<\1\2/>", page.partition("<body>")[2])
    body = re.sub(r" (required|autofocus|hidden)(?=[ />])", r' \1=""', body)
    ET.fromstring(f"<body>{body.partition('</body>')[0]}</body>")  # noqa: S314  it is our own


def test_every_page_is_well_formed() -> None:
    well_formed(shown())
    well_formed(shown(growth=result(without_forecast()), sweeps=result([]), companies=result(CompanyPage(0, ()))))
    well_formed(shown(instances=result([OWN, OTHER]), bots=result({"c1": bot(), "c2": bot(age=timedelta(hours=1))})))
    well_formed(shown(check=result(replace(CHECK, total=0, advice=(), new=True))))
    well_formed(sign_in_page(None))
    well_formed(sign_in_page("k.db.admin-token", "no"))
    well_formed(unavailable_page())
    well_formed(problem_page("Nothing", "look elsewhere", "r-1", "../"))
    well_formed(help_page())


def test_an_alert_has_its_severity_and_age_and_the_worst_is_first() -> None:
    page = shown(alerts=result(Alerts((firing("pre-keys", "2 left", "962302"), firing("sweeper")), START)))
    text = text_of(page)
    text = text[text.index("no alerts are sent. ") :]
    assert text.startswith("no alerts are sent. sweeper critical since 30 min ago 09:11:27 UTC 2 left → see why in")
    assert "pre-keys 962302 warning since 30 min ago 09:11:27 UTC 2 left → restart this bot" in text
    assert 'href="help#alert-pre-keys"' in page
    assert 'href="./?search=962302#companies"' in page
    assert "Muted until 09:41:27 UTC" in page


def test_a_storm_of_alerts_is_shown_as_a_number() -> None:
    page = shown(alerts=result(Alerts(tuple(firing("pre-keys", subject=f"c{n}") for n in range(500)), None)))
    assert page.count('<li class="warning">') == 20
    assert "… and 480 more" in text_of(page)
    assert "500 alerts below" in page


def test_the_page_shows_the_alerts_that_the_watch_stores(tmp_path: Path, clock: Clock) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock) as store:
        watched = Watched(store, clock)
        watched.used_share = 0.93
        watched.look(4)
        assert [alert.rule for alert in alerts(store).firing] == ["memory"]


def test_the_page_loads_itself_again_unless_it_is_paused_and_a_form_never_does() -> None:
    assert '<meta http-equiv="refresh" content="30; url=./">' in shown()
    assert '<meta http-equiv="refresh" content="60; url=./?refresh=60">' in shown(view=View(refresh_s=60))
    chosen = View("bot", 2)
    assert 'content="30; url=./?search=bot&amp;page=2&amp;again=1#companies">' in shown(view=chosen)
    assert 'content="30; url=./?search=bot&amp;page=2#companies">' in shown(view=replace(chosen, again=True))
    paused = shown(view=View("bot", refresh_s=None))
    assert "http-equiv" not in paused
    assert "paused" in text_of(paused)
    assert '<input type="hidden" name="refresh" value="off">' in paused, "a search doesn't resume it"
    assert "http-equiv" not in sign_in_page(None)
    assert '<meta http-equiv="refresh" content="10; url=./">' in unavailable_page()


def test_times_are_shown_with_their_age_in_the_operators_zone() -> None:
    page = text_of(shown(zone="Europe/Moscow"))
    assert "counted 12:41:27 MSK, 0 s ago" in page
    assert "Times are in Europe/Moscow (MSK)." in page
    assert "UTC" not in page
    assert "Times are in UTC." in text_of(shown())


def test_data_that_is_older_than_it_should_be_is_marked() -> None:
    old = ReportResult(TYPES, None, START - timedelta(minutes=5), late=True)
    page = shown(types=old)
    assert '<p class="as-of old">' in page
    assert "as of 09:36:27 UTC, 5 min ago : a newer count didn't come in time" in text_of(page)
    assert head(page) == "! Needs a look"
    assert "old, because newer counts didn't come in time: keys by type" in text_of(page)
    assert 'class="as-of old"' not in shown()


def test_alerts_are_marked_when_no_watch_looks() -> None:
    silent = [replace(OWN, looked_at=START - SEEN_FOR - timedelta(seconds=1)), OTHER]
    page = shown(instances=result(silent))
    assert head(page) == "! Needs a look"
    assert "these alerts may be old" in text_of(page)
    assert "looked 09:41:13 UTC, 14 s ago" in text_of(shown())
    just_started = replace(OWN, started_at=START - timedelta(minutes=1))
    assert head(shown(instances=result([]), own=just_started)) == "✓ All is well"


def test_the_service_and_the_others_on_its_database_are_described() -> None:
    page = text_of(shown())
    assert "Signal Keystore · shop bots vm1:8080 version 1.2.3 sends the alerts up 3 h 2 workers read-only" in page
    assert "Services on this database" not in page
    page = text_of(shown(own=replace(OTHER, alerting=None), instances=result([OWN, OTHER])))
    assert "stands by , vm1:8080 sends the alerts" in page
    assert "Services on this database" in page


def test_silent_bots_come_first_and_count_in_the_verdict() -> None:
    bots = {"calm": bot(0.2), "full": bot(0.97), "gone": bot(0.1, SILENT_AFTER + timedelta(seconds=1))}
    page = shown(bots=result(bots), companies=result(CompanyPage(1, (replace(company(1), company_id="gone"),))))
    assert head(page) == "! Needs a look"
    text = text_of(page)
    assert "1 bot is silent: gone" in text
    assert "Bots 2 bots alive, 1 silent" in text
    assert [row.company_id for row in bot_rows(bots, START)] == ["gone", "full", "calm"]
    assert "gone ✕ silent 10 min ago 09:31:26 UTC 10% of 400.0 MB 420.0 MB" in text
    assert "calm ✓ alive 40 s ago 09:40:47 UTC 20% of 400.0 MB 420.0 MB" in text
    assert page.count('<tr class="warning">') == 2, "its row in both tables is marked"
    assert head(shown(bots=result({"calm": bot(0.2)}))) == "✓ All is well"


def test_many_bots_are_shown_as_a_number() -> None:
    page = text_of(shown(bots=result({f"c{n}": bot() for n in range(1_200)})))
    assert "1,200 bots alive" in page
    assert "… and 1,190 more" in page


def test_a_companys_row_is_marked_with_its_worst_alert() -> None:
    alerts = Alerts((firing("pre-keys", subject="c2"), firing("bot-memory", subject="c2")), None)
    page = shown(alerts=result(alerts))
    rows = re.findall(r'<tr class="(\w*)"><th scope="row">(c\d)', page)
    assert rows == [("", "c1"), ("critical", "c2"), ("", "c3")]


def test_a_new_store_is_welcomed_unless_something_is_wrong() -> None:
    new = replace(CHECK, total=0, without_expiry=0, companies=0, advice=("there are no keys",), new=True)
    page = shown(check=result(new), companies=result(CompanyPage(0, ())))
    assert head(page) == "→ Welcome"
    assert all(command in page for command in ("run.py token create --company", "run.py seed", "clients/baileys"))
    assert "Keys by type" not in page
    assert head(shown(check=result(new), alerts=result(Alerts((firing("disk"),), None)))) == "✕ Needs you now"


@pytest.mark.parametrize(
    ("age", "period"),
    [
        (timedelta(days=29), "30 days"),
        (timedelta(days=12), "since 26 Sep"),
        (timedelta(days=2), "since 06 Oct 12:41"),
        (timedelta(hours=3), "since 09:41"),
    ],
)
def test_a_short_history_says_since_when(age: timedelta, period: str) -> None:
    types = replace(TYPES, totals_30d={"session": (100, 120)}, totals_30d_at=(START - age, START))
    page = shown(types=result(types), zone="Europe/Moscow")
    assert f'<th scope="col" class="trend">{period}</th>' in page
    history = [replace(GROWTH.history[0], at=START - age), replace(GROWTH.history[1], at=START)]
    chart = str(drawing.growth_chart(history, 100, START, None, ZoneInfo("Europe/Moscow")))
    assert "30 days" in period or period.removeprefix("since ") in chart


def test_sweeps_take_milliseconds_and_numbers_have_separators() -> None:
    quick = [replace(run(timedelta(hours=n)), took_ms=took_ms) for n, took_ms in enumerate((3.24, 250.6, 61_000))]
    page = text_of(shown(sweeps=result(quick)))
    assert re.findall(r"[\d.,]+ m?s done", page) == ["3.2 ms done", "251 ms done", "61.0 s done"]


def test_every_address_is_relative_and_every_word_is_explained() -> None:
    pages = [
        shown(instances=result([OWN, OTHER]), bots=result({"c1": bot(age=timedelta(hours=1))})),
        shown(check=result(replace(CHECK, new=True, total=0))),
        sign_in_page("k.db.admin-token"),
        unavailable_page(),
        help_page(),
    ]
    explained = set(re.findall(r'<div id="([^"]+)">', help_page()))
    for page in pages:
        for address in re.findall(r'(?:href|action)="([^"]*)"', page):
            assert not address.startswith(("/", "http")), address
            if address.startswith("help#"):
                assert address.removeprefix("help#") in explained, address
    assert len(re.findall('class="word"', pages[0])) > 10
    guide = (PROJECT / "docs" / "page.md").read_text(encoding="utf-8")
    assert all(f"| {word} | {text} |" in guide for word, text in WORDS.items())


def test_the_form_names_the_file_with_the_token() -> None:
    assert "The first token is in the file keystore.db.admin-token , beside" in text_of(
        sign_in_page("keystore.db.admin-token")
    )
    assert "file" not in text_of(sign_in_page(None))


@pytest.mark.parametrize(
    ("query", "view"),
    [
        ({}, View()),
        ({"search": " company_bot ", "page": "3", "order": "keys", "refresh": "off"}, View("bot", 3, "keys", None)),
        ({"page": "0", "order": "size", "refresh": "1"}, View(refresh_s=5)),
        ({"page": "-1", "refresh": "x"}, View()),
        ({"again": "1"}, View(again=True)),
        ({"page": "9" * 7, "refresh": "9999999"}, View(page=1_000_000, refresh_s=3_600)),
        ({"page": "٣", "search": "x" * 99}, View("x" * 64)),
    ],
)
def test_a_view_is_read_leniently_and_written_back(query: dict[str, str], view: View) -> None:
    assert View.read(query.get) == view
    written = dict(parse_qsl(urlsplit(view.link()).query))
    assert View.read(written.get) == replace(view, again=False)


def test_companies_are_paged_and_the_search_is_kept() -> None:
    many = CompanyPage(1_000, tuple(company(n) for n in range(PAGE_COMPANIES)))
    first, middle = listing(many, View()), listing(many, View("a b&c", 3, "keys"))
    assert (first.previous, first.next, first.first, first.last) == (None, "./?page=2#companies", 1, PAGE_COMPANIES)
    assert middle.previous == "./?search=a+b%26c&page=2&order=keys#companies"
    assert middle.next == "./?search=a+b%26c&page=4&order=keys#companies"
    last = listing(CompanyPage(1_000, many.companies[:1]), View(page=40))
    assert (last.previous, last.next) == ("./?page=39#companies", None)
    beyond = listing(CompanyPage(30, ()), View(page=900))
    assert beyond.previous == "./?page=2#companies"
    assert listing(CompanyPage(0, ()), View()).previous is None
    assert listing(None, View(page=2)).next is None


def numbers(chart: str, kind: str, name: str) -> list[float]:
    """The coordinates in the first path of a class."""
    match = re.search(rf'<{kind} class="{name}"[^>]* d="([^"]+)"', chart)
    assert match is not None
    return [float(number) for number in re.findall(r"-?[\d.]+", match[1])]


def test_the_growth_chart_joins_the_counts_to_the_forecast() -> None:
    chart = str(drawing.growth_chart(GROWTH.history, GROWTH.total, START, FORECAST))
    ET.fromstring(chart)  # noqa: S314  it is our own
    counted, expected, band = (numbers(chart, "path", name) for name in ("counted", "expected", "band"))
    assert counted[-2:] == expected[:2], "the forecast begins where the counts end"
    assert all(x <= y for x, y in zip(counted[:-2:2], counted[2::2], strict=True)), "time goes to the right"
    upper, lower = band[1 : len(band) // 2 : 2], list(reversed(band[len(band) // 2 + 1 :: 2]))
    assert all(high <= middle <= low for high, middle, low in zip(upper, expected[1::2], lower, strict=True))
    for x, y in zip(band[::2], band[1::2], strict=True):
        assert drawing.LEFT <= x <= drawing.WIDTH
        assert 0 <= y <= drawing.HEIGHT - drawing.BOTTOM
    assert "In 30 days about 2,028 are expected, 1,901 to 2,154." in chart


def test_charts_without_enough_data_are_left_out() -> None:
    assert drawing.growth_chart((), 0, START, None) is None
    assert drawing.growth_chart(GROWTH.history[:1], 1, START, None) is None
    assert drawing.sweep_chart([run(timedelta(0))]) is None
    assert str(drawing.sparkline([3], "")) == ""


def test_a_growth_chart_without_a_forecast_ends_now() -> None:
    chart = str(drawing.growth_chart(GROWTH.history, 0, START, None))
    assert "expected" not in chart
    assert ">now</text>" in chart


def test_the_budget_bar_changes_its_colour_beyond_the_budget() -> None:
    assert 'class="within"' in drawing.budget_bar(750.0, 750.0)
    assert 'class="over"' in drawing.budget_bar(750.1, 750.0)
    far = str(drawing.budget_bar(60_000, 750))
    assert max(float(width) for width in re.findall(r'width="([\d.]+)"', far)) <= 480


def test_a_stacked_bar_adds_up_and_stays_in_its_frame() -> None:
    bar = str(drawing.stacked_bar([("active", 999_999), ("expired", 1), ("guarded", 0)], 1_000_000, "session"))
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', bar)]
    assert len(widths) == 2
    assert sum(widths) <= 160.1
    assert "999,999 active, 1 expired" in bar


@pytest.mark.parametrize(
    ("highest", "steps"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (7, [0, 2, 4, 6, 8]),
        (665, [0, 200, 400, 600, 800]),
        (9e6, [0, 2.5e6, 5e6, 7.5e6, 1e7]),
    ],
)
def test_axes_have_round_numbers(highest: float, steps: list[float]) -> None:
    assert drawing.axis_ticks(highest) == steps


def test_numbers_are_short() -> None:
    assert [drawing.short(n) for n in (0, 950, 1_000, 1_500, 20_000, 2_500_000)] == [
        "0",
        "950",
        "1k",
        "1.5k",
        "20k",
        "2.5M",
    ]


class Ticks:
    """A stopwatch that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def report_maker(ticks: Ticks, took_s: float, outcomes: Iterator[Any]) -> Callable[[], Any]:
    """A function that takes `took_s`, and returns or raises the next outcome."""

    def make() -> Any:
        ticks.now += took_s
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return make


def test_the_longer_a_report_takes_the_longer_it_is_cached() -> None:
    for took_s in (0.0, 1.0):
        ticks = Ticks()
        report = CachedReport("report", report_maker(ticks, took_s, iter(range(9))), ticks)
        cached_for_s = max(CACHED_FOR_S, CACHE_FACTOR * took_s)
        assert report.result(5).value == 0
        ticks.now += cached_for_s - 0.1
        assert report.result(5).value == 0
        ticks.now += 0.1
        assert report.result(5).value == 1


def test_a_failed_report_is_soon_made_again() -> None:
    ticks = Ticks()
    outcomes = iter([StoreUnavailable("db: away"), RuntimeError("secret"), 3])
    report = CachedReport("report", report_maker(ticks, 5.0, outcomes), ticks)
    assert report.result(5).error == "db: away"
    ticks.now += FAILURE_CACHED_FOR_S
    assert report.result(5).error == "it failed; the service's log says why"
    ticks.now += FAILURE_CACHED_FOR_S
    assert report.result(5).value == 3


def test_while_a_report_hangs_the_latest_result_is_shown() -> None:
    ticks, go = Ticks(), Event()
    outcomes = iter([1, 2])

    def make() -> int:
        outcome = next(outcomes)
        if outcome == 2:
            go.wait(20)
        return outcome

    report = CachedReport("report", make, ticks)
    try:
        assert report.result(5).value == 1
        ticks.now += CACHED_FOR_S
        latest = report.result(0.05)
        assert (latest.value, latest.late) == (1, True), "the latest result, which is marked as old"
    finally:
        go.set()
    eventually(lambda: report.result(5).value == 2, "the new report is ready")


def test_a_first_report_that_hangs_is_an_error() -> None:
    go = Event()
    report: CachedReport[bool] = CachedReport("report", lambda: go.wait(20))
    try:
        assert "no answer within" in str(report.result(0.05).error)
    finally:
        go.set()


def test_without_time_left_a_report_is_not_made() -> None:
    calls: list[int] = []
    report: CachedReport[None] = CachedReport("report", lambda: calls.append(1))
    assert "wasn't asked for" in str(report.result(0).error)
    report.result(5)
    assert calls == [1]


def test_threads_that_ask_at_once_make_one_report() -> None:
    calls: list[int] = []
    report: CachedReport[None] = CachedReport("report", lambda: calls.append(1))
    threads = [Thread(target=report.result, args=(10,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert calls == [1]


def test_reports_share_the_time_of_a_page() -> None:
    ticks = Ticks()
    deadline = Deadline(8, ticks)
    ticks.now += 3
    assert deadline.left_s == 5
    ticks.now += 9
    assert deadline.left_s == 0


def test_the_reasons_name_the_reports_that_failed() -> None:
    verdict = verdict_of(replace(STATUS, types=failed(), sweeps=failed()), [], [], OWN, START)
    assert verdict == ("warning", ["not known: keys by type, sweeps"])
