"""`/metrics`, in Prometheus' text format. `deploy/grafana.json` draws all of it."""

import falcon
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from api.metrics.database_gauges import DatabaseGauges
from api.metrics.request_counts import RequestCounts
from api.reports import CachedReports


class MetricsResource:
    """Serves the metrics of the database and of the requests, to admins."""

    def __init__(self, reports: CachedReports, counts: RequestCounts, version: str) -> None:
        self._counts = counts
        self._registry = CollectorRegistry()
        self._registry.register(DatabaseGauges(reports, version))

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with all metrics; a report that doesn't come in time is missing, and `keystore_report_up` is 0."""
        resp.content_type = CONTENT_TYPE_PLAIN_0_0_4
        resp.data = generate_latest(self._registry) + generate_latest(self._counts.registry())
