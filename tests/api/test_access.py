"""Who gets in: nobody without a token, a company's token to its company alone, a revoked one for 5 seconds at most."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api.access.authentication import IN_HAND, REMEMBERED_FOR_S, Caller, Gate
from api.access.tokens import hash_of
from api.access_log import AccessLog
from api.app import NO_ROUTE, Route, Services, routes_of
from api.problems import Problem
from keystore.records import TokenRecord
from monitor.watch_settings import WatchSettings
from rig.fixtures.clock import eventually
from tests.api.service import Answer, Api, ask, serving_api

OPEN = {"/healthz", "/readyz", "/", "/sign-in", "/sign-out"}
"""The status page looks for itself who asks (test_page.py)."""

PROBES = {"/healthz", "/readyz"}


def routes() -> list[Route]:
    """Every route of the application."""

    def nothing() -> None:
        raise AssertionError("the table of routes needs no store")

    return routes_of(Services(nothing, Gate(nothing, None), WatchSettings(), False, AccessLog("json")))  # type: ignore[arg-type]


def calls(access: str) -> Iterator[tuple[str, str]]:
    """Each method and path that a kind of access has."""
    for route in routes():
        for method in ("GET", "POST", "PUT", "DELETE"):
            if route.access == access and hasattr(route.resource, f"on_{method.lower()}"):
                yield method, route.path


COMPANY_CALLS, ADMIN_CALLS = list(calls("company")), list(calls("admin"))


def test_nothing_is_open_that_should_not_be() -> None:
    assert {route.path for route in routes() if route.access == "open"} == OPEN
    assert {path for _, path in ADMIN_CALLS} == {"/v1/health", "/metrics", "/openapi.json"}
    assert all(route.path.startswith("/v1/companies/{company}") for route in routes() if route.access == "company")
    assert len(COMPANY_CALLS) == 11


@pytest.mark.parametrize(("method", "path"), COMPANY_CALLS + ADMIN_CALLS)
def test_without_a_token_nothing_is_answered(api: Api, method: str, path: str) -> None:
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
def test_a_companys_token_is_refused_where_an_admins_is_needed(api: Api, method: str, path: str) -> None:
    answer = ask(api.port, method, path, token=api.token("a"))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_a_companys_token_reaches_its_company_under_either_spelling(api: Api, company: str) -> None:
    token = api.token(f"company_{company}")
    for named in (company, f"company_{company}"):
        assert ask(api.port, "GET", f"/v1/companies/{named}/state", token=token).status == 200


def test_probes_need_no_token_and_say_no_name(api: Api) -> None:
    for path in PROBES:
        answer = ask(api.port, "GET", path)
        assert answer.status == 200
        assert api.store.database.encode() not in answer.body


def test_a_token_whose_secret_is_wrong_by_one_character_is_refused(api: Api) -> None:
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


def test_a_revoked_token_ends_within_five_seconds(api: Api) -> None:
    token = api.token("a")

    def answered() -> int:
        return ask(api.port, "GET", "/v1/companies/a/state", token=token).status

    assert answered() == 200
    assert api.store.revoke_token(token.split("_")[1])
    eventually(lambda: answered() == 401, "the revoked token is refused", within_s=REMEMBERED_FOR_S + 1)


class _Tokens:
    """A store of one token, which counts how often it was asked."""

    def __init__(self, *tokens: TokenRecord) -> None:
        self.asked = 0
        self._tokens = {token.token_id: token for token in tokens}

    def find_token(self, token_id: str) -> TokenRecord | None:
        self.asked += 1
        return self._tokens.get(token_id)


SECRET = "s" * 43


def gate(requests_per_s: float | None = None, revoked: bool = False) -> tuple[Gate, _Tokens]:
    """A gate over one company's token, `kst_t_sss…`."""
    now = datetime.now(UTC)
    tokens = _Tokens(TokenRecord("t", hash_of(SECRET), "a", now, None, now if revoked else None))
    return Gate(lambda: tokens, requests_per_s), tokens  # type: ignore[arg-type, return-value]


