"""`/metrics`: its values, the sum of the workers' counts, and the dashboard that draws all of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import falcon
import psutil
import pytest
from falcon import testing
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.access_log import FinishedRequest
from api.metrics import MetricsResource, RequestCounts
from api.reports import CachedReport, CachedReports
from keystore import Store, open_store
from keystore.errors import StoreUnavailable
from monitor.alerts.decisions import AlertState, Standing
from monitor.alerts.stored_state import set_mute, write_state
from monitor.upkeep.demo import seed
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START
from rig.paths import PROJECT
from rig.waiting import eventually
from tests.api.page.page_site import Site, serving_site
from tests.conformance.flood import flood
from tests.monitor.sample_reports import FORECAST, GROWTH

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("metrics")]

SETTINGS = WatchSettings(sweep_every_s=3_600)
DASHBOARD = PROJECT / "deploy" / "grafana.json"
REQUEST = FinishedRequest(
    route="/v1/companies/{company}/state", method="GET", company="1", status=200, took_ms=3.0, request_id="r"
)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of every sample, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """The value of one sample."""
    return samples(text)[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service on the demo data."""
    folder = tmp_path_factory.mktemp("site")
    store_url = f"sqlite:///{folder}/k.db"
    with open_store(store_url) as store:
        seed(store, "demo")
    with serving_site(folder, store_url) as site:
        site.service.logged("sweep_finished")
        yield site


def test_it_has_the_numbers_of_the_database(site: Site) -> None:
    answer = site.as_admin("/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    text = answer.body
    assert value(text, "keystore_keys") == 665
    assert value(text, "keystore_keys_by_state", state="without_expiry") == 609
    assert value(text, "keystore_keys_by_type", key_type="pre-key") == 251
    assert value(text, "keystore_companies") == 1
    assert value(text, "keystore_verdict", verdict="warning") == 1
    assert value(text, "keystore_verdict", verdict="ok") == 0
    assert value(text, "keystore_last_sweep_deleted") == 0
    assert 0 < value(text, "keystore_load_seconds") < value(text, "keystore_load_budget_seconds") == 0.75
    for report in ("check", "types", "growth", "load", "alerts", "events"):
        assert value(text, "keystore_report_up", report=report) == 1
        assert 0 <= value(text, "keystore_report_age_seconds", report=report) < 60


def test_requests_are_counted_by_route_and_not_by_company(site: Site) -> None:
    for company in ("1", "2", "3"):
        assert site.as_admin(f"/v1/companies/{company}/state").status == 200
    site.ask("/wp-login.php")
    text = site.as_admin("/metrics").body
    state = {"route": "/v1/companies/{company}/state", "method": "GET", "status": "200"}
    assert value(text, "keystore_http_requests_total", **state) == 3
    assert value(text, "keystore_http_request_seconds_count", route=state["route"]) == 3
    assert "wp-login" not in text


def test_counts_of_workers_add_up_and_outlive_them(tmp_path: Path) -> None:
    with serving_site(tmp_path, f"sqlite:///{tmp_path}/k.db", KEYSTORE_HTTP_WORKERS="2") as site:
        for _ in range(20):
            assert site.ask("/healthz").status == 200
        first = psutil.Process(site.service.process.pid).children()
        assert len(first) == 2
        for worker in first:
            worker.kill()
        eventually(lambda: site.ask("/healthz").status == 200, "other workers answer")
        text = site.as_admin("/metrics").body
        assert value(text, "keystore_http_requests_total", route="/healthz", method="GET", status="200") == 21


def test_an_unknown_method_makes_no_series() -> None:
    counts = RequestCounts()
    for number in range(50):
        counts.observe(replace(REQUEST, method=f"X{number}"))
    text = generate_latest(counts.registry()).decode()
    labels = {"route": REQUEST.route, "status": "200"}
    assert value(text, "keystore_http_requests_total", method="other", **labels) == 50
    assert len(text.splitlines()) < 40


def test_forecasts_and_firing_alerts_are_shown(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db") as store:
        firing = {
            ("pre-keys", f"c{n}"): Standing(START, firing=True, raised_at=START, detail="2 left") for n in range(3)
        }
        write_state(store, AlertState({**firing, ("sweeper", ""): Standing(above_since=START)}))
        set_mute(store, datetime.now(UTC) + timedelta(hours=1))
        reports = CachedReports(lambda: store, SETTINGS)
        reports.growth = CachedReport("growth", lambda: GROWTH)
        text = scraped(reports)
    assert value(text, "keystore_alerts") == value(text, "keystore_alerts_by_rule", rule="pre-keys") == 3
    assert value(text, "keystore_muted") == 1
    low, expected, high = FORECAST.keys_at(7)
    for bound, keys in (("low", low), ("expected", expected), ("high", high)):
        assert value(text, "keystore_forecast_keys", days="7", bound=bound) == keys


def test_reports_without_a_database_are_missing_and_not_up() -> None:
    def unavailable() -> Store:
        raise StoreUnavailable("db: away")

    text = scraped(CachedReports(unavailable, SETTINGS))
    assert "\nkeystore_keys " not in text
    for report in ("check", "types", "growth", "load", "alerts", "events"):
        assert value(text, "keystore_report_up", report=report) == 0


def test_twenty_thousand_types_of_a_company_make_few_series(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with open_store(url) as store:
        flood(url, "1", 20_000)
        reports = CachedReports(lambda: store, SETTINGS)
        for name in ("check", "types", "growth", "events"):
            up = ("keystore_report_up", frozenset({("report", name)}))
            eventually(partial(reported, reports, up), f"{name} is there", 60.0)
        text = scraped(reports)
    assert value(text, "keystore_keys") == 20_000
    assert value(text, "keystore_keys_by_type", key_type="other") == 20_000 - 20
    assert len(text) < 30_000


def reported(reports: CachedReports, up: tuple[str, frozenset[tuple[str, str]]]) -> bool:
    """True once a scrape has this report."""
    return samples(scraped(reports))[up] == 1


def scraped(reports: CachedReports) -> str:
    """The text that a scrape of these reports gets."""
    app = falcon.App()
    app.add_route("/metrics", MetricsResource(reports, RequestCounts(), "1"))
    return testing.TestClient(app).simulate_get("/metrics").text


def test_the_dashboard_draws_every_metric_and_no_other(site: Site) -> None:
    text = site.as_admin("/metrics").body
    exposed = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    histograms = set(re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE))
    drawn = set(re.findall(r"\bkeystore_\w+", " ".join(expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))))))
    assert drawn == exposed - histograms | {f"{name}_bucket" for name in histograms}


def expressions(part: Any) -> Iterator[str]:
    """Every query in a part of the dashboard."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name in ("expr", "query") and isinstance(inner, str):
                yield inner
            else:
                yield from expressions(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from expressions(inner)
