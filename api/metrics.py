"""`/metrics`, in Prometheus' text format; `deploy/grafana.json` draws all of it.

Gauges are made from the reports of `api.reports`, which are cached, so that every worker gives the same numbers. Each
worker counts its own requests. With several workers prometheus-client adds the counts up: each keeps its own in a file
of a common folder, which `api/workers/supervisor.py` creates and names in PROMETHEUS_MULTIPROC_DIR. A worker that
replaces another goes on with its counts.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import falcon
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.access_log import FinishedRequest
from api.reports import Alerts, CachedReport, CachedReports, Deadline
from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import LoadTime

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods counted by name. Others are counted as one, so that a stranger can't create any number of series."""

FORECAST_DAYS = (1, 7, 30)
VERDICTS = ("ok", "warning", "critical")

T = TypeVar("T")


def share_counts(worker: int) -> None:
    """Keep the counts in files with the worker's number, which a worker that replaces it takes over.

    By default their names have the process's id, so each death would leave some behind. Called before `RequestCounts`.
    """
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]


class RequestCounts:
    """Counts finished requests and their durations; `observe` is called by `api/app.py`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        labels = ["route", "method", "status"]
        description = "Requests answered, by route, method and status."
        self._requests = Counter("keystore_http_requests", description, labels, registry=self._registry)
        name, description = "keystore_http_request_seconds", "Duration of a request in the service."
        self._seconds = Histogram(name, description, ["route"], buckets=BUCKETS_S, registry=self._registry)
        # A look-up of labels costs more than the counting; there are a few dozen of these.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, request: FinishedRequest) -> None:
        """Count a request."""
        key = (request.route, request.method, request.status)
        counter = self._counters.get(key)
        if counter is None:
            method = request.method if request.method in METHODS else "other"
            counter = self._requests.labels(request.route, method, str(request.status))
            if method != "other":
                self._counters[key] = counter
        counter.inc()
        histogram = self._histograms.get(request.route)
        if histogram is None:
            histogram = self._histograms[request.route] = self._seconds.labels(request.route)
        histogram.observe(request.took_ms / 1000)

    def registry(self) -> CollectorRegistry:
        """Return the counts of all workers, or of this worker if it is the only one."""
        if values.ValueClass is values.MutexValue:
            return self._registry
        summed = CollectorRegistry()
        MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return summed


class _DatabaseGauges(Collector):
    """Collects the reports as gauges."""

    def __init__(self, reports: CachedReports, version: str) -> None:
        self._reports = reports
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Return nothing: without this method the registry would collect, and ask the database, at start."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of every report, and for each report whether it is there and how old it is."""
        deadline, reports = Deadline(), self._reports
        up: dict[str, bool] = {}
        ages_s: dict[str, float] = {}

        def gauges(report: CachedReport[T], gauges_of: Callable[[T], Iterator[Metric]]) -> Iterator[Metric]:
            result = report.result(deadline.left_s)
            up[report.name] = result.value is not None
            ages_s[report.name] = (datetime.now(UTC) - result.at).total_seconds()
            if result.value is not None:
                yield from gauges_of(result.value)

        yield _by_label("keystore_build_info", "The version that runs.", "version", {self._version: 1})
        yield from gauges(reports.alerts, _alerts)
        yield from gauges(reports.events, _events)
        yield from gauges(reports.load, _load)
        yield from gauges(reports.check, _check)
        yield from gauges(reports.types, _types)
        yield from gauges(reports.growth, _growth)
        yield _by_label("keystore_report_up", "1 if the database gave this report, else 0.", "report", up)
        yield _by_label("keystore_report_age_seconds", "Age of this report.", "report", ages_s)


