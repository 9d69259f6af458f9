"""The status page's addresses: `/`, and the way in and out.

`page_resources` gives them to `api/app.py`, where they are `open`: a browser has no bearer token to send, so they look
for themselves who asks. The way in takes an admin token and leaves a cookie that scripts can't read and that no other
site's page can send; a form that another site sends for its reader is refused (`Sec-Fetch-Site`, `Origin`: other ports
of this machine count as the same site for a cookie). Programs may send an admin token as everywhere else.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import falcon
import structlog

from api.access.authentication import CHALLENGE, Gate, require_admin
from api.page.login_sessions import LASTS, LoginSessions
from api.problems import Problem
from api.reports import CachedReports, Deadline
from keystore.errors import KeystoreError
from keystore.store import Store
from monitor.running.bounded_calls import BoundedCalls

MAX_FORM_BYTES = 4_096
MAX_SEARCH_CHARS = 64
MAX_PAGE = 1_000_000
ENDED_S = -1
"""The age of a cookie that a browser is to forget: Falcon leaves out a 0."""

SESSION_WITHIN_S = 5.0
RETRY_AFTER_S = 5
COMPANIES_WITHIN_S = 3.0
"""For the companies alone, after what the reports have left: a reader who pages through them isn't kept waiting."""

COOKIE, SECURE_COOKIE = "keystore-session", "__Host-keystore-session"
"""The second only over TLS: a browser takes it from nowhere else, and sends it to nobody else."""

T = TypeVar("T")
log = structlog.get_logger()


def page_resources(
    store: Callable[[], Store], gate: Gate, figures: CachedReports, *, over_tls: bool
) -> list[tuple[str, object]]:
    """Each address with its resource."""
    door = _PageLogin(LoginSessions(store), gate, over_tls=over_tls)
    return [("/", StatusPage(door, figures)), ("/sign-in", SignIn(door)), ("/sign-out", SignOut(door))]


