"""Access to the API: no request without a token, a company's token for that company alone.

A revoked token is refused after 5 seconds at most.
"""

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api.access.authentication import CACHED_FOR_S, Authenticator
from api.access.rate_limit import MAX_IN_PROGRESS, RateLimit
from api.access.strangers import BURST, network_of
from api.access.tokens import hash_of, in_force
from api.access_log import AccessLog
from api.app import NO_ROUTE, Route, Services, all_routes
from api.openapi import PATHS
from api.page.routes import PageSettings
from api.problems import Problem
from keystore import Store
from keystore.records import TokenRecord
from monitor.instances import Instance
from monitor.running.logs import LineWriter
from monitor.watch_settings import WatchSettings
from rig.waiting import eventually
from tests.api.service import Answer, Api, ask, serving_api

pytestmark = pytest.mark.xdist_group("api")

OPEN = {"/healthz", "/readyz", "/", "/sign-in", "/sign-out", "/help"}
"""Routes without a token; the status page checks its callers itself (test_page.py)."""

PROBES = {"/healthz", "/readyz"}


def routes() -> list[Route]:
    """Every route of the application."""

    def no_store() -> Store:
        raise AssertionError("the table of routes needs no store")

    authenticator = Authenticator(no_store)
    page = PageSettings(Instance("vm1:8080", "bots", "vm1", "test", datetime.now(UTC), 1))
    access_log = AccessLog("json", LineWriter(2))
    return all_routes(Services(no_store, authenticator, RateLimit(None), WatchSettings(), page, access_log))


def calls(access: str) -> Iterator[tuple[str, str]]:
    """Each method and path with this access."""
    for route in routes():
        for method in ("GET", "POST", "PUT", "DELETE"):
            if route.access == access and hasattr(route.resource, f"on_{method.lower()}"):
                yield method, route.path


COMPANY_CALLS, ADMIN_CALLS = list(calls("company")), list(calls("admin"))


def test_only_these_routes_are_open() -> None:
    assert {route.path for route in routes() if route.access == "open"} == OPEN
    assert {path for _, path in ADMIN_CALLS} == {"/v1/health", "/metrics", "/openapi.json"}
    assert all(route.path.startswith("/v1/companies/{company}") for route in routes() if route.access == "company")
    assert len(COMPANY_CALLS) == 12


@pytest.mark.parametrize(("method", "path"), COMPANY_CALLS + ADMIN_CALLS)
def test_a_request_without_a_token_is_refused(api: Api, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
        answer = ask(api.port, method, path.format(company="a"), b"{}", headers=headers)
        assert (answer.status, answer.problem) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), COMPANY_CALLS)
def test_another_companys_token_is_refused(api: Api, company: str, method: str, path: str) -> None:
    api.store.set(company, {"session": {"x": b"1"}}, creds=b"{}")
    for named in (company, f"company_{company}"):
        answer = ask(api.port, method, path.format(company=named), b"{}", token=api.token(f"{company}-other"))
        assert (answer.status, answer.problem) == (403, "forbidden")
    assert api.store.load(company).total == 1


@pytest.mark.parametrize(("method", "path"), ADMIN_CALLS)
def test_a_companys_token_is_refused_on_admin_routes(api: Api, method: str, path: str) -> None:
    answer = ask(api.port, method, path, token=api.token("a"))
    assert (answer.status, answer.problem) == (403, "forbidden")


COMPANY_OPERATIONS = [
    (method.upper(), path) for path, methods in PATHS.items() if "{company}" in path for method in methods
]


