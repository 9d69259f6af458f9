"""`/metrics`, in Prometheus' text: what stands in the database, and what was asked of this service.

The first is read from the database (`api.reports`, kept for some seconds), so that every worker says the same.
The second is counted by each worker. With several, prometheus-client adds them up: each keeps its counts in a file of
a common folder, which `api/workers/supervisor.py` makes and names in PROMETHEUS_MULTIPROC_DIR. A worker that dies
leaves its counts there. `deploy/grafana.json` draws all of it.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import falcon
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.finished_request import FinishedRequest
from api.reports import Alerts, CachedReport, CachedReports, Deadline
from keystore.records import SweepRun
from monitor.growth import GrowthReport
from monitor.reports.check import CheckReport
from monitor.reports.key_types import TypesReport
from monitor.reports.load_time import LoadTime

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FORECAST_DAYS = (1, 7, 30)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are one: a stranger's invention makes no series."""

Samples = Iterable[tuple[tuple[str, ...], float]]
T = TypeVar("T")


class RequestCounts:
    """Counts finished requests; `observe` is an observer of `api/app.py`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "keystore_http_requests",
            "Requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "keystore_http_request_seconds",
            "How long a request took in the service.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        # Label look-ups cost more than the counting; there are a few dozen of these.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, seen: FinishedRequest) -> None:
        """Counts one."""
        key = (seen.route, seen.method, seen.status)
        counter = self._counters.get(key)
        if counter is None:
            method = seen.method if seen.method in METHODS else "other"
            counter = self._requests.labels(seen.route, method, str(seen.status))
            if method != "other":
                self._counters[key] = counter
        counter.inc()
        histogram = self._histograms.get(seen.route)
        if histogram is None:
            histogram = self._histograms[seen.route] = self._seconds.labels(seen.route)
        histogram.observe(seen.took_ms / 1000)

    def registry(self) -> CollectorRegistry:
        """The counts of all workers, or of this one where there is only one."""
        if values.ValueClass is values.MutexValue:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together


class Metrics:
    """The route's resource; for admins."""

    def __init__(self, figures: CachedReports, counts: RequestCounts, version: str) -> None:
        self._counts = counts
        self._registry = CollectorRegistry()
        self._registry.register(_OfDatabase(figures, version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Everything; what the database doesn't tell in time is missing, and `keystore_report_up` says so."""
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.data = generate_latest(self._registry) + generate_latest(self._counts.registry())


class _OfDatabase(Collector):
    """The reports as gauges."""

    def __init__(self, figures: CachedReports, version: str) -> None:
        self._figures = figures
        self._version = version

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would ask the database at start."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Asks for what is old."""
        within, figures = Deadline(), self._figures
        asked: list[tuple[str, bool, datetime]] = []

        def told(kept: CachedReport[T], tell: Callable[[T], Iterator[Metric]]) -> Iterator[Metric]:
            answer = kept.answer(within.left_s)
            asked.append((kept.name, answer.value is not None, answer.at))
            if answer.value is not None:
                yield from tell(answer.value)

        yield _gauge("keystore_build_info", "Which version runs.", ["version"], [((self._version,), 1)])
        yield from told(figures.alerts, _alerts)
        yield from told(figures.events, _events)
        yield from told(figures.load, _load)
        yield from told(figures.check, _check)
        yield from told(figures.types, _types)
        yield from told(figures.growth, _growth)
        up = [((name,), float(came)) for name, came, _ in asked]
        yield _gauge("keystore_report_up", "Whether the database gave this report.", ["report"], up)
        now = datetime.now(UTC)
        ages = [((name,), (now - at).total_seconds()) for name, _, at in asked]
        yield _gauge("keystore_report_age_seconds", "How old this report is.", ["report"], ages)


def _check(report: CheckReport) -> Iterator[Metric]:
    by_state = {
        "active": report.active,
        "expired": report.expired,
        "guarded": report.guarded,
        "without_expiry": report.without_expiry,
    }
    levels = ("ok", "warning", "critical")
    yield _gauge("keystore_keys", "Keys in the table.", [], [((), report.total)])
    yield _gauge(
        "keystore_keys_by_state",
        "Active (those without expiry among them), expired and guarded keys, which make up all; and those without.",
        ["state"],
        [((state,), keys) for state, keys in by_state.items()],
    )
    yield _gauge("keystore_companies", "Companies with creds or keys.", [], [((), report.companies)])
    yield _gauge("keystore_size_bytes", "What the tables take.", [], [((), report.size_bytes)])
    yield _gauge(
        "keystore_pre_keys_rewritten_7d",
        "Unused pre-keys overwritten with another value in 7 days: two processes on one account.",
        [],
        [((), report.pre_keys_rewritten_7d)],
    )
    yield _gauge(
        "keystore_verdict",
        "1 for the check's verdict, 0 for the others.",
        ["verdict"],
        [((level,), level == report.verdict) for level in levels],
    )
    yield _gauge(
        "keystore_last_activity_timestamp_seconds",
        "When a key was last written.",
        [],
        [] if report.last_activity_at is None else [((), report.last_activity_at.timestamp())],
    )
    yield from _last_sweep(report.last_sweep)


def _last_sweep(run: SweepRun | None) -> Iterator[Metric]:
    ended, deleted, took_s = [], [], []
    if run is not None and run.finished_at is not None:
        ended, deleted, took_s = [run.finished_at.timestamp()], [run.deleted], [run.took_ms / 1000]
    said = "When the latest sweep without an error ended."
    yield _gauge("keystore_last_sweep_timestamp_seconds", said, [], [((), at) for at in ended])
    yield _gauge("keystore_last_sweep_deleted", "Keys that it deleted.", [], [((), keys) for keys in deleted])
    yield _gauge("keystore_last_sweep_seconds", "How long it took.", [], [((), seconds) for seconds in took_s])


def _types(report: TypesReport) -> Iterator[Metric]:
    yield _gauge(
        "keystore_keys_by_type", "Keys by type.", ["key_type"], [((one.key_type,), one.total) for one in report.types]
    )


def _growth(report: GrowthReport) -> Iterator[Metric]:
    forecast = report.forecast
    said = [] if forecast is None else [(days, forecast.keys_at(days)) for days in FORECAST_DAYS]
    yield _gauge(
        "keystore_forecast_keys",
        "Keys expected after so many days; nine in ten outcomes are to lie between low and high.",
        ["days", "bound"],
        [
            ((str(days), bound), keys)
            for days, told in said
            for bound, keys in zip(("low", "expected", "high"), told, strict=True)
        ],
    )


def _load(load: LoadTime) -> Iterator[Metric]:
    took = [] if load.company is None else [((), load.took_ms / 1000)]
    yield _gauge("keystore_load_seconds", "A load of the largest company's state.", [], took)
    yield _gauge("keystore_load_budget_seconds", "What it may take.", [], [((), load.budget_ms / 1000)])


def _alerts(alerts: Alerts) -> Iterator[Metric]:
    by_rule: dict[str, int] = {}
    for firing in alerts.firing:
        by_rule[firing.rule] = by_rule.get(firing.rule, 0) + 1
    yield _gauge("keystore_alerts", "Alerts that fire.", [], [((), len(alerts.firing))])
    yield _gauge(
        "keystore_alerts_by_rule", "The same by rule.", ["rule"], [((rule,), fires) for rule, fires in by_rule.items()]
    )
    yield _gauge("keystore_muted", "Whether nobody is told.", [], [((), alerts.muted_until is not None)])


def _events(events: dict[tuple[str, str], int]) -> Iterator[Metric]:
    yield _gauge(
        "keystore_key_events_24h",
        "What happened to keys in the last 24 hours.",
        ["key_type", "event"],
        list(events.items()),
    )


def _gauge(name: str, said: str, labels: list[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, said, labels=labels)
    for of_labels, value in samples:
        family.add_metric(of_labels, float(value))
    return family
