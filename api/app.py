"""The application: every route with who may use it, and what happens around each request.

A route is added to `routes_of`, with its access:
* `company`: the URI has `{company}`; its token or an admin's. The resource gets the canonical id.
* `admin`: an admin's token.
* `open`: anybody; the resource itself looks at who asks (`parts.gate`, `require_admin`).

A responder raises `api.problems.Problem` or any KeystoreError; what it raises is answered as a problem document.
Whoever wants to know of every finished request adds an observer to `observers_of`.
"""

import re
import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import falcon
import structlog

from api import health
from api.access.authentication import Gate, require_admin, require_company
from api.access_log import AccessLog
from api.companies import company_resources
from api.finished_request import FinishedRequest
from api.metrics import Metrics, RequestCounts
from api.page.routes import page_resources
from api.problems import MEDIA_TYPE, Problem, problem_of
from api.reports import CachedReports
from keystore.errors import KeystoreError
from keystore.ids import canonical_company
from keystore.store import Store
from monitor.watch_settings import WatchSettings

Access = Literal["open", "company", "admin"]
Observer = Callable[[FinishedRequest], None]

NO_ROUTE = "(none)"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

CAME_FROM_LINES = 8

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""On every answer; a responder may set others in their place."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Services:
    """What the routes work with.

    `store` opens the store at its first call and raises StoreUnavailable while it can't. `over_tls`: whether browsers
    come over TLS, ours or a proxy's.
    """

    store: Callable[[], Store]
    gate: Gate
    settings: WatchSettings
    over_tls: bool
    access_log: AccessLog
    counts: RequestCounts = field(default_factory=RequestCounts)


@dataclass(frozen=True)
class Route:
    """A URI template of Falcon, the resource that answers there, and who may use it."""

    path: str
    resource: object
    access: Access


def routes_of(parts: Services) -> list[Route]:
    """Every route there is."""
    figures = CachedReports(parts.store, parts.settings)
    return [
        *(Route(f"/v1/companies/{{company}}{path}", one, "company") for path, one in company_resources(parts.store)),
        Route("/healthz", health.Alive(), "open"),
        Route("/readyz", health.Ready(parts.store), "open"),
        Route("/v1/health", health.Health(parts.store, parts.settings.sweep_every_s), "admin"),
        Route("/openapi.json", health.Description(parts.settings.version), "admin"),
        Route("/metrics", Metrics(figures, parts.counts, parts.settings.version), "admin"),
        *(
            Route(path, one, "open")
            for path, one in page_resources(parts.store, parts.gate, figures, over_tls=parts.over_tls)
        ),
    ]


def observers_of(parts: Services) -> list[Observer]:
    """Who hears of every finished request."""
    return [parts.access_log.observe, parts.counts.observe]


def build_app(parts: Services, routes: Sequence[Route] | None = None) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application of one worker."""
    routes = routes_of(parts) if routes is None else routes
    around = _RequestMiddleware(parts.gate, {route.path: route.access for route in routes}, observers_of(parts))
    app = falcon.App(middleware=[around])
    app.req_options.strip_url_path_trailing_slash = False
    app.resp_options.default_media_type = "application/json"
    app.add_error_handler((Exception, falcon.HTTPError), _failed)  # Falcon's own handler of the second comes first.
    for route in routes:
        app.add_route(route.path, route.resource)
    return app


class _RequestMiddleware:
    """What happens around every request: its id, who asks, and what observers hear of it."""

    def __init__(self, gate: Gate, access: Mapping[str, Access], observers: Sequence[Observer]) -> None:
        self._gate = gate
        self._access = access
        self._observers = observers
        self._started, self._numbers = secrets.token_hex(4), count(1)

    def _next_id(self) -> str:
        """A request id of our own. (Random bytes for each would hand the interpreter to another thread.)"""
        return f"{self._started}-{next(self._numbers):x}"

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before the route is looked for."""
        given = req.get_header("X-Request-Id")
        req.context.began = perf_counter()
        req.context.company = req.context.caller = None
        req.context.request_id = given if given and REQUEST_ID.fullmatch(given) else self._next_id()
        resp.set_headers(HEADERS)
        resp.set_header("x-request-id", req.context.request_id)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Once the route is known: nobody gets further who may not."""
        access = self._access[str(req.uri_template)]
        if access == "open":
            return
        caller = self._gate.bearer(req.auth)
        self._gate.enter(caller)
        req.context.caller = caller
        if access == "admin":
            require_admin(caller)
            return
        company = canonical_company(params["company"])
        require_company(caller, company)
        params["company"] = req.context.company = company

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """Once the answer is made."""
        if req.context.caller is not None:
            self._gate.leave(req.context.caller)
        seen = FinishedRequest(
            route=req.uri_template or NO_ROUTE,
            method=req.method,
            company=req.context.company,
            status=resp.status_code,
            took_ms=(perf_counter() - req.context.began) * 1000,
            request_id=req.context.request_id,
        )
        for observe in self._observers:
            observe(seen)


def _failed(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    """Answers an error as a problem document. What nobody foresaw is logged with where it came from: the lines of code.

    Its message isn't: nobody knows what is in it.
    """
    problem = problem_of(error)
    if problem.slug == "internal":
        came_from = [f"{Path(line.filename).name}:{line.lineno}" for line in traceback.extract_tb(error.__traceback__)]
        log.error(
            "request_failed",
            route=req.uri_template,
            request_id=req.context.request_id,
            error=str(error) if isinstance(error, KeystoreError) else type(error).__name__,
            came_from=" ".join(came_from[-CAME_FROM_LINES:]),
        )
    answer_problem(req, resp, problem)


def answer_problem(req: falcon.Request, resp: falcon.Response, problem: Problem) -> None:
    """Makes the answer a problem document."""
    resp.status = falcon.code_to_http_status(problem.status)
    resp.content_type = MEDIA_TYPE
    resp.data = problem.document(req.context.request_id)
    resp.text = None
    for name, value in problem.headers.items():
        resp.set_header(name, value)
