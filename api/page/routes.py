"""The routes of the status page: `/`, `/sign-in` and `/sign-out`.

They are `open` in `api/app.py`, because a browser has no bearer token to send, and check the caller themselves. Signing
in takes an admin token and sets a cookie that scripts can't read and that pages of other sites can't send. A form that
another site sends for its reader is refused by its `Sec-Fetch-Site` or `Origin`: for a cookie, other ports of this
machine count as the same site. Programs may send an admin token, as everywhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import falcon
import structlog

from api.access.authentication import CHALLENGE, Authenticator, require_admin
from api.page.login_sessions import LIFETIME, LoginSessions
from api.problems import Problem
from api.reports import CachedReports, Deadline
from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.running.bounded_calls import BoundedCalls

MAX_FORM_BYTES = 4_096
MAX_SEARCH_CHARS = 64
MAX_PAGE = 1_000_000
DELETE_COOKIE_S = -1
"""The max-age that makes a browser delete a cookie; Falcon leaves out a 0."""

CONCURRENT_SESSION_CALLS = 4
RETRY_AFTER_S = 5
COMPANIES_TIMEOUT_S = 3.0
"""Time for the list of companies, in addition to that of the reports, so that a reader can always turn its pages."""

COOKIE, SECURE_COOKIE = "keystore-session", "__Host-keystore-session"
"""Names of the cookie. The second is for TLS: a browser accepts it only over TLS, and sends it to this host alone."""

log = structlog.get_logger()


def page_resources(
    store: Callable[[], Store], authenticator: Authenticator, reports: CachedReports, *, over_tls: bool
) -> list[tuple[str, object]]:
    """Return each path with its resource."""
    login = _PageLogin(LoginSessions(store), authenticator, over_tls=over_tls)
    return [
        ("/", StatusPageResource(login, reports)),
        ("/sign-in", SignInResource(login)),
        ("/sign-out", SignOutResource(login)),
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

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer an admin with the page; send another browser to the form."""
        try:
            is_admin = self.login.is_admin(req)
        except KeystoreError:
            if not _is_browser(req):
                raise
            _show_unavailable(resp)
            return
        if not is_admin:
            _redirect_to_sign_in(req, resp)
            return
        rendering, reports, deadline = _rendering(), self.reports, Deadline()
        search = (req.get_param("search") or "").strip()[:MAX_SEARCH_CHARS].removeprefix("company_")
        page = _page_number(req.get_param("page"))
        size = rendering.PAGE_COMPANIES
        status = rendering.Status(
            database=reports.database,
            # Reports that read one row come first: a census that hangs leaves no time for those after it.
            alerts=reports.alerts.result(deadline.left_s),
            sweeps=reports.sweeps.result(deadline.left_s),
            load=reports.load.result(deadline.left_s),
            check=reports.check.result(deadline.left_s),
            types=reports.types.result(deadline.left_s),
            growth=reports.growth.result(deadline.left_s),
            companies=reports.companies(search, size, (page - 1) * size, COMPANIES_TIMEOUT_S),
        )
        _show(resp, rendering.status_page(status, search, page, datetime.now(UTC)))


@dataclass(frozen=True)
class SignInResource:
    """The form for an admin token."""

    login: _PageLogin

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with the form."""
        self.login.has_admin_token(req)
        _show(resp, _rendering().sign_in_page())

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Sign in with the token in the form, and redirect to the page."""
        self.login.has_admin_token(req)
        _refuse_other_sites(req)
        token = _form(req).get("token", "").strip()
        try:
            self.login.sign_in(token, req, resp)
            _redirect(resp, "/")
        except Problem as problem:
            if problem.slug == "too-many-requests":
                raise
            company = "This token is for a company; the page needs an admin token."
            unknown = "This token isn't known, has expired or was revoked."
            page = _rendering().sign_in_page(company if problem.slug == "forbidden" else unknown)
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
        _redirect(resp, "/sign-in")


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
    if not _is_browser(req):
        detail = "sign in with a browser, or send Authorization: Bearer with an admin token"
        raise Problem("unauthorized", detail, CHALLENGE)
    _redirect(resp, "/sign-in")


def _redirect(resp: falcon.Response, location: str) -> None:
    resp.status = falcon.HTTP_303
    resp.set_header("location", location)
    resp.content_type = falcon.MEDIA_TEXT


def _is_browser(req: falcon.Request) -> bool:
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


def _page_number(text: str | None) -> int:
    """Return the page of companies that is asked for; the first if `text` is no such number."""
    number = int(text) if text and text.isascii() and text.isdigit() and len(text) < 8 else 1
    return min(max(1, number), MAX_PAGE)