class MetricsResource:
    """Serves the metrics of the database and of the requests, to admins."""

    def __init__(self, reports: CachedReports, counts: RequestCounts, version: str) -> None:
        self._counts = counts
        self._registry = CollectorRegistry()
        self._registry.register(_DatabaseGauges(reports, version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with all metrics; a report that doesn't come in time is missing, and `keystore_report_up` is 0."""
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.data = generate_latest(self._registry) + generate_latest(self._counts.registry())


def _check(report: CheckReport) -> Iterator[Metric]:
    by_state = {
        "active": report.active,
        "expired": report.expired,
        "guarded": report.guarded,
        "without_expiry": report.without_expiry,
    }
    last_activity_s = None if report.last_activity_at is None else report.last_activity_at.timestamp()
    verdicts = {verdict: verdict == report.verdict for verdict in VERDICTS}
    yield Gauge("keystore_keys", "Keys in the table.", report.total)
    states = "All keys as active, expired or guarded; without_expiry counts a part of the active ones once more."
    yield _by_label("keystore_keys_by_state", states, "state", by_state)
    yield Gauge("keystore_companies", "Companies with creds or keys.", report.companies)
    yield Gauge("keystore_size_bytes", "Size of the tables.", report.size_bytes)
    rewritten = "Unused pre-keys overwritten with another value in 7 days: two processes on one account."
    yield Gauge("keystore_pre_keys_rewritten_7d", rewritten, report.pre_keys_rewritten_7d)
    unreadable = "Values that can't be read, at most 20 of each company."
    yield Gauge("keystore_unreadable_values", unreadable, len(report.unreadable))
    yield _by_label("keystore_verdict", "1 for the check's verdict, 0 for the others.", "verdict", verdicts)
    yield Gauge("keystore_last_activity_timestamp_seconds", "Time of the last write of a key.", last_activity_s)
    ended_s = deleted = took_s = None
    run = report.last_sweep
    if run is not None and run.finished_at is not None:
        ended_s, deleted, took_s = run.finished_at.timestamp(), run.deleted, run.took_ms / 1000
    yield Gauge("keystore_last_sweep_timestamp_seconds", "End of the latest sweep without an error.", ended_s)
    yield Gauge("keystore_last_sweep_deleted", "Keys that the latest sweep without an error deleted.", deleted)
    yield Gauge("keystore_last_sweep_seconds", "Duration of the latest sweep without an error.", took_s)


def _types(report: TypesReport) -> Iterator[Metric]:
    totals = {count.key_type: count.total for count in report.types}
    yield _by_label("keystore_keys_by_type", "Keys by type.", "key_type", totals)


def _growth(report: GrowthReport) -> Iterator[Metric]:
    expected = [] if report.forecast is None else [(days, report.forecast.keys_at(days)) for days in FORECAST_DAYS]
    keys = {
        (str(days), bound): total
        for days, totals in expected
        for bound, total in zip(("low", "expected", "high"), totals, strict=True)
    }
    description = "Keys expected in this many days; nine in ten outcomes should lie between low and high."
    yield _gauge("keystore_forecast_keys", description, ("days", "bound"), keys.items())


def _load(load: LoadTime) -> Iterator[Metric]:
    took_s = None if load.company is None else load.took_ms / 1000
    yield Gauge("keystore_load_seconds", "Duration of a load of the largest company's state (at most 16 MiB).", took_s)
    yield Gauge("keystore_load_budget_seconds", "Budget for that load.", load.budget_ms / 1000)


def _alerts(alerts: Alerts) -> Iterator[Metric]:
    by_rule = collections.Counter(alert.rule for alert in alerts.firing)
    yield Gauge("keystore_alerts", "Alerts that fire.", len(alerts.firing))
    yield _by_label("keystore_alerts_by_rule", "Alerts that fire, by rule.", "rule", by_rule)
    yield Gauge("keystore_muted", "1 if alerts are muted, else 0.", alerts.muted_until is not None)


def _events(events: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    description = "Events of keys in the last 24 hours."
    yield _gauge("keystore_key_events_24h", description, ("key_type", "event"), events.items())


def _by_label(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one label, from its values by that label."""
    return _gauge(name, description, (label,), [((text,), value) for text, value in values.items()])


def _gauge(name: str, description: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = Gauge(name, description, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, float(value))
    return family
