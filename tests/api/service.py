"""The API as a bot uses it: worker processes on a real socket, and a plain HTTP client."""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from api.access.tokens import create_token
from api.workers.config import WorkerConfig
from api.workers.supervisor import Workers, listen
from keystore import Store, open_store
from keystore.records import DEFAULT_QUOTA
from keystore.ttl import DIARY, Policy

TIMEOUT_S = 30.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The name of the problem, which must be complete."""
        assert self.headers["content-type"] == "application/problem+json", self
        document = self.json
        assert document["status"] == self.status
        assert document["detail"]
        assert document["request_id"] == self.headers["x-request-id"]
        return str(document["type"]).removeprefix("urn:signal-keystore:")


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """Send a request over its own connection, and return the answer; a body that isn't bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    own_headers = {**({} if sent is None else JSON), **({} if token is None else {"Authorization": f"Bearer {token}"})}
    try:
        connection.request(method, path, sent, {**own_headers, **headers})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


class Api:
    """A served database: the port, a store that bypasses the API, an admin token, and the workers."""

    def __init__(self, port: int, store: Store, admin: str, workers: Workers) -> None:
        self.port = port
        self.store = store
        self.admin = admin
        self.workers = workers

    def token(self, company: str | None = None, *further: str, expires_in_s: float | None = None) -> str:
        """Create a token for one or more companies, by default for an admin."""
        return create_token(self.store, company, expires_in_s, further)[0]

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Answer:
        """Send a request, by default with the admin token; `Keystore_Epoch="1"` sets the header Keystore-Epoch."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.port, method, path, body, token=token or self.admin, headers=named)

    def company(self, company: str) -> str:
        """The first part of a company's paths."""
        return f"/v1/companies/{company}"


def worker_config(url: str, **changes: Any) -> WorkerConfig:
    """The config that workers get in tests, with changes."""
    fields: dict[str, Any] = {
        "url": url,
        "guard": True,
        "quota": DEFAULT_QUOTA,
        "connections": 8,
        "log": "json",
        "sweep_every_s": 21_600.0,
        "load_budget_ms": 750.0,
        "requests_per_s": None,
        "tls_cert": None,
        "tls_key": None,
        "over_tls": False,
        "version": "test",
        "program": "python run.py",
    }
    return WorkerConfig(**{**fields, **changes})


@contextmanager
def serving_api(url: str, count: int = 1, policy: Policy = DIARY, **changes: Any) -> Iterator[Api]:
    """Serve the API on the database at `url`, with these lifetimes; afterwards no worker is left."""
    with open_store(url, policy=policy) as store:
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        workers = Workers(listener, worker_config(url, **changes), count, dict(os.environ))
        workers.start()
        try:
            yield Api(port, store, create_token(store, None, None)[0], workers)
        finally:
            assert workers.stop(10), "a worker had to be killed"
