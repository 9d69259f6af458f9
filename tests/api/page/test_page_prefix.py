"""The status page behind a proxy that serves it under a path prefix: forms, redirects and links stay below it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import pytest

from tests.api.page.browser import CHROMIUM, chromium
from tests.api.page.page_site import BROWSER, Site, serving_site
from tests.api.page.prefix_proxy import PREFIX, serving_below_prefix
from tests.api.page.test_page_browser import fill

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page_prefix")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service with 30 companies, addressed through the proxy."""
    folder = tmp_path_factory.mktemp("site")
    store_url = f"sqlite:///{folder}/k.db"
    fill(store_url, 30)
    with serving_site(folder, store_url) as site, serving_below_prefix(site.url) as root:
        yield replace(site, url=root)


def test_every_redirect_and_link_stays_below_the_prefix(site: Site) -> None:
    answer = site.ask(PREFIX, BROWSER)
    form_at = urljoin(site.url, answer.headers["location"])
    assert (answer.status, urlsplit(form_at).path) == (303, f"{PREFIX}sign-in")
    admin = {**BROWSER, "Authorization": f"Bearer {site.admin}"}
    for path in ("", "sign-in", "help", "?search=bot&page=2", "no/such/page"):
        page = site.ask(PREFIX + path, admin).body
        at = urljoin(site.url, path)
        for address in re.findall(r'(?:href|action)="([^"]*)"', page):
            if not address.startswith("data:"):
                target = urlsplit(urljoin(at, address))
                assert target.path.startswith(PREFIX), (path, address)
                assert site.ask(target.path, admin).status in (200, 405), (path, address)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_signs_in_searches_and_signs_out_below_the_prefix(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(site.url)
        assert browser.js("location.pathname") == f"{PREFIX}sign-in"
        browser.type_into("#token", site.admin)
        browser.press("Enter", navigates=True)
        assert browser.js("location.pathname") == PREFIX
        browser.tab_to("#search")
        browser.type("bot001")
        browser.press("Enter", navigates=True)
        assert browser.js("location.pathname + location.search") == f"{PREFIX}?search=bot001"
        assert browser.text(".pager span") == "1–10 of 10"
        browser.tab_to("button.plain")
        browser.press("Enter", navigates=True)
        assert browser.js("location.pathname") == f"{PREFIX}sign-in"
        assert browser.errors == []