def test_a_token_of_several_companies_reaches_each_of_them_and_no_other(api: Api, company: str) -> None:
    first, second, other = f"{company}first", f"{company}second", f"{company}other"
    api.store.set(other, {"session": {"x": b"1"}}, creds=b"{}")
    token = api.token(first, f"company_{second}")
    assert len(COMPANY_OPERATIONS) == len(COMPANY_CALLS)
    for method, path in COMPANY_OPERATIONS:
        for named in (first, second, f"company_{second}"):
            answer = ask(api.port, method, path.format(company=named), b"{}", token=token)
            assert answer.status in (200, 204, 400, 404), (method, path)
        for named in (other, f"company_{other}", f"{second}x", f"{first}{second}", f"{first},{second}"):
            answer = ask(api.port, method, path.format(company=named), b"{}", token=token)
            assert answer.status in (400, 403), (method, path)
            if named.endswith(other):
                assert answer.problem == "forbidden"
    for method, path in ADMIN_CALLS:
        assert ask(api.port, method, path, token=token).problem == "forbidden"
    assert api.store.load(other).total == 1
    assert ask(api.port, "GET", "/", token=token).status == 403


def test_a_bot_of_several_companies_leases_writes_and_reads_each(api: Api, company: str) -> None:
    companies = [f"{company}-{number}" for number in range(3)]
    token = api.token(*companies)
    for named in companies:
        path = api.company(named)
        epoch = api.ask("POST", f"{path}/lease", {"holder": "h", "ttl_s": 60}, token=token).json["epoch"]
        written = api.ask(
            "POST", f"{path}/keys", {"session": {"x": named}}, token=token, Keystore_Epoch=str(epoch), Keystore_Seq="1"
        )
        assert written.status == 204
        assert api.ask("GET", f"{path}/state", token=token).json["keys"] == {"session": {"x": named}}
        assert api.ask("DELETE", f"{path}/lease?holder=h&epoch={epoch}", token=token).status == 204


def test_a_purged_company_is_refused_within_five_seconds_and_the_others_are_served(api: Api, company: str) -> None:
    first, second = f"{company}a", f"{company}b"
    token = api.token(first, second)

    def status(named: str) -> int:
        return ask(api.port, "GET", f"/v1/companies/{named}/state", token=token).status

    assert (status(first), status(second)) == (200, 200)
    api.store.purge(first)
    eventually(lambda: status(first) == 403, "the purged company is refused", within_s=CACHED_FOR_S + 3)
    assert status(second) == 200


def test_a_companys_token_is_good_for_both_spellings_of_its_id(api: Api, company: str) -> None:
    token = api.token(f"company_{company}")
    for named in (company, f"company_{company}"):
        assert ask(api.port, "GET", f"/v1/companies/{named}/state", token=token).status == 200


def test_probes_need_no_token_and_name_no_database(api: Api) -> None:
    for path in PROBES:
        answer = ask(api.port, "GET", path)
        assert answer.status == 200
        assert api.store.database.encode() not in answer.body


def test_a_token_that_is_wrong_by_one_character_is_refused(api: Api) -> None:
    token = api.token("a")
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    for sent in (
        wrong,
        token + "A",
        token[:-1],
        token.replace("kst_", "KST_"),
        token.partition("_")[2],
        "kst_x_" + "y" * 43,
    ):
        assert ask(api.port, "GET", "/v1/companies/a/state", token=sent).status == 401
    assert ask(api.port, "GET", "/v1/companies/a/state", token=token).status == 200


def test_an_expired_token_is_refused(api: Api) -> None:
    assert ask(api.port, "GET", "/v1/companies/a/state", token=api.token("a", expires_in_s=-1)).status == 401
    assert ask(api.port, "GET", "/v1/companies/a/state", token=api.token("a", expires_in_s=60)).status == 200


def test_a_revoked_token_is_refused_within_five_seconds(api: Api) -> None:
    token = api.token("a")

    def status() -> int:
        return ask(api.port, "GET", "/v1/companies/a/state", token=token).status

    assert status() == 200
    assert api.store.revoke_token(token.split("_")[1])
    eventually(lambda: status() == 401, "the revoked token is refused", within_s=CACHED_FOR_S + 3)


