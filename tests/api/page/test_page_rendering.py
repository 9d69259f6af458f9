"""The status page as a function of its reports: the verdict, escaping, pictures, and what fails in its place."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest

from api.page import drawing
from api.page.rendering import PAGE_COMPANIES, Status, listing, sign_in_page, status_page, verdict_of
from api.reports import ALERTS as ALERTS_NOTE
from api.reports import FAILURE_KEPT_FOR_S, KEPT_FOR_S, SHARE, Alerts, CachedReport, Deadline, Firing, ReportResult
from keystore.errors import StoreUnavailable
from keystore.records import CompanyLease, CompanyPage, CompanySeen
from monitor.alerts import watch
from monitor.reports.load_time import LoadTime
from rig.fixtures.clock import START, eventually
from tests.monitor.sample_censuses import run
from tests.monitor.sample_reports import CHECK, FORECAST, GROWTH, LOAD, OUTCOMES, TYPES, without_forecast

HOSTILE = "<script>alert('1')</script>\"'&"
CALM = Alerts((), None)


def answer(value: Any) -> ReportResult[Any]:
    """A report that came."""
    return ReportResult(value, None, START)


def failed(error: str = "db.example: no answer within 7 s") -> ReportResult[Any]:
    """One that didn't."""
    return ReportResult(None, error, START)


def company(number: int, holder: str | None = None) -> CompanySeen:
    """A company, with a lease where it has a holder."""
    lease = None if holder is None else CompanyLease(f"c{number}", holder, 7, START + timedelta(seconds=40))
    return CompanySeen(f"c{number}", number, START - timedelta(minutes=number), lease)


STATUS = Status(
    database="postgresql://db.example/bots",
    check=answer(replace(CHECK, advice=())),
    types=answer(TYPES),
    growth=answer(replace(GROWTH, outcomes=OUTCOMES)),
    load=answer(LOAD),
    sweeps=answer([run(timedelta(hours=6 * n), deleted=30 * n, error="lost" if n == 3 else None) for n in range(9)]),
    alerts=answer(CALM),
    companies=answer(CompanyPage(3, (company(1, "host:1"), company(2), company(3)))),
)


def shown(*, search: str = "", **changes: Any) -> str:
    """The page with these reports instead."""
    return status_page(replace(STATUS, **changes), search, 1, START)


def firing(rule: str, detail: str = "it is so", subject: str = "") -> Firing:
    """An alert of half an hour ago."""
    return Firing(rule, subject, START - timedelta(minutes=30), detail)


def head(page: str) -> str:
    """The verdict's line."""
    found = re.search(r'<h2 id="verdict-head">(.*?)</h2>', page)
    assert found is not None
    return found[1]


def test_the_verdict_is_the_first_thing_and_the_worst_of_all() -> None:
    assert head(shown()) == "✓ All is well"
    assert head(shown(load=answer(replace(LOAD, took_ms=750.1)))) == "! Needs a look"
    assert head(shown(alerts=answer(Alerts((firing("pre-keys"),), None)))) == "! Needs a look"
    assert head(shown(alerts=answer(Alerts((firing("pre-keys"), firing("sweeper")), None)))) == "✕ Needs you now"
    assert head(shown(check=answer(replace(CHECK, verdict="critical")))) == "✕ Needs you now"
    assert head(shown(check=failed())) == "? Can&#39;t tell"
    page = shown()
    assert page.index("verdict-head") < page.index("alerts-head") < page.index("types-head")


@pytest.mark.parametrize("report", ["check", "types", "growth", "load", "sweeps", "alerts", "companies"])
def test_a_report_that_fails_says_so_in_its_place_and_the_rest_stands(report: str) -> None:
    page = shown(**dict[str, Any]({report: failed("<b>no</b> answer")}))
    assert page.count("Not known: &lt;b&gt;no&lt;/b&gt; answer") == 1
    assert head(page) != "✓ All is well"
    others = {
        "types": "pre-key",
        "growth": "nine in ten outcomes",
        "load": "123.4 ms",
        "sweeps": "failed: lost",
        "alerts": "Nothing fires.",
        "companies": "host:1",
    }
    for other, said in others.items():
        assert (said in page) == (other != report), other