def test_a_token_is_looked_up_once_in_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("api.access.authentication.monotonic", lambda: now)
    lets_in, tokens = gate()
    for later_s, asked in ((0.0, 1), (4.9, 1), (5.1, 2)):
        now = 100.0 + later_s
        assert lets_in.bearer(f"Bearer kst_t_{SECRET}") == Caller("t", "a")
        assert tokens.asked == asked


def test_what_does_not_look_like_a_token_is_never_looked_up() -> None:
    lets_in, tokens = gate()
    for token in ("kst_t", "kst_t_", "kst__" + SECRET, "kst_T_" + SECRET, "t_" + SECRET, "kst_t_" + SECRET + "\u00e9"):
        with pytest.raises(Problem):
            lets_in.bearer(f"Bearer {token}")
    assert tokens.asked == 0


def _refused(act: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as told:
        act()
    return told.value


def test_a_token_has_two_seconds_of_its_rate_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("api.access.authentication.monotonic", lambda: now)
    lets_in, _ = gate(requests_per_s=2)
    one, other = Caller("t", "a"), Caller("u", "b")

    def passes(caller: Caller) -> None:
        lets_in.enter(caller)
        lets_in.leave(caller)

    for _ in range(4):
        passes(one)
    refused = _refused(lambda: passes(one))
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    passes(other)
    now = 100.5
    passes(one)
    assert _refused(lambda: passes(one)).slug == "too-many-requests"


def test_a_token_has_so_many_requests_in_hand() -> None:
    lets_in, _ = gate()
    caller = Caller("t", "a")
    for _ in range(IN_HAND):
        lets_in.enter(caller)
    assert _refused(lambda: lets_in.enter(caller)).slug == "too-many-requests"
    lets_in.enter(Caller("u", "b"))
    lets_in.leave(caller)
    lets_in.enter(caller)


def test_too_many_requests_are_answered_with_when_to_come_back(tmp_path: object) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db", requests_per_s=1.0) as api:
        answers = [api.ask("GET", "/v1/companies/a/state") for _ in range(5)]
    assert {answer.status for answer in answers} == {200, 429}
    limited = next(answer for answer in answers if answer.status == 429)
    assert limited.problem == "too-many-requests"
    assert int(limited.headers["retry-after"]) >= 1


def test_no_page_of_another_site_is_let_in(api: Api) -> None:
    answer = api.ask("GET", "/v1/companies/a/state", Origin="https://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_log_says_what_was_asked_and_no_value(tmp_path: object, capfd: pytest.CaptureFixture[str]) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db") as api:
        path = "/v1/companies/company_a/keys"
        api.ask("POST", path, {"session": {"S3CRET-id": "S3CRET-value"}}, X_Request_Id="from-the-bot.1")
        api.ask("POST", path, b'{"session":{"x":S3CRET}}')
        api.ask("GET", "/v1/companies/a/state?token=S3CRET", X_Request_Id="bad id\t!")
        api.ask("GET", "/S3CRET")
        admin = api.admin
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"request"' in line]
    told = [(line["company"], line["route"], line["status"]) for line in lines]
    assert told == [
        ("a", "POST /v1/companies/{company}/keys", 204),
        ("a", "POST /v1/companies/{company}/keys", 400),
        ("a", "GET /v1/companies/{company}/state", 200),
        (None, f"GET {NO_ROUTE}", 404),
    ]
    assert lines[0]["request_id"] == "from-the-bot.1"
    assert "bad" not in lines[2]["request_id"]
    assert all(line["ms"] >= 0 and line["level"] == "info" and line["timestamp"] for line in lines)
    assert "S3CRET" not in json.dumps(lines)
    assert admin.rpartition("_")[2] not in json.dumps(lines)


def test_an_id_of_the_callers_own_comes_back(api: Api) -> None:
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


def test_a_token_soon_to_expire_is_in_force_until_then() -> None:
    from api.access.tokens import in_force

    now = datetime(2026, 1, 1, tzinfo=UTC)
    token = TokenRecord("t", b"", None, now, now + timedelta(seconds=1), None)
    assert in_force(token, now)
    assert not in_force(token, now + timedelta(seconds=1))
