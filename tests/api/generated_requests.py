"""Requests that Schemathesis generates from the OpenAPI document, and its checks of their answers.

Importing it takes as long as a hundred tests, so only the tests that use it import this module.
"""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests import Session
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import BaseSchema

from tests.api.service import Api

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


def read_schema(api: Api) -> BaseSchema:
    """Read the document as it is served."""
    refused = [str(status) for status in (400, 401, 403, 404, 405, 413, 415)]  # The library's own list lacks 413.
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": refused}}})
    return schemathesis.openapi.from_dict(api.ask("GET", "/openapi.json").json, config=config)


def send_in_each_mode(apis: tuple[Api, ...], operation: Any, most: int) -> int:
    """Send up to `most` requests that are as described and as many that are not; return the number of requests."""
    return sum(_send_generated(apis, operation, mode, most) for mode in MODES)


def send_as_described(apis: tuple[Api, ...], operation: Any) -> int:
    """Send a request that is as described to each backend; return the number of requests."""
    return _send_generated(apis, operation, schemathesis.GenerationMode.POSITIVE, 1)


def _send_generated(apis: tuple[Api, ...], operation: Any, mode: schemathesis.GenerationMode, most: int) -> int:
    """Send up to `most` generated requests to each backend, check the answers, and return the number of requests."""
    sent = 0
    sessions = [Session() for _ in apis]  # Which keep their connections open.

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
        for api, session in zip(apis, sessions, strict=True):
            headers = {"Authorization": f"Bearer {api.admin}"}
            response = case.call(base_url=f"http://127.0.0.1:{api.port}", headers=headers, session=session)
            case.validate_response(response, checks=MODES[mode])

    answers_as_described()
    for session in sessions:
        session.close()
    return sent
