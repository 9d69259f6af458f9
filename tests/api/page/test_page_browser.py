"""The status page in a real browser: with 0, 1 and 1,000 companies, by keyboard, on a phone, in dark colours."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore import open_store
from keystore.records import KeyRow
from monitor.alerts.memory import BotMemory, report_memory
from monitor.alerts.rules import SILENT_AFTER
from monitor.upkeep.demo import seed
from rig.waiting import eventually
from tests.api.page.browser import CHROMIUM, DESK, PHONE, Browser, chromium
from tests.api.page.page_site import Site, serving_site

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
    pytest.mark.slow,
    pytest.mark.xdist_group("page_browser"),
]

HOSTILE_HOLDER = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
"""A lease holder's name that would run scripts if the page didn't escape it."""

POOR_CONTRAST_JS = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();
  const rgba = colour => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const linear = channel => (channel /= 255) <= .04045 ? channel / 12.92 : ((channel + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const backgroundOf = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!hasText || element.tagName === 'title' || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const text = luminance(rgba(element.closest('svg') ? style.fill : style.color));
    const background = luminance(backgroundOf(element));
    const contrast = (Math.max(text, background) + .05) / (Math.min(text, background) + .05);
    if (contrast < 4.5) poor.push(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
  }
  return poor;
})()"""
"""JavaScript that returns the texts with a contrast below 4.5, which WCAG AA requires of normal text."""

UNNAMED_ELEMENTS_JS = """(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  return [
    ...all('input').filter(e => !e.hidden && !e.labels.length),
    ...all('svg').filter(e => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label')),
    ...all('th').filter(e => !e.scope || !e.textContent.trim()),
    ...all('section').filter(e => !document.getElementById(e.getAttribute('aria-labelledby'))),
    ...all('a, button').filter(e => !e.textContent.trim()),
  ].map(e => e.outerHTML);
})()"""
"""JavaScript that returns the elements without a name, which a screen reader can't announce."""


def fill(store_url: str, companies: int) -> None:
    """Fill a database. One company is `demo`, with HTML as the holder of its lease; every other company has one key."""
    if not companies:
        return
    with open_store(store_url) as store:
        seed(store, "demo")
        now = datetime.now(UTC)
        row = KeyRow("session", "a", b"{}", now, now, now + timedelta(days=7))
        for number in range(companies - 1):
            store.restore_rows(f"bot{number:04}", [row])
        store.lease_company("demo", HOSTILE_HOLDER, 3_600)