def test_whatever_a_report_holds_is_text() -> None:
    page = shown(
        search=HOSTILE,
        database=HOSTILE,
        check=answer(replace(CHECK, advice=(f"run `{HOSTILE}`", HOSTILE))),
        types=answer(replace(TYPES, types=tuple(replace(one, key_type=HOSTILE) for one in TYPES.types))),
        growth=answer(replace(without_forecast(), forecast_waits_for=HOSTILE)),
        load=answer(LoadTime(HOSTILE, 1, 1.0, 2.0)),
        sweeps=answer([run(timedelta(hours=n), error=HOSTILE) for n in range(4)]),
        alerts=answer(Alerts((firing(HOSTILE, HOSTILE, HOSTILE),), None)),
        companies=answer(CompanyPage(900, (replace(company(1, HOSTILE), company_id=HOSTILE),))),
    )
    assert "<script" not in page
    assert "alert('1')" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "<script" not in sign_in_page(HOSTILE)
    well_formed(page)


def well_formed(page: str) -> None:
    """Fails unless every element of the body is closed where it should be; pages are written so that XML reads them."""
    body = re.sub(r"<(input|br|meta|link)\b([^<>]*?)(?<!/)>", r"<\1\2/>", page.partition("<body>")[2])
    body = re.sub(r" (required|autofocus|hidden)(?=[ />])", r' \1=""', body)
    ET.fromstring(f"<body>{body.partition('</body>')[0]}</body>")  # noqa: S314  it is ours


def test_every_page_is_well_formed() -> None:
    well_formed(shown())
    well_formed(shown(growth=answer(without_forecast()), sweeps=answer([]), companies=answer(CompanyPage(0, ()))))
    well_formed(sign_in_page())
    well_formed(sign_in_page("no"))


def test_an_alert_says_how_bad_it_is_and_since_when_and_the_worst_comes_first() -> None:
    page = shown(alerts=answer(Alerts((firing("pre-keys", "2 left", "962302"), firing("sweeper")), START)))
    told = re.sub(r"<[^>]+>", " ", page[page.index('<ul class="alerts">') : page.index("counts-head")])
    assert " ".join(told.split()).startswith(
        "sweeper critical, 30 min ago it is so pre-keys 962302 warning, 30 min ago 2 left"
    )
    assert "Muted until 2025-10-08 09:41 UTC" in page


def test_a_storm_of_alerts_is_told_as_a_number() -> None:
    page = shown(alerts=answer(Alerts(tuple(firing("pre-keys", subject=f"c{n}") for n in range(500)), None)))
    assert page.count('<li class="warning">') == 20
    assert "… and 480 more" in page
    assert "500 alerts below" in page


def test_the_page_names_the_note_that_the_watch_writes() -> None:
    assert ALERTS_NOTE == watch.ALERTS


def test_companies_are_paged_and_the_search_is_kept() -> None:
    many = CompanyPage(1_000, tuple(company(n) for n in range(PAGE_COMPANIES)))
    first, middle = listing(many, "", 1), listing(many, "a b&c", 3)
    assert (first.previous, first.next, first.first, first.last) == (None, "/?page=2#companies", 1, PAGE_COMPANIES)
    assert middle.previous == "/?search=a+b%26c&page=2#companies"
    assert middle.next == "/?search=a+b%26c&page=4#companies"
    last = listing(CompanyPage(1_000, many.companies[:1]), "", 40)
    assert (last.previous, last.next) == ("/?page=39#companies", None)
    beyond = listing(CompanyPage(30, ()), "", 900)
    assert beyond.previous == "/?page=2#companies"
    assert listing(CompanyPage(0, ()), "", 1).previous is None
    assert listing(None, "", 2).next is None


def numbers(picture: str, kind: str, name: str) -> list[float]:
    """The coordinates in the first path of a class."""
    found = re.search(rf'<{kind} class="{name}"[^>]* d="([^"]+)"', picture)
    assert found is not None
    return [float(number) for number in re.findall(r"-?[\d.]+", found[1])]


