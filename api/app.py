"""The WSGI application: every route with its access, and the work around each request.

A route is added to `all_routes`, with its access:
* `company`: the path has `{company}`, and needs its token or an admin token. The resource gets the canonical id.
* `caller`: the route needs any token. The resource checks which companies it reaches.
* `admin`: the route needs an admin token.
* `open`: the route needs no token; the resource checks the caller itself, if at all.

A responder raises `api.problems.Problem` or any KeystoreError, which is answered as a problem document.
"""

import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import falcon
import msgspec
import structlog

from api import health
from api.access.authentication import Authenticator, require_admin, require_company
from api.access.rate_limit import RateLimit
from api.access_log import AccessLog, FinishedRequest, UnavailableLog
from api.companies import WritesResource, company_resources
from api.handover import CALLER, REFUSED, RESERVE_ANSWER, SLOW
from api.metrics import MetricsResource, RequestCounts
from api.openapi import COMPANY_PATH, OpenApiResource
from api.page.routes import PageSettings, is_browser, page_resources, show_problem
from api.problems import MEDIA_TYPE, Problem, problem_of
from api.reports import CachedReports
from keystore.errors import KeystoreError
from keystore.ids import canonical_company
from keystore.records import TokenRecord
from keystore.sql.link import StatementTimedOut
from keystore.store import Store
from monitor.watch_settings import WatchSettings

Access = Literal["open", "company", "caller", "admin"]

NO_ROUTE = "(none)"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

TRACEBACK_LINES = 8
UNAVAILABLE = 503

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer; a responder may replace them."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Services:
    """The parts that the routes share. `store` opens the store, and raises StoreUnavailable while it can't."""

    store: Callable[[], Store]
    authenticator: Authenticator
    rate_limit: RateLimit
    settings: WatchSettings
    page: PageSettings
    access_log: AccessLog
    counts: RequestCounts = field(default_factory=RequestCounts)


@dataclass(frozen=True)
class Route:
    """A Falcon URI template, the resource that answers there, and its access."""

    path: str
    resource: object
    access: Access


def all_routes(services: Services) -> list[Route]:
    """Return every route of the API and the status page."""
    store, version = services.store, services.settings.version
    reports, readiness = CachedReports(store, services.settings), health.Readiness(store)
    page_routes = page_resources(store, services.authenticator, readiness, reports, services.settings, services.page)
    return [
        *(Route(COMPANY_PATH + path, resource, "company") for path, resource in company_resources(store)),
        Route("/v1/writes", WritesResource(store), "caller"),
        Route("/healthz", health.AliveResource(), "open"),
        Route("/readyz", health.ReadyResource(readiness), "open"),
        Route("/v1/health", health.CheckResource(store, services.settings.sweep_every_s), "admin"),
        Route("/openapi.json", OpenApiResource(version), "admin"),
        Route("/metrics", MetricsResource(reports, services.counts, version), "admin"),
        *(Route(path, resource, "open") for path, resource in page_routes),
    ]


def build_app(services: Services, routes: list[Route]) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the WSGI application of one worker with these routes."""
    app = falcon.App(middleware=[_RequestMiddleware(services, {route.path: route.access for route in routes})])
    app.req_options.strip_url_path_trailing_slash = False
    app.resp_options.default_media_type = "application/json"
    # HTTPError is named too, so that this handler takes precedence over Falcon's own for it.
    app.add_error_handler((Exception, falcon.HTTPError), _ErrorAnswers().answer)
    for route in routes:
        app.add_route(route.path, route.resource)
    return app


class _RequestMiddleware:
    """Gives every request an id, checks its caller, and reports it when it is finished."""

    def __init__(self, services: Services, access: Mapping[str, Access]) -> None:
        self._services = services
        self._access = access
        # Random bytes for each request's id would hand the interpreter to another thread.
        self._id_prefix, self._numbers = secrets.token_hex(4), count(1)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin a request, before its route is looked up.

        A HEAD is answered as a GET. Falcon leaves out the body in the end, because `process_response` restores it.
        """
        refused = req.env.get(REFUSED)
        req.context.is_head = req.method == "HEAD"
        if req.context.is_head:
            req.method = "GET"
        request_id = req.get_header("X-Request-Id")
        req.context.started_at = perf_counter()
        req.context.company = req.context.caller = None
        if request_id is None or not REQUEST_ID.fullmatch(request_id):
            request_id = f"{self._id_prefix}-{next(self._numbers):x}"
        req.context.request_id = request_id
        resp.set_headers(HEADERS)
        resp.set_header("x-request-id", request_id)
        if refused is not None:
            caller = req.env.get(CALLER)
            req.context.caller = caller if isinstance(caller, TokenRecord) else None
            raise refused

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Check the caller against the route's access. Raises Problem (401, 403, 429), InvalidInput."""
        access = self._access[str(req.uri_template)]
        if access == "open":
            return
        caller = req.env[CALLER]
        if isinstance(caller, Exception):
            raise caller
        req.context.caller = caller
        if access == "caller":
            return
        if access == "admin":
            require_admin(caller)
            return
        company = canonical_company(params["company"])
        require_company(caller, company)
        params["company"] = req.context.company = company

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Count and log a request once its answer is ready."""
        if req.context.is_head:
            req.method = "HEAD"
        reserve = req.env.get(RESERVE_ANSWER)
        if reserve is not None:
            try:
                reserve(len(resp.data or resp.text or b""))
            except Problem as problem:
                set_problem(req, resp, problem)
        context, took_ms = req.context, (perf_counter() - req.context.started_at) * 1000
        token_id = None if context.caller is None else context.caller.token_id
        finished = FinishedRequest(
            *(req.uri_template or NO_ROUTE, req.method, context.company, resp.status_code, took_ms, context.request_id),
            *(token_id, req.remote_addr),
        )
        self._services.access_log.observe(finished)
        self._services.counts.observe(finished)


class _ErrorAnswers:
    """Answers errors as problem documents, a browser with a page, and logs those that an operator must know of."""

    def __init__(self) -> None:
        self._unavailable = UnavailableLog()

    def answer(self, req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
        """Answer an error; log an unexpected error with its last lines of code, and the reason of a 503.

        The message of an unexpected error is not logged, because it could contain anything.
        """
        if isinstance(error, StatementTimedOut):
            req.env[SLOW] = True
        caller = getattr(req.context, "caller", None)
        is_admin = caller is not None and caller.is_admin
        problem = problem_of(error, in_detail=is_admin)
        if problem.slug == "internal":
            lines = [f"{Path(line.filename).name}:{line.lineno}" for line in traceback.extract_tb(error.__traceback__)]
            log.error(
                "request_failed",
                route=req.uri_template,
                request_id=req.context.request_id,
                error=str(error) if isinstance(error, KeystoreError) else type(error).__name__,
                code_lines=" ".join(lines[-TRACEBACK_LINES:]),
            )
        elif problem.status == UNAVAILABLE:
            self._unavailable.observe(f"{req.method} {req.uri_template or NO_ROUTE}", error)
        set_problem(req, resp, problem)
        # A traceback refers to the request in a circle, and with it to a body that the server would wait for.
        error.__traceback__ = None


def set_problem(req: falcon.Request, resp: falcon.Response, problem: Problem) -> None:
    """Make the answer a problem document, or a page for a browser."""
    if is_browser(req):
        show_problem(req, resp, problem)
    else:
        resp.status = falcon.code_to_http_status(problem.status)
        resp.content_type = MEDIA_TYPE
        resp.data = msgspec.json.encode(problem.document(req.context.request_id))
        resp.text = None
    resp.set_headers(dict(problem.headers))
