"""Counts of requests, kept by each worker.

With several workers prometheus-client adds the counts up: each worker keeps its own in a file of a common folder, which
`api/workers/supervisor.py` creates and names in PROMETHEUS_MULTIPROC_DIR. The counts of a worker that died stay there.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, values
from prometheus_client.multiprocess import MultiProcessCollector

from api.access_log import FinishedRequest

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods counted by name. Others are counted as one, so that a stranger can't create any number of series."""


class RequestCounts:
    """Counts finished requests and their durations; `observe` is called by `api/app.py`."""

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
            "Duration of a request in the service.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
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