class _Tokens:
    """A store that only has tokens, and counts its look-ups."""

    def __init__(self, *tokens: TokenRecord) -> None:
        self.lookups = 0
        self._tokens = {token.token_id: token for token in tokens}

    def find_token(self, token_id: str) -> TokenRecord | None:
        self.lookups += 1
        return self._tokens.get(token_id)


SECRET = "s" * 43


def authenticator_of_one_token() -> tuple[Authenticator, _Tokens]:
    """An authenticator for the token `kst_t_sss…` of the company `a`, and its store."""
    tokens = _Tokens(TokenRecord("t", hash_of(SECRET), "a", datetime.now(UTC), None, None))
    return Authenticator(lambda: tokens), tokens  # type: ignore[arg-type, return-value]


def test_a_token_is_looked_up_once_in_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("api.access.authentication.monotonic", lambda: now)
    authenticator, tokens = authenticator_of_one_token()
    for later_s, lookups in ((0.0, 1), (4.9, 1), (5.1, 2)):
        now = 100.0 + later_s
        caller = authenticator.bearer(f"Bearer kst_t_{SECRET}", "192.0.2.1")
        assert (caller.token_id, caller.company_id) == ("t", "a")
        assert tokens.lookups == lookups


def test_a_malformed_token_is_never_looked_up() -> None:
    authenticator, tokens = authenticator_of_one_token()
    for token in ("kst_t", "kst_t_", "kst__" + SECRET, "kst_T_" + SECRET, "t_" + SECRET, "kst_t_" + SECRET + "\u00e9"):
        with pytest.raises(Problem):
            authenticator.bearer(f"Bearer {token}", "192.0.2.1")
    assert tokens.lookups == 0


def test_unknown_tokens_are_looked_up_once_and_limited_by_address() -> None:
    authenticator, tokens = authenticator_of_one_token()

    def refused(token_id: str, address: str) -> int:
        return _refused(lambda: authenticator.bearer(f"Bearer kst_{token_id}_{SECRET}", address)).status

    for number in range(BURST):
        assert refused(f"a{number}", "192.0.2.1") == 401
        assert refused(f"a{number}", "192.0.2.1") == 401
    assert tokens.lookups == BURST
    assert refused("b", "192.0.2.1") == 429
    assert _refused(lambda: authenticator.seen(f"Bearer kst_c_{SECRET}", "192.0.2.1")).status == 429
    assert tokens.lookups == BURST
    assert refused("b", "192.0.2.2") == 401, "another address has its own allowance"


def test_a_token_that_was_known_is_served_from_an_address_that_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("api.access.authentication.monotonic", lambda: now)
    authenticator, _ = authenticator_of_one_token()
    authenticator.bearer(f"Bearer kst_t_{SECRET}", "192.0.2.1")
    for number in range(BURST):
        _refused(lambda number=number: authenticator.bearer(f"Bearer kst_a{number}_{SECRET}", "192.0.2.1"))  # type: ignore[misc]
    now += CACHED_FOR_S + 1
    assert authenticator.bearer(f"Bearer kst_t_{SECRET}", "192.0.2.1").token_id == "t"


def test_an_ipv6_address_counts_with_its_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::2:3:4:5") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")