class _PageLogin:
    """Who may see the page."""

    def __init__(self, sessions: LoginSessions, gate: Gate, *, over_tls: bool) -> None:
        self._sessions = sessions
        self._gate = gate
        self._secure = over_tls
        self._cookie = SECURE_COOKIE if over_tls else COOKIE
        self._slots = BoundedCalls(4, "page-session")

    def knows(self, req: falcon.Request) -> bool:
        """Whether an admin asks, by a session or a token. Raises Problem where a token is sent that won't do."""
        if self.by_token(req):
            return True
        cookie = self._sent(req)
        return cookie is not None and self._ask(lambda: self._sessions.find(cookie)) is not None

    def by_token(self, req: falcon.Request) -> bool:
        """Whether an admin's token came with the request. Raises Problem where one came that won't do."""
        if req.auth is None:
            return False
        require_admin(self._gate.bearer(req.auth))
        return True

    def let_in(self, token: str, resp: falcon.Response) -> None:
        """Begins a session. Raises Problem unless it is an admin's token."""
        caller = self._gate.caller(token)
        require_admin(caller)
        cookie = self._ask(lambda: self._sessions.begin(caller.token_id))
        self._leave(resp, cookie, int(LASTS.total_seconds()))
        log.info("signed_in", token_id=caller.token_id)

    def let_out(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Ends the session, here and in the browser."""
        cookie = self._sent(req)
        if cookie is not None:
            self._ask(lambda: self._sessions.end(cookie))
        self._leave(resp, "", ENDED_S)

    def _sent(self, req: falcon.Request) -> str | None:
        cookies = req.get_cookie_values(self._cookie)
        return cookies[0] if cookies else None

    def _leave(self, resp: falcon.Response, cookie: str, max_age_s: int) -> None:
        resp.set_cookie(
            self._cookie,
            cookie,
            max_age=max_age_s,
            path="/",
            secure=self._secure,
            http_only=True,
            same_site="Strict",
        )

    def _ask(self, question: Callable[[], T]) -> T:
        return self._slots.call(question, SESSION_WITHIN_S)


class StatusPage:
    """What an operator looks at."""

    def __init__(self, door: _PageLogin, figures: CachedReports) -> None:
        self._door = door
        self._figures = figures

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The page for whoever is signed in; others are shown the way in."""
        try:
            known = self._door.knows(req)
        except KeystoreError:
            if not _is_browser(req):
                raise
            _show_away(resp)
            return
        if not known:
            _ask_in(req, resp)
            return
        rendering = _rendering()
        search = (req.get_param("search") or "").strip()[:MAX_SEARCH_CHARS].removeprefix("company_")
        page = _page(req.get_param("page"))
        figures, within = self._figures, Deadline()
        size = rendering.PAGE_COMPANIES
        status = rendering.Status(
            database=figures.database,
            # What one row answers comes first: a census that hangs leaves nothing for those after it.
            alerts=figures.alerts.answer(within.left_s),
            sweeps=figures.sweeps.answer(within.left_s),
            load=figures.load.answer(within.left_s),
            check=figures.check.answer(within.left_s),
            types=figures.types.answer(within.left_s),
            growth=figures.growth.answer(within.left_s),
            companies=figures.companies(search, size, (page - 1) * size, COMPANIES_WITHIN_S),
        )
        _show(resp, rendering.status_page(status, search, page, datetime.now(UTC)))


class SignIn:
    """The way in."""

    def __init__(self, door: _PageLogin) -> None:
        self._door = door

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The form."""
        self._door.by_token(req)
        _show(resp, _rendering().sign_in_page())

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Takes the token; with the right one on to the page."""
        self._door.by_token(req)
        _refuse_other_sites(req)
        token = _form(req).get("token", "").strip()
        try:
            self._door.let_in(token, resp)
        except Problem as problem:
            said = "This token is for a company; the page needs an admin's." if problem.slug == "forbidden" else None
            _show(resp, _rendering().sign_in_page(said or "This token isn't known, has expired or was revoked."))
            resp.status = falcon.HTTP_403
            return
        except KeystoreError:
            _show_away(resp)
            return
        _send_on(resp, "/")


class SignOut:
    """The way out."""

    def __init__(self, door: _PageLogin) -> None:
        self._door = door

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Ends the session."""
        _refuse_other_sites(req)
        if not self._door.knows(req):
            _ask_in(req, resp)
            return
        self._door.let_out(req, resp)
        _send_on(resp, "/sign-in")


def _rendering() -> ModuleType:
    """Jinja and what else a page is made with: loaded with the first page, not with every worker."""
    from api.page import rendering

    return rendering


def _show(resp: falcon.Response, page: str) -> None:
    """The page, and a policy under which a browser runs and fetches nothing, whatever stands in it."""
    resp.content_type = falcon.MEDIA_HTML
    resp.text = page
    resp.set_headers(
        {
            "content-security-policy": "default-src 'none'; img-src data:; form-action 'self'; base-uri 'none'; "
            f"frame-ancestors 'none'; style-src 'sha256-{_rendering().STYLE_HASH}'",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "referrer-policy": "same-origin",
        }
    )


def _show_away(resp: falcon.Response) -> None:
    _show(resp, _rendering().away_page())
    resp.status = falcon.HTTP_503
    resp.set_header("retry-after", str(RETRY_AFTER_S))


def _ask_in(req: falcon.Request, resp: falcon.Response) -> None:
    """Sends a browser to the form. Raises Problem (401) for a program."""
    if not _is_browser(req):
        raise Problem(
            "unauthorized", "sign in with a browser, or send Authorization: Bearer with an admin token", CHALLENGE
        )
    _send_on(resp, "/sign-in")


def _send_on(resp: falcon.Response, place: str) -> None:
    resp.status = falcon.HTTP_303
    resp.set_header("location", place)
    resp.content_type = falcon.MEDIA_TEXT


def _is_browser(req: falcon.Request) -> bool:
    return "text/html" in (req.get_header("Accept") or "")


def _refuse_other_sites(req: falcon.Request) -> None:
    """Raises Problem (403) for a form that didn't come from a page of ours."""
    site, origin = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or urlsplit(origin).netloc == req.get_header("Host")
    if not ours:
        raise Problem("forbidden", "this form was sent by another site; open the page itself")


def _form(req: falcon.Request) -> dict[str, str]:
    """The fields of a small form. Raises Problem: 413, 415, 400."""
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


def _page(given: str | None) -> int:
    """The number of the page of companies, the first where none that makes sense is given."""
    number = int(given) if given and given.isascii() and given.isdigit() and len(given) < 8 else 1
    return min(max(1, number), MAX_PAGE)