@pytest.fixture(scope="module", params=[0, 1, 1_000], ids=lambda companies: f"{companies} companies")
def companies(request: pytest.FixtureRequest) -> int:
    """The number of companies."""
    return int(request.param)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, companies: int) -> Iterator[Site]:
    """The service with this number of companies."""
    folder = tmp_path_factory.mktemp("site")
    store_url = f"sqlite:///{folder}/k.db"
    fill(store_url, companies)
    with serving_site(folder, store_url) as site:
        site.service.logged("sweep_finished")
        yield site


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all tests in this file."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """The browser, signed out."""
    shared_browser.forget()
    shared_browser.set_screen(DESK)
    return shared_browser


def sign_in(browser: Browser, site: Site) -> None:
    """Sign in as an operator does: type the token, press Enter."""
    browser.open(f"{site.url}/")
    assert browser.js("location.pathname") == "/sign-in"
    browser.type_into("#token", site.admin)
    browser.press("Enter", navigates=True)
    assert browser.js("location.pathname") == "/"


def test_the_page_shows_its_sections_and_logs_no_error(browser: Browser, site: Site, companies: int) -> None:
    sign_in(browser, site)
    headings = browser.js("[...document.querySelectorAll('h2')].map(e => e.textContent.trim())")
    assert headings[0][2:] == ("Needs a look" if companies else "Welcome"), "without the sign and the space"
    counts = ["Counts", "Keys by type", "Sweeps", "Growth", "Load time"] if companies else []
    assert headings[1:] == ["Alerts", *counts, "Companies"]
    listed_companies = browser.js("[...document.querySelectorAll('.companies tbody th')].map(e => e.textContent)")
    expected = [*(f"bot{number:04}" for number in range(companies - 1)), *(["demo"] if companies else [])]
    assert listed_companies == expected[:25]
    assert browser.js("document.querySelectorAll('.problem').length") == 0
    assert browser.errors == []
    assert "`" not in browser.js("document.body.innerText"), "commands are shown as code"
    elsewhere = [url for url in browser.requested if not url.startswith((f"{site.url}/", "data:"))]
    assert elsewhere == []


def test_a_wrong_token_is_refused_with_a_reason(browser: Browser, site: Site) -> None:
    browser.open(f"{site.url}/sign-in")
    browser.type_into("#token", f"{site.admin}x")
    browser.press("Enter", navigates=True)
    assert browser.text("[role=alert]") == "This token isn't known, has expired or was revoked."
    browser.open(f"{site.url}/")
    assert browser.js("location.pathname") == "/sign-in"


def test_search_paging_and_signing_out_work_by_keyboard(browser: Browser, site: Site, companies: int) -> None:
    sign_in(browser, site)
    browser.tab_to("#search")
    browser.type("demo")
    browser.press("Enter", navigates=True)
    listed_companies = browser.js("[...document.querySelectorAll('.companies tbody th')].map(e => e.textContent)")
    assert listed_companies == (["demo"] if companies else [])
    if companies:
        assert HOSTILE_HOLDER in browser.text(".companies tbody td:last-child")
        assert browser.js("document.querySelectorAll('img, script').length") == 0
    if companies > 25:
        browser.tab_to("#companies form a")  # Show all.
        browser.press("Enter", navigates=True)
        browser.tab_to("th a[href*='order=keys']")
        browser.press("Enter", navigates=True)
        assert browser.text(".companies tbody th") == "demo", "the one with the most keys"
        browser.tab_to("th a[href='./#companies']")
        browser.press("Enter", navigates=True)
        browser.tab_to("a[rel=next]")
        browser.press("Enter", navigates=True)
        assert browser.text(".companies tbody th") == "bot0025"
        assert browser.text(".pager span") == "26–50 of 1,000"
    browser.tab_to("button.plain")  # Sign out.
    browser.press("Enter", navigates=True)
    assert browser.js("location.pathname") == "/sign-in"
    browser.open(f"{site.url}/")
    assert browser.js("location.pathname") == "/sign-in"
    assert browser.errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_texts_are_legible_and_elements_are_named(
    browser: Browser, site: Site, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    browser.set_screen(size, dark=dark)
    for path in ("/sign-in", "/help", "/nothing", "/"):
        if path == "/":
            sign_in(browser, site)
        else:
            browser.open(f"{site.url}{path}")
        with browser.pictured_on_failure(tmp_path / f"page{path.replace('/', '-')}.png"):
            assert browser.js("document.documentElement.scrollWidth") <= size[0]
            assert browser.js(POOR_CONTRAST_JS) == []
            assert browser.js(UNNAMED_ELEMENTS_JS) == []
            assert browser.js("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("companies", [1], indirect=True, scope="module")
def test_the_page_loads_itself_again_and_keeps_its_place(browser: Browser, site: Site) -> None:
    sign_in(browser, site)
    browser.set_screen(PHONE)
    loaded = "window.before === undefined && document.readyState"
    for chosen in ("?refresh=5", "?search=demo&refresh=5#companies"):
        browser.open(f"{site.url}/{chosen}")
        browser.js("window.scrollTo(0, document.getElementById('companies').offsetTop)")
        for _ in range(2 if "#" in chosen else 1):
            browser.js("window.before = true")
            eventually(lambda: browser.js(loaded) == "complete", "it is loaded again")
            assert browser.js("location.search + location.hash").replace("&again=1", "") == chosen
            assert browser.js("window.scrollY") > 500, "the reader isn't sent to the top"
    browser.open(f"{site.url}/sign-in")
    assert browser.js("document.querySelector('meta[http-equiv]')") is None, "a form is left in peace"


@pytest.mark.parametrize("companies", [1], indirect=True, scope="module")
def test_a_page_that_is_not_loaded_again_marks_itself_as_old(browser: Browser, site: Site) -> None:
    sign_in(browser, site)
    look = "getComputedStyle(document.querySelector('.stale')).visibility"
    assert browser.js(look) == "hidden"
    (delay_ms,) = browser.js("document.getAnimations().map(each => each.effect.getTiming().delay)")
    browser.js(f"document.getAnimations()[0].currentTime = {delay_ms} - 1000")
    assert browser.js(look) == "hidden"
    browser.js(f"document.getAnimations()[0].currentTime = {delay_ms} + 1000")
    assert browser.js(look) == "visible"
    assert browser.text(".stale").startswith("✕ Old: this page shows ")


def test_bots_are_on_the_page_and_a_silent_one_stands_out(browser: Browser, tmp_path: Path) -> None:
    store_url = f"sqlite:///{tmp_path}/k.db"
    memory = BotMemory(100_000_000, 120_000_000, 400_000_000, 180_000_000)
    earlier = datetime.now(UTC) - SILENT_AFTER - timedelta(minutes=1)
    with open_store(store_url, clock=lambda: earlier) as store:
        for company in ("alive", "silent"):
            store.set(company, {"session": {"a": b"{}"}})
            report_memory(store, company, memory)
    with open_store(store_url) as store:
        report_memory(store, "alive", memory)
        store.lease_company("alive", "node-1", 3_600)
    with serving_site(tmp_path, store_url, KEYSTORE_NAME="shop", KEYSTORE_TIMEZONE="Asia/Tokyo") as site:
        site.service.logged("alerting_taken_over")
        sign_in(browser, site)
        bots = browser.js("[...document.querySelectorAll('.bots tbody tr')].map(e => e.innerText)")
        assert [bot.split()[:3] for bot in bots] == [["silent", "✕", "silent"], ["alive", "✓", "alive"]]
        assert "25% of 400.0 MB" in bots[1]
        assert "JST" in bots[1]
        rows = browser.js("[...document.querySelectorAll('.companies tbody tr')].map(e => [e.className, e.innerText])")
        assert [row[0] for row in rows] == ["", "warning"]
        assert "node-1" in rows[0][1]
        assert browser.text("#verdict-head") == "! Needs a look"
        assert "1 bot is silent: silent" in browser.text("#verdict")
        assert browser.text("h1") == "Signal Keystore · shop"
        assert "sends the alerts" in browser.text(".facts")
        browser.set_screen(PHONE)
        assert browser.js("document.documentElement.scrollWidth") <= PHONE[0]
        assert browser.js(POOR_CONTRAST_JS) == []