def _refused(act: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as raised:
        act()
    return raised.value


def test_a_token_may_use_two_seconds_of_its_rate_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("api.access.rate_limit.monotonic", lambda: now)
    rate_limit = RateLimit(2)

    def request(token_id: str) -> None:
        rate_limit.acquire(token_id)
        rate_limit.release(token_id)

    for _ in range(4):
        request("t")
    refused = _refused(lambda: request("t"))
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    request("another")
    now = 100.5
    request("t")
    assert _refused(lambda: request("t")).slug == "too-many-requests"


def test_the_requests_in_progress_of_a_token_are_limited() -> None:
    rate_limit = RateLimit(None)
    for _ in range(MAX_IN_PROGRESS):
        rate_limit.acquire("t")
    assert _refused(lambda: rate_limit.acquire("t")).slug == "too-many-requests"
    rate_limit.acquire("another")
    rate_limit.release("t")
    rate_limit.acquire("t")


def test_too_many_requests_get_a_retry_after(tmp_path: object) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db", requests_per_s=1.0) as api:
        answers = [api.ask("GET", "/v1/companies/a/state") for _ in range(5)]
    assert {answer.status for answer in answers} == {200, 429}
    limited = next(answer for answer in answers if answer.status == 429)
    assert limited.problem == "too-many-requests"
    assert int(limited.headers["retry-after"]) >= 1


def test_pages_of_other_sites_get_no_cors_headers(api: Api) -> None:
    answer = api.ask("GET", "/v1/companies/a/state", Origin="https://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_log_has_every_request_and_no_value(tmp_path: object, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db") as api:
        path = "/v1/companies/company_a/keys"
        api.ask("POST", path, {"session": {"S3CRET-id": "S3CRET-value"}}, X_Request_Id="from-the-bot.1")
        api.ask("POST", path, b'{"session":{"x":S3CRET}}')
        api.ask("GET", "/v1/companies/a/state?token=S3CRET", X_Request_Id="bad id\t!")
        api.ask("GET", "/S3CRET")
        admin = api.admin
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"request"' in line]
    requests = [(line["company"], line["route"], line["status"]) for line in lines]
    assert requests == [
        ("a", "POST /v1/companies/{company}/keys", 204),
        ("a", "POST /v1/companies/{company}/keys", 400),
        ("a", "GET /v1/companies/{company}/state", 200),
        (None, f"GET {NO_ROUTE}", 404),
    ]
    assert lines[0]["request_id"] == "from-the-bot.1"
    assert "bad" not in lines[2]["request_id"]
    assert all(line["ms"] >= 0 and line["level"] == "info" and line["timestamp"] for line in lines)
    assert "S3CRET" not in json.dumps(lines)
    assert admin.split("_", 2)[2] not in json.dumps(lines)


def test_a_request_id_of_the_caller_is_sent_back(api: Api) -> None:
    answer = api.ask("GET", "/v1/companies/b@d/state", X_Request_Id="abc-1")
    assert (answer.status, answer.json["request_id"]) == (400, "abc-1")


def _is_problem(answer: Answer, slug: str) -> bool:
    return answer.problem == slug


def test_unknown_addresses_and_methods_are_problems(api: Api) -> None:
    assert _is_problem(api.ask("GET", "/v2"), "not-found")
    assert _is_problem(api.ask("GET", "/v1/companies/a/state/"), "not-found")
    refused = api.ask("PATCH", "/v1/companies/a/state")
    assert _is_problem(refused, "method-not-allowed")
    assert set(refused.headers["allow"].split(", ")) == {"GET", "POST", "OPTIONS"}


def test_a_token_is_in_force_until_it_expires() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    token = TokenRecord("t", b"", None, now, now + timedelta(seconds=1), None)
    assert in_force(token, now)
    assert not in_force(token, now + timedelta(seconds=1))


def test_a_strangers_odd_header_changes_nothing_for_others(api: Api) -> None:
    odd = {"Authorization": "Bearer kst_é", "Content-Type": "application/json", "Content-Length": "2"}
    head = "".join(f"{name}: {value}\r\n" for name, value in odd.items())
    for _ in range(8):  # Each worker gets some.
        with socket.create_connection(("127.0.0.1", api.port), 10) as stranger:
            stranger.sendall(f"POST /v1/companies/1/keys HTTP/1.1\r\nHost: x\r\n{head}\r\n{{}}".encode())
            assert stranger.recv(64).startswith(b"HTTP/1.1 401 ")
    for _ in range(8):
        assert api.ask("POST", "/v1/companies/odd/keys", {"session": {"a": 1}}).status == 204
