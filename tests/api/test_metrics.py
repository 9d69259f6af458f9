"""`/metrics`: what it exposes, that the board draws nothing else, and that workers' counts add up."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import falcon
import psutil
import pytest
from falcon import testing
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.finished_request import FinishedRequest
from api.metrics import Metrics, RequestCounts
from api.reports import CachedReport, CachedReports
from keystore import Store, open_store
from keystore.errors import StoreUnavailable
from monitor.alerts.decisions import AlertState, Standing
from monitor.alerts.mute import set_mute
from monitor.alerts.stored_state import write_state
from monitor.upkeep.demo import seed
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import START, eventually
from rig.paths import PROJECT
from tests.api.page.site import Site, serving_site
from tests.monitor.sample_reports import FORECAST, GROWTH

SETTINGS = WatchSettings(sweep_every_s=3_600)
BOARD = PROJECT / "deploy" / "grafana.json"
SEEN = FinishedRequest(
    route="/v1/companies/{company}/state", method="GET", company="1", status=200, took_ms=3.0, request_id="r"
)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """Of one sample."""
    return samples(text)[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service on the diary's data."""
    folder = tmp_path_factory.mktemp("site")
    store_url = f"sqlite:///{folder}/k.db"
    with open_store(store_url) as store:
        seed(store, "demo")
    with serving_site(folder, store_url) as site:
        site.service.logged("sweep_finished")
        yield site


def test_it_tells_what_stands_in_the_database(site: Site) -> None:
    answer = site.as_admin("/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    told = answer.body
    assert value(told, "keystore_keys") == 665
    assert value(told, "keystore_keys_by_state", state="without_expiry") == 609
    assert value(told, "keystore_keys_by_type", key_type="pre-key") == 251
    assert value(told, "keystore_companies") == 1
    assert value(told, "keystore_verdict", verdict="critical") == 1
    assert value(told, "keystore_verdict", verdict="ok") == 0
    assert value(told, "keystore_last_sweep_deleted") == 0
    assert 0 < value(told, "keystore_load_seconds") < value(told, "keystore_load_budget_seconds") == 0.75
    for report in ("check", "types", "growth", "load", "alerts", "events"):
        assert value(told, "keystore_report_up", report=report) == 1
        assert 0 <= value(told, "keystore_report_age_seconds", report=report) < 60


def test_it_counts_requests_by_route_and_never_by_company(site: Site) -> None:
    for company in ("1", "2", "3"):
        assert site.as_admin(f"/v1/companies/{company}/state").status == 200
    site.ask("/wp-login.php")
    told = site.as_admin("/metrics").body
    state = {"route": "/v1/companies/{company}/state", "method": "GET", "status": "200"}
    assert value(told, "keystore_http_requests_total", **state) == 3
    assert value(told, "keystore_http_request_seconds_count", route=state["route"]) == 3
    assert "wp-login" not in told


def test_workers_counts_add_up_and_outlive_them(tmp_path: Path) -> None:
    with serving_site(tmp_path, f"sqlite:///{tmp_path}/k.db", KEYSTORE_HTTP_WORKERS="2") as site:
        for _ in range(20):
            assert site.ask("/healthz").status == 200
        first = psutil.Process(site.service.process.pid).children()
        assert len(first) == 2
        for worker in first:
            worker.kill()
        eventually(lambda: site.ask("/healthz").status == 200, "other workers answer")
        told = site.as_admin("/metrics").body
        assert value(told, "keystore_http_requests_total", route="/healthz", method="GET", status="200") == 21


def test_an_unknown_method_makes_no_series() -> None:
    counts = RequestCounts()
    for number in range(50):
        counts.observe(replace(SEEN, method=f"X{number}"))
    told = generate_latest(counts.registry()).decode()
    labels = {"route": SEEN.route, "status": "200"}
    assert value(told, "keystore_http_requests_total", method="other", **labels) == 50
    assert len(told.splitlines()) < 40


def test_what_is_forecast_and_what_fires_is_told(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db") as store:
        firing = {
            ("pre-keys", f"c{n}"): Standing(START, firing=True, raised_at=START, detail="2 left") for n in range(3)
        }
        write_state(store, AlertState({**firing, ("sweeper", ""): Standing(above_since=START)}))
        set_mute(store, datetime.now(UTC) + timedelta(hours=1))
        figures = CachedReports(lambda: store, SETTINGS)
        figures.growth = CachedReport("growth", lambda: GROWTH)
        told = scraped(figures)
    assert value(told, "keystore_alerts") == value(told, "keystore_alerts_by_rule", rule="pre-keys") == 3
    assert value(told, "keystore_muted") == 1
    low, expected, high = FORECAST.keys_at(7)
    for bound, keys in (("low", low), ("expected", expected), ("high", high)):
        assert value(told, "keystore_forecast_keys", days="7", bound=bound) == keys


def test_what_the_database_doesn_t_tell_is_missing_and_said_to_be() -> None:
    def away() -> Store:
        raise StoreUnavailable("db: away")

    told = scraped(CachedReports(away, SETTINGS))
    assert "\nkeystore_keys " not in told
    for report in ("check", "types", "growth", "load", "alerts", "events"):
        assert value(told, "keystore_report_up", report=report) == 0


def scraped(figures: CachedReports) -> str:
    """What a scrape of these figures gets."""
    app = falcon.App()
    app.add_route("/metrics", Metrics(figures, RequestCounts(), "1"))
    return testing.TestClient(app).simulate_get("/metrics").text


def test_the_board_draws_all_that_is_exposed_and_nothing_else(site: Site) -> None:
    told = site.as_admin("/metrics").body
    exposed = set(re.findall(r"^# TYPE (\w+) ", told, re.MULTILINE))
    histograms = set(re.findall(r"^# TYPE (\w+) histogram", told, re.MULTILINE))
    drawn = set(re.findall(r"\bkeystore_\w+", " ".join(expressions(json.loads(BOARD.read_text(encoding="utf-8"))))))
    assert drawn == exposed - histograms | {f"{name}_bucket" for name in histograms}


def expressions(part: Any) -> Iterator[str]:
    """Every query in a part of the board."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name in ("expr", "query") and isinstance(inner, str):
                yield inner
            else:
                yield from expressions(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from expressions(inner)
