"""The routes of the status page: `/`, `/sign-in`, `/sign-out` and `/help`.

They are `open` in `api/app.py`, because a browser has no bearer token to send, and check the caller themselves. Signing
in takes an admin token and sets a cookie that scripts can't read and that pages of other sites can't send. A form that
another site sends for its reader is refused by its `Sec-Fetch-Site` or `Origin`: for a cookie, other ports of this
machine count as the same site. Programs may send an admin token, as everywhere else.

All addresses in pages and redirects are relative, so the page also works behind a proxy that serves it under a prefix
(`https://example.com/keystore/`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import falcon
import structlog

from api.access.authentication import CHALLENGE, Authenticator, require_admin
from api.health import Readiness
from api.page.login_sessions import LIFETIME, LoginSessions
from api.page.view import View
from api.problems import TITLES, Problem
from api.reports import CachedReports, Deadline
from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.instances import Instance
from monitor.running.bounded_calls import BoundedCalls
from monitor.watch_settings import WatchSettings

MAX_FORM_BYTES = 4_096
DELETE_COOKIE_S = -1
"""The max-age that makes a browser delete a cookie; Falcon leaves out a 0."""

CONCURRENT_SESSION_CALLS = 4
RETRY_AFTER_S = 5
COMPANIES_TIMEOUT_S = 3.0
"""Time for the list of companies, in addition to that of the reports, so that a reader can always turn its pages."""

COOKIE, SECURE_COOKIE = "keystore-session", "__Host-keystore-session"
"""Names of the cookie. The second is for TLS: a browser accepts it only over TLS, and sends it to this host alone."""

STATUS_PAGE, SIGN_IN_PAGE = "./", "sign-in"

log = structlog.get_logger()


@dataclass(frozen=True)
class PageSettings:
    """The service that the page belongs to, and the name of the file with the first admin token, if there is one.

    `over_tls` is true if browsers use TLS, ours or a proxy's.
    """

    instance: Instance
    over_tls: bool = False
    admin_token_file: str | None = None


def page_resources(
    store: Callable[[], Store],
    authenticator: Authenticator,
    readiness: Readiness,
    reports: CachedReports,
    settings: WatchSettings,
    page: PageSettings,
) -> list[tuple[str, object]]:
    """Return each path with its resource."""
    login = _PageLogin(LoginSessions(store), authenticator, over_tls=page.over_tls)
    return [
        ("/", StatusPageResource(login, reports, settings, page.instance)),
        ("/sign-in", SignInResource(login, readiness, page.admin_token_file)),
        ("/sign-out", SignOutResource(login)),
        ("/help", HelpResource()),
    ]


class _PageLogin:
    """Signs admins in and out, and recognizes them by a session or a token."""

    def __init__(self, sessions: LoginSessions, authenticator: Authenticator, *, over_tls: bool) -> None:
        self._sessions = sessions
        self._authenticator = authenticator
        self._secure = over_tls
        self._cookie = SECURE_COOKIE if over_tls else COOKIE
        self._calls = BoundedCalls(CONCURRENT_SESSION_CALLS, "page-session")

    def is_admin(self, req: falcon.Request) -> bool:
        """Return True if the request has an admin's token or session. Raises Problem as `has_admin_token`."""
        if self.has_admin_token(req):
            return True
        cookie = self._sent_cookie(req)
        return cookie is not None and self._calls.call(lambda: self._sessions.is_valid(cookie))

    def has_admin_token(self, req: falcon.Request) -> bool:
        """Return True if the request has an admin token. Raises Problem (401, 403) if it has another token."""
        if req.auth is None:
            return False
        require_admin(self._authenticator.bearer(req.auth, req.remote_addr))
        return True

    def sign_in(self, token: str, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin a session. Raises Problem (401, 403) unless `token` is an admin token."""
        caller = self._authenticator.caller(token, req.remote_addr)
        require_admin(caller)
        cookie = self._calls.call(lambda: self._sessions.begin(caller.token_id))
        self._set_cookie(resp, cookie, int(LIFETIME.total_seconds()))
        log.info("signed_in", token_id=caller.token_id)

    def sign_out(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End the session in the database, and delete the browser's cookie."""
        cookie = self._sent_cookie(req)
        if cookie is not None:
            self._calls.call(lambda: self._sessions.end(cookie))
        self._set_cookie(resp, "", DELETE_COOKIE_S)

    def _sent_cookie(self, req: falcon.Request) -> str | None:
        cookies = req.get_cookie_values(self._cookie)
        return cookies[0] if cookies else None

    def _set_cookie(self, resp: falcon.Response, cookie: str, max_age_s: int) -> None:
        resp.set_cookie(
            self._cookie, cookie, max_age=max_age_s, path="/", secure=self._secure, http_only=True, same_site="Strict"
        )


@dataclass(frozen=True)
class StatusPageResource:
    """The status page."""

    login: _PageLogin
    reports: CachedReports
    settings: WatchSettings
    instance: Instance

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer an admin with the page; send another browser to the form."""
        try:
            is_admin = self.login.is_admin(req)
        except KeystoreError:
            if not is_browser(req):
                raise
            _show_unavailable(resp)
            return
        if not is_admin:
            _redirect_to_sign_in(req, resp)
            return
        rendering, reports, deadline = _rendering(), self.reports, Deadline()
        view, size = View.read(req.get_param), rendering.PAGE_COMPANIES
        status = rendering.Status(
            database=reports.database,
            # Reports that read one row come first: a census that hangs leaves no time for those after it.
            alerts=reports.alerts.result(deadline.left_s),
            instances=reports.instances.result(deadline.left_s),
            bots=reports.bots.result(deadline.left_s),
            sweeps=reports.sweeps.result(deadline.left_s),
            load=reports.load.result(deadline.left_s),
            check=reports.check.result(deadline.left_s),
            types=reports.types.result(deadline.left_s),
            growth=reports.growth.result(deadline.left_s),
            companies=reports.companies(view.search, size, (view.page - 1) * size, view.order, COMPANIES_TIMEOUT_S),
        )
        _show(resp, rendering.status_page(status, view, self.instance, self.settings.zone, datetime.now(UTC)))


@dataclass(frozen=True)
class SignInResource:
    """The form for an admin token."""

    login: _PageLogin
    readiness: Readiness
    token_file: str | None

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the form; while the database takes no writes, with a page that says so."""
        if not self.readiness.takes_writes():
            _show_unavailable(resp)
            return
        self.login.has_admin_token(req)
        _show(resp, _rendering().sign_in_page(self.token_file))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Sign in with the token in the form, and redirect to the page."""
        self.login.has_admin_token(req)
        _refuse_other_sites(req)
        token = _form(req).get("token", "").strip()
        try:
            self.login.sign_in(token, req, resp)
            _redirect(resp, STATUS_PAGE)
        except Problem as problem:
            if problem.slug == "too-many-requests":
                raise
            company = "This token is for a company; the page needs an admin token."
            unknown = "This token isn't known, has expired or was revoked."
            page = _rendering().sign_in_page(self.token_file, company if problem.slug == "forbidden" else unknown)
            _show(resp, page, falcon.HTTP_403)
        except KeystoreError:
            _show_unavailable(resp)


@dataclass(frozen=True)
class SignOutResource:
    """The end of a session."""

    login: _PageLogin

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Sign out, and redirect to the form."""
        _refuse_other_sites(req)
        if not self.login.is_admin(req):
            _redirect_to_sign_in(req, resp)
            return
        self.login.sign_out(req, resp)
        _redirect(resp, SIGN_IN_PAGE)


@dataclass(frozen=True)
class HelpResource:
    """The explanations of words and alerts. They hold no secret, and are of use while the database is down."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the page."""
        _show(resp, _rendering().help_page())


def show_problem(req: falcon.Request, resp: falcon.Response, problem: Problem) -> None:
    """Answer a browser with a problem as a page."""
    # A relative address: the request's path may be any, and the service may be served under a prefix.
    status_page = "../" * (req.path.count("/") - 1) or STATUS_PAGE
    title = TITLES[problem.slug][1]
    page = _rendering().problem_page(title, problem.detail, req.context.request_id, status_page)
    _show(resp, page, falcon.code_to_http_status(problem.status))


def _rendering() -> ModuleType:
    """Return `api.page.rendering`, which loads Jinja: with the first page, not with every worker."""
    from api.page import rendering

    return rendering


def _show(resp: falcon.Response, page: str, status: str = falcon.HTTP_200) -> None:
    """Answer with a page, and with a policy under which the browser runs and fetches nothing."""
    resp.status, resp.content_type, resp.text = status, falcon.MEDIA_HTML, page
    resp.set_headers(
        {
            "content-security-policy": "default-src 'none'; img-src data:; form-action 'self'; base-uri 'none'; "
            f"frame-ancestors 'none'; style-src 'sha256-{_rendering().STYLE_HASH}'",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "same-origin",
        }
    )


def _show_unavailable(resp: falcon.Response) -> None:
    _show(resp, _rendering().unavailable_page(), falcon.HTTP_503)
    resp.set_header("retry-after", str(RETRY_AFTER_S))


def _redirect_to_sign_in(req: falcon.Request, resp: falcon.Response) -> None:
    """Redirect a browser to the form. Raises Problem (401) for a program."""
    if not is_browser(req):
        detail = "sign in with a browser, or send Authorization: Bearer with an admin token"
        raise Problem("unauthorized", detail, CHALLENGE)
    _redirect(resp, SIGN_IN_PAGE)


def _redirect(resp: falcon.Response, location: str) -> None:
    resp.status = falcon.HTTP_303
    resp.set_header("location", location)
    resp.content_type = falcon.MEDIA_TEXT


def is_browser(req: falcon.Request) -> bool:
    """Return True if the client asks for a page to show."""
    return "text/html" in (req.get_header("Accept") or "")


def _refuse_other_sites(req: falcon.Request) -> None:
    """Raise Problem (403) for a form that didn't come from one of our own pages."""
    site, origin = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
    if site is None:
        site = "none" if origin is None or urlsplit(origin).netloc == req.get_header("Host") else "cross-site"
    if site not in ("same-origin", "none"):
        raise Problem("forbidden", "this form was sent by another site; open the page itself")


def _form(req: falcon.Request) -> dict[str, str]:
    """Return the fields of a small form. Raises Problem (400, 413, 415)."""
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_URLENCODED:
        raise Problem("unsupported-media-type", f"send the form as {falcon.MEDIA_URLENCODED}")
    if req.content_length is None:
        raise Problem("invalid-input", "send the form's Content-Length")
    if req.content_length > MAX_FORM_BYTES:
        raise Problem("too-large", f"the form is larger than {MAX_FORM_BYTES} bytes")
    body = req.stream.read(req.content_length)
    try:
        return {name: values[0] for name, values in parse_qs(body.decode("ascii"), max_num_fields=10).items()}
    except ValueError:
        raise Problem("invalid-input", f"the body isn't {falcon.MEDIA_URLENCODED}") from None
