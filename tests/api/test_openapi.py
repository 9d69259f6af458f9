"""The OpenAPI document is true: it has every route and method, and every answer is as described."""

import importlib
import json
import re
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from api.openapi import PATHS, openapi
from api.problems import TITLES
from rig.paths import PROJECT
from tests.api.service import Api
from tests.api.test_access import routes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("api")]

PAGES = {"/", "/sign-in", "/sign-out", "/help"}
"""Pages for people, which answer a browser in their own way."""

REQUESTS = 20 * settings().max_examples
"""Least number of generated requests, over all operations and both backends."""

OPERATIONS = sorted((path, method) for path, methods in PATHS.items() for method in methods)
WITH_INPUT = [(path, method) for path, method in OPERATIONS if "{company}" in path]
EACH = -(-REQUESTS // (2 * len(WITH_INPUT)))


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
def generated() -> ModuleType:
    """The module that generates requests. It is imported by the tests that use it alone."""
    return importlib.import_module("tests.api.generated_requests")


@pytest.fixture(scope="session")
def schema(apis: tuple[Api, ...], generated: ModuleType) -> Any:
    """The document as it is served."""
    return generated.read_schema(apis[0])


@pytest.mark.parametrize(("path", "method"), WITH_INPUT)
def test_generated_requests_are_answered_as_described(
    apis: tuple[Api, ...], generated: ModuleType, schema: Any, path: str, method: str
) -> None:
    assert generated.send_in_each_mode(apis, schema[path][method.upper()], EACH // 2 + 1) >= EACH


@pytest.mark.parametrize(("path", "method"), sorted(set(OPERATIONS) - set(WITH_INPUT)))
def test_routes_without_input_answer_as_described(
    apis: tuple[Api, ...], generated: ModuleType, schema: Any, path: str, method: str
) -> None:
    assert generated.send_as_described(apis, schema[path][method.upper()]) == 1
