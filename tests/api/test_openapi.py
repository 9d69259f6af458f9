"""The OpenAPI document is true: it has every route and method, and every answer is as described."""

import json
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import BaseSchema

from api.openapi import PATHS, openapi
from api.problems import TITLES
from rig.paths import PROJECT
from tests.api.service import Api
from tests.api.test_access import routes

pytestmark = pytest.mark.slow

PAGES = {"/", "/sign-in", "/sign-out", "/help"}
"""Pages for people, which answer a browser in their own way."""

REQUESTS = 2_000
"""Least number of generated requests, over all operations and both backends."""

OPERATIONS = sorted((path, method) for path, methods in PATHS.items() for method in methods)
WITH_INPUT = [(path, method) for path, method in OPERATIONS if "{company}" in path]
EACH = -(-REQUESTS // (2 * len(WITH_INPUT)))

load_all_checks()
ALWAYS = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
MODES = {
    schemathesis.GenerationMode.POSITIVE: ALWAYS,
    schemathesis.GenerationMode.NEGATIVE: [*ALWAYS, CHECKS.get_one("negative_data_rejection")],
}
"""Checks of the answers to requests that are as described, and to those that are not and must be refused."""


def test_every_route_and_method_is_described() -> None:
    served = {
        (route.path, method)
        for route in routes()
        for method in ("get", "post", "put", "delete", "patch", "head")
        if hasattr(route.resource, f"on_{method}")
    }
    assert served == set(OPERATIONS)


def test_every_problem_is_described_where_it_can_occur() -> None:
    for path, method in ((path, method) for path, method in OPERATIONS if path not in PAGES):
        statuses = {int(status) for status in PATHS[path][method]["responses"]}
        open_to_all = PATHS[path][method].get("security") == []
        body = "requestBody" in PATHS[path][method]
        assert 500 in statuses
        assert ({401, 403, 429} <= statuses) != open_to_all
        assert ({413, 415} <= statuses) == body
        assert (409 in statuses) == ("Keystore-Epoch" in str(PATHS[path][method]) or (path, method) == _LEASE)
    described = {
        int(status) for methods in PATHS.values() for operation in methods.values() for status in operation["responses"]
    }
    assert {status for status, _ in TITLES.values()} - described == {405}, "405 is for what isn't described"


_LEASE = ("/v1/companies/{company}/lease", "post")


def test_this_document_is_served(api: Api) -> None:
    assert api.ask("GET", "/openapi.json").json == json.loads(json.dumps(openapi("test")))


def test_the_docs_name_every_route_and_problem() -> None:
    docs = (PROJECT / "docs" / "http.md").read_text(encoding="utf-8")
    for path, method in OPERATIONS:
        short = path.removeprefix("/v1/companies/{company}") or "/v1/companies/{company}"
        assert re.search(rf"`{method.upper()} \S*{re.escape(short)}", docs), f"{method} {path}"
    assert all(f"`{slug}`" in docs for slug in TITLES)


@pytest.fixture(scope="session")
def apis(sqlite_api: Api, postgres_api: Api) -> tuple[Api, ...]:
    """The API on both backends, which get the same generated requests: generating takes longer than answering."""
    return sqlite_api, postgres_api


@pytest.fixture(scope="session")
def schema(apis: tuple[Api, ...]) -> BaseSchema:
    """The document as it is served."""
    refused = [str(status) for status in (400, 401, 403, 404, 405, 413, 415)]  # The library's own list lacks 413.
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": refused}}})
    return schemathesis.openapi.from_dict(apis[0].ask("GET", "/openapi.json").json, config=config)


@pytest.mark.parametrize(("path", "method"), WITH_INPUT)
def test_generated_requests_are_answered_as_described(
    apis: tuple[Api, ...], schema: BaseSchema, path: str, method: str
) -> None:
    operation: Any = schema[path][method.upper()]
    sent = sum(_send_generated(apis, operation, mode, EACH // 2 + 1) for mode in MODES)
    assert sent >= EACH


@pytest.mark.parametrize(("path", "method"), sorted(set(OPERATIONS) - set(WITH_INPUT)))
def test_routes_without_input_answer_as_described(
    apis: tuple[Api, ...], schema: BaseSchema, path: str, method: str
) -> None:
    assert _send_generated(apis, schema[path][method.upper()], schemathesis.GenerationMode.POSITIVE, 1) == 1


def _send_generated(apis: tuple[Api, ...], operation: Any, mode: schemathesis.GenerationMode, most: int) -> int:
    """Send up to `most` generated requests to each backend, check the answers, and return the number of requests."""
    sent = 0

    @settings(
        max_examples=most,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answers_as_described(case: Any) -> None:
        nonlocal sent
        sent += 1
        for api in apis:
            headers = {"Authorization": f"Bearer {api.admin}"}
            response = case.call(base_url=f"http://127.0.0.1:{api.port}", headers=headers)
            case.validate_response(response, checks=MODES[mode])

    answers_as_described()
    return sent
