"""Access to the status page: sessions, headers, forms of other sites, an outage."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from urllib.parse import urlencode

import pytest
from falcon import testing

from api.access.authentication import Authenticator
from api.access.rate_limit import RateLimit
from api.access.tokens import create_token
from api.access_log import AccessLog
from api.app import Services, all_routes, build_app
from api.page.login_sessions import LIFETIME, LoginSessions
from api.page.routes import PageSettings
from keystore import Store, open_store
from monitor.instances import Instance
from monitor.note_names import PAGE_SESSION
from monitor.running.logs import LineWriter
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import Clock
from rig.relay import Relay
from rig.waiting import eventually
from tests.api.page.page_site import BROWSER, FORM, Site, serving_site

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page")]

WRONG = "kst_unknown_" + "x" * 43


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The service with two workers and an embedded database."""
    folder = tmp_path_factory.mktemp("site")
    with serving_site(folder, f"sqlite:///{folder}/k.db", KEYSTORE_HTTP_WORKERS="2") as site:
        yield site


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that only this test uses."""
    with open_store(f"sqlite:///{tmp_path}/own.db") as store:
        yield store


def test_a_browser_is_sent_to_the_form_and_a_program_gets_a_401(site: Site) -> None:
    browser, program = site.ask("/", BROWSER), site.ask("/")
    assert (browser.status, browser.headers["location"], browser.body) == (303, "sign-in", "")
    assert (program.status, program.headers["content-type"]) == (401, "application/problem+json")
    assert "Bearer" in program.headers["www-authenticate"]
    assert site.ask("/sign-out", FORM, "").headers["location"] == "sign-in"


def test_signing_in_sets_a_strict_cookie_for_every_worker(site: Site) -> None:
    answer = site.sign_in(site.admin)
    assert (answer.status, answer.headers["location"]) == (303, "./")
    name_and_value, *attributes = answer.headers["set-cookie"].split("; ")
    assert name_and_value.startswith("keystore-session=")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Strict"]
    assert site.admin not in answer.headers["set-cookie"]
    for _ in range(12):  # Each has its own connection, so that both workers get some.
        assert site.ask("/", {**BROWSER, "Cookie": name_and_value}).status == 200


def test_a_page_may_run_and_fetch_nothing(site: Site) -> None:
    for answer in (site.as_admin("/"), site.ask("/sign-in", BROWSER), site.sign_in(WRONG)):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy.pop("style-src").startswith("'sha256-")
        assert policy == {
            "default-src": "'none'",
            "img-src": "data:",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("token", [WRONG, "", "nonsense", "kst_", "<script>"])
def test_a_wrong_token_is_refused_and_not_shown(site: Site, token: str) -> None:
    answer = site.sign_in(token)
    assert answer.status == 403
    assert "set-cookie" not in answer.headers
    assert "isn&#39;t known" in answer.body
    if token:
        assert token not in answer.body.partition("<body>")[2]


def test_a_companys_token_gives_no_access(site: Site) -> None:
    with open_store(site.store_url) as store:
        token = create_token(store, "962302", None)[0]
    answer = site.sign_in(token)
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    assert "for a company" in answer.body
    for path in ("/", "/sign-in", "/metrics"):
        assert site.ask(path, {**BROWSER, "Authorization": f"Bearer {token}"}).status == 403
        assert site.ask(path, {**BROWSER, "Authorization": f"Bearer {WRONG}"}).status == 401
    assert site.ask("/sign-out", {**FORM, "Authorization": f"Bearer {token}"}, "").status == 403


def test_signing_out_ends_the_session_on_the_server(site: Site) -> None:
    cookie = site.cookie()
    answer = site.ask("/sign-out", {**FORM, "Cookie": cookie}, "")
    assert (answer.status, answer.headers["location"]) == (303, "sign-in")
    assert "keystore-session=;" in answer.headers["set-cookie"].replace('""', "")
    assert "Max-Age=-1" in answer.headers["set-cookie"]
    assert site.ask("/", {**BROWSER, "Cookie": cookie}).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
    ids=["another site", "another port", "another port of an old browser", "nowhere"],
)
def test_a_form_of_another_site_is_refused(site: Site, headers: dict[str, str]) -> None:
    assert site.sign_in(site.admin, **headers).status == 403
    cookie = site.cookie()
    assert site.ask("/sign-out", {**FORM, "Cookie": cookie, **headers}, "").status == 403
    assert site.ask("/", {**BROWSER, "Cookie": cookie}).status == 200


def test_a_form_of_our_own_page_is_accepted(site: Site) -> None:
    assert site.sign_in(site.admin, **{"Sec-Fetch-Site": "same-origin", "Origin": site.url}).status == 303
    assert site.sign_in(site.admin, Origin=site.url).status == 303


def test_large_and_malformed_forms_are_refused(site: Site) -> None:
    assert site.sign_in("x" * 5_000).status == 413
    assert site.ask("/sign-in", {**BROWSER, "Content-Type": "application/json"}, "{}").status == 415
    assert site.ask("/sign-in", FORM, "&".join(f"a{n}=1" for n in range(50))).status == 400
    assert site.ask("/sign-in", FORM, "token=\xe4").status in (400, 403)


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=99999999999", "search=%00", "search=" + "x" * 999]
)
def test_strange_parameters_get_a_page_all_the_same(site: Site, query: str) -> None:
    assert site.as_admin(f"/?{query}").status == 200


def test_a_revoked_token_ends_its_sessions(site: Site) -> None:
    with open_store(site.store_url) as store:
        token, record = create_token(store, None, None)
        cookie = site.sign_in(token).headers["set-cookie"].partition(";")[0]
        assert site.ask("/", {**BROWSER, "Cookie": cookie}).status == 200
        store.revoke_token(record.token_id)
    assert site.ask("/", {**BROWSER, "Cookie": cookie}).status == 303


def test_a_session_ends_after_half_a_day_and_is_deleted(store: Store) -> None:
    clock = Clock(datetime.now(UTC))
    sessions = LoginSessions(lambda: store, clock)
    token = create_token(store, None, None)[1].token_id
    cookie = sessions.begin(token)
    clock.advance(LIFETIME - timedelta(seconds=1))
    assert sessions.is_valid(cookie)
    clock.advance(timedelta(seconds=1))
    assert not sessions.is_valid(cookie)
    sessions.begin(token)
    assert len(store.notes(PAGE_SESSION)) == 1


def test_the_stored_session_is_no_valid_cookie(store: Store) -> None:
    sessions = LoginSessions(lambda: store)
    cookie = sessions.begin(create_token(store, None, None)[1].token_id)
    notes = store.notes(PAGE_SESSION)
    assert cookie not in str([(name, note.document) for name, note in notes.items()])
    assert not sessions.is_valid(next(iter(notes)).removeprefix(PAGE_SESSION))
    assert not sessions.is_valid("")


def test_an_expired_token_ends_its_session(store: Store) -> None:
    clock = Clock(datetime.now(UTC))
    sessions = LoginSessions(lambda: store, clock)
    cookie = sessions.begin(create_token(store, None, 3_600)[1].token_id)
    assert sessions.is_valid(cookie)
    clock.advance(timedelta(hours=1, seconds=1))
    assert not sessions.is_valid(cookie)


def test_over_tls_the_cookie_is_secure(store: Store) -> None:
    services = Services(
        store=lambda: store,
        authenticator=Authenticator(lambda: store),
        rate_limit=RateLimit(None),
        settings=WatchSettings(sweep_every_s=3_600, version="test"),
        page=PageSettings(Instance("vm1:8080", "bots", "vm1", "test", datetime.now(UTC), 1), over_tls=True),
        access_log=AccessLog("text", LineWriter(2)),
    )
    token = create_token(store, None, None)[0]
    answer = testing.TestClient(build_app(services, all_routes(services))).simulate_post(
        "/sign-in", body=urlencode({"token": token}), headers=FORM
    )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-keystore-session=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))


@pytest.mark.parametrize("outage", ["stopped", "frozen"])
def test_an_outage_is_reported_in_time_and_ends_by_itself(
    outage: str, relay: Relay, migrated_postgres_url: str, tmp_path: Path
) -> None:
    with serving_site(tmp_path, relay.url(migrated_postgres_url)) as site:
        cookie = {**BROWSER, "Cookie": site.cookie()}
        assert "Welcome" in site.ask("/", cookie).body
        with relay.refusing() if outage == "stopped" else relay.swallowing():
            began = monotonic()
            answer = site.ask("/", cookie)
            assert monotonic() - began < 10
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert "does not answer" in answer.body
            form = site.ask("/sign-in", BROWSER)
            assert (form.status, form.headers["retry-after"]) == (503, "5"), "before anybody types a token"
            assert "does not answer" in form.body
            assert "<form" not in form.body
            assert site.ask("/help", BROWSER).status == 200
            assert "postgresql" not in answer.body
            assert site.ask("/", {**cookie, "Accept": "*/*"}).headers["content-type"] == "application/problem+json"
        eventually(lambda: site.ask("/", cookie).status == 200, "the page is back", 60)
        assert "Welcome" in site.ask("/", cookie).body
        eventually(lambda: site.ask("/sign-in", BROWSER).status == 200, "the form is back")


def test_a_head_is_answered_as_a_get_without_its_body(site: Site) -> None:
    admin = {"Authorization": f"Bearer {site.admin}"}
    paths = ["/healthz", "/readyz", "/", "/sign-in", "/help", "/metrics", "/v1/health", "/openapi.json"]
    for path in [*paths, "/v1/companies/none/state", "/v1/companies/none/creds", "/nothing"]:
        got, headed = site.ask(path, admin), site.ask(path, admin, method="HEAD")
        assert (headed.status, headed.body) == (got.status, ""), path
        assert headed.headers["content-type"] == got.headers["content-type"], path
        assert int(headed.headers["content-length"]) > 0, path
    assert site.ask("/", BROWSER, method="HEAD").status == 303
    refused = site.ask("/v1/companies/none/keys", admin, method="HEAD")
    assert (refused.status, refused.headers["allow"]) == (405, "DELETE, POST, OPTIONS")
    assert site.ask("/sign-in", FORM, "token=x").body, "a POST has its body"


def test_a_browser_gets_errors_as_pages_and_a_program_as_problems(site: Site) -> None:
    for path, status, home in (("/wp-login.php", 404, "./"), ("/a/b/c", 404, "../../"), ("/metrics", 401, "./")):
        page, problem = site.ask(path, BROWSER), site.ask(path)
        assert (page.status, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert f'<a href="{home}">Status page</a>' in page.body
        assert page.headers["x-request-id"] in page.body
        assert "content-security-policy" in page.headers
        assert (problem.status, problem.headers["content-type"]) == (status, "application/problem+json")
    assert "www-authenticate" in site.ask("/metrics", BROWSER).headers
    assert "<script" not in site.ask("/<script>alert(1)</script>", BROWSER).body


def test_the_log_has_no_token_and_no_cookie(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    cookie = site.cookie().partition("=")[2]
    site.ask("/", {**BROWSER, "Cookie": f"keystore-session={cookie}"})
    logged = str(site.service.events)
    assert "POST /sign-in" in logged
    assert cookie not in logged
    assert site.admin.split("_", 2)[2] not in logged