def test_the_growth_picture_joins_what_was_counted_to_the_forecast_within_its_band() -> None:
    picture = str(drawing.growth(GROWTH.history, GROWTH.total, START, FORECAST))
    ET.fromstring(picture)  # noqa: S314  it is ours
    counted, expected, band = (numbers(picture, "path", name) for name in ("counted", "expected", "band"))
    assert counted[-2:] == expected[:2], "the forecast begins where the counts end"
    assert all(x <= y for x, y in zip(counted[:-2:2], counted[2::2], strict=True)), "time goes to the right"
    upper, lower = band[1 : len(band) // 2 : 2], list(reversed(band[len(band) // 2 + 1 :: 2]))
    assert all(high <= middle <= low for high, middle, low in zip(upper, expected[1::2], lower, strict=True))
    for x, y in zip(band[::2], band[1::2], strict=True):
        assert drawing.LEFT <= x <= drawing.WIDTH
        assert 0 <= y <= drawing.HEIGHT - drawing.BOTTOM
    assert "In 30 days about 2,028 are expected, 1,901 to 2,154." in picture


def test_pictures_of_nothing_are_left_out() -> None:
    assert drawing.growth((), 0, START, None) is None
    assert drawing.growth(GROWTH.history[:1], 1, START, None) is None
    assert drawing.sweeps([run(timedelta(0))]) is None
    assert str(drawing.sparkline([3], "")) == ""


def test_a_picture_without_a_forecast_ends_now() -> None:
    picture = str(drawing.growth(GROWTH.history, 0, START, None))
    assert "expected" not in picture
    assert ">now</text>" in picture


def test_the_load_bar_turns_beyond_the_budget() -> None:
    assert 'class="within"' in drawing.against_budget(750.0, 750.0)
    assert 'class="over"' in drawing.against_budget(750.1, 750.0)
    far = str(drawing.against_budget(60_000, 750))
    assert max(float(width) for width in re.findall(r'width="([\d.]+)"', far)) <= 480


def test_a_type_s_bar_adds_up_and_stays_in_its_frame() -> None:
    bar = str(drawing.share([("active", 999_999), ("expired", 1), ("guarded", 0)], 1_000_000, "session"))
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
    assert drawing.ticks(highest) == steps


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


def asked(ticks: Ticks, took_s: float, outcomes: Iterator[Any]) -> Callable[[], Any]:
    """A report that takes so long, and gives or raises these."""

    def ask() -> Any:
        ticks.now += took_s
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return ask


def test_a_report_is_kept_the_longer_the_longer_it_took() -> None:
    for took_s in (0.0, 1.0):
        ticks = Ticks()
        kept = CachedReport("report", asked(ticks, took_s, iter(range(9))), ticks)
        kept_for_s = max(KEPT_FOR_S, SHARE * took_s)
        assert kept.answer(5).value == 0
        ticks.now += kept_for_s - 0.1
        assert kept.answer(5).value == 0
        ticks.now += 0.1
        assert kept.answer(5).value == 1


def test_a_failure_is_soon_tried_again_however_long_it_took() -> None:
    ticks = Ticks()
    outcomes = iter([StoreUnavailable("db: away"), RuntimeError("secret"), 3])
    kept = CachedReport("report", asked(ticks, 5.0, outcomes), ticks)
    assert kept.answer(5).error == "db: away"
    ticks.now += FAILURE_KEPT_FOR_S
    assert kept.answer(5).error == "it failed; the service's log says why"
    ticks.now += FAILURE_KEPT_FOR_S
    assert kept.answer(5).value == 3


def test_a_report_that_hangs_comes_as_it_was_and_is_there_once_it_is_made() -> None:
    ticks, go = Ticks(), Event()
    outcomes = iter([1, 2])

    def ask() -> int:
        outcome = next(outcomes)
        if outcome == 2:
            go.wait(20)
        return outcome

    kept = CachedReport("report", ask, ticks)
    try:
        assert kept.answer(5).value == 1
        ticks.now += KEPT_FOR_S
        assert kept.answer(0.05).value == 1, "as it was"
    finally:
        go.set()
    eventually(lambda: kept.answer(5).value == 2, "the report is there")


def test_a_first_report_that_hangs_is_an_error() -> None:
    go = Event()
    kept: CachedReport[bool] = CachedReport("report", lambda: go.wait(20))
    try:
        assert "no answer within" in str(kept.answer(0.05).error)
    finally:
        go.set()


def test_with_no_time_left_a_report_isn_t_asked_for() -> None:
    calls: list[int] = []
    kept: CachedReport[None] = CachedReport("report", lambda: calls.append(1))
    assert "wasn't asked for" in str(kept.answer(0).error)
    kept.answer(5)
    assert calls == [1]


def test_many_who_ask_at_once_make_one_question() -> None:
    calls: list[int] = []
    kept: CachedReport[None] = CachedReport("report", lambda: calls.append(1))
    threads = [Thread(target=kept.answer, args=(10,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert calls == [1]


def test_reports_share_the_time_that_a_page_may_take() -> None:
    ticks = Ticks()
    within = Deadline(8, ticks)
    ticks.now += 3
    assert within.left_s == 5
    ticks.now += 9
    assert within.left_s == 0


def test_the_reasons_name_what_isn_t_known() -> None:
    verdict = verdict_of(replace(STATUS, types=failed(), sweeps=failed()), [])
    assert (verdict.level, verdict.reasons) == ("warning", ("not known: keys by type, sweeps",))
