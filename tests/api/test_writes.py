"""Writes of several companies in one request: a token reaches its own, and each company has an outcome of its own."""

from typing import Any

import pytest

from tests.api.service import Api

pytestmark = pytest.mark.xdist_group("api")

PATH = "/v1/writes"


def slugs(outcomes: list[Any]) -> list[str | None]:
    """The name of each outcome's problem."""
    return [outcome and outcome["type"].removeprefix("urn:signal-keystore:") for outcome in outcomes]


def test_an_admin_writes_for_all_and_each_has_its_outcome(api: Api, company: str) -> None:
    leased, other = f"{company}l", f"{company}o"
    lease = api.ask("POST", f"/v1/companies/{leased}/lease", {"holder": "h", "ttl_s": 60}).json
    writes: list[dict[str, Any]] = [
        {"company": company, "creds": {"a": 1}, "keys": {"session": {"x": 1}}},
        {"company": leased, "keys": {"session": {"x": 1}}},
        {"company": other, "keys": {"session": {"": 1}}},
        {"company": "no such id!", "keys": {}},
    ]
    answer = api.ask("POST", PATH, {"writes": writes})
    assert answer.status == 200
    assert slugs(answer.json["outcomes"]) == [None, "lease-lost", "invalid-input", "invalid-input"]
    assert api.ask("GET", f"/v1/companies/{company}/state").json["keys"] == {"session": {"x": 1}}
    assert api.ask("GET", f"/v1/companies/{leased}/state").json["keys"] == {}
    writes = [{"company": leased, "epoch": lease["epoch"], "seq": 1, "keys": {"session": {"x": 1}}}]
    assert api.ask("POST", PATH, {"writes": writes}).json == {"outcomes": [None]}


def test_a_bots_token_reaches_its_own_company_alone(api: Api, company: str) -> None:
    other = f"{company}x"
    writes = [{"company": name, "keys": {"session": {"x": 1}}} for name in (company, other)]
    answer = api.ask("POST", PATH, {"writes": writes}, token=api.token(company))
    assert slugs(answer.json["outcomes"]) == [None, "forbidden"]
    assert api.ask("GET", f"/v1/companies/{other}/state").json["keys"] == {}
    assert api.ask("POST", PATH, {"writes": writes}, token="kst_000000000000_wrong").status == 401


def test_a_token_of_several_companies_writes_for_each_of_them_and_no_other(api: Api, company: str) -> None:
    first, second, other = f"{company}a", f"{company}b", f"{company}c"
    names = (first, other, f"company_{second}", "")
    writes = [{"company": name, "keys": {"session": {"x": 1}}} for name in names]
    answer = api.ask("POST", PATH, {"writes": writes}, token=api.token(first, second))
    assert slugs(answer.json["outcomes"]) == [None, "forbidden", None, "invalid-input"]
    states = [api.ask("GET", f"/v1/companies/{name}/state").json["keys"] for name in (first, second, other)]
    assert states == [{"session": {"x": 1}}, {"session": {"x": 1}}, {}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"writes": []}, 400),
        ({"writes": [{"keys": {}}]}, 400),
        ({"writes": [{"company": "a", "surprise": 1}]}, 400),
        ({"writes": [{"company": "a", "keys": {"s": {"x": 1}}}] * 2}, 400),
        ({"writes": [{"company": f"{n}", "keys": {}} for n in range(201)]}, 400),
        ({"writes": [{"company": "a", "keys": {"s": {f"{n}": 1 for n in range(5_001)}}}] * 2}, 413),
    ],
)
def test_what_is_too_much_or_no_write_is_refused_as_a_whole(api: Api, body: Any, status: int) -> None:
    assert api.ask("POST", PATH, body).status == status


def test_the_lease_and_the_state_are_one_request(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("POST", f"{path}/state", {"creds": {"a": 1}, "keys": {"session": {"x": [1]}}})
    answer = api.ask("POST", f"{path}/lease", {"holder": "h", "ttl_s": 60, "state": True}).json
    assert answer["state"] == api.ask("GET", f"{path}/state").json
    assert answer["state"]["epoch"] == answer["epoch"] == 1
    assert "state" not in api.ask("POST", f"{path}/lease", {"holder": "h", "ttl_s": 60}).json
