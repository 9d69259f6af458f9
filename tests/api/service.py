"""The API as a bot meets it: worker processes on a real socket, and a client that speaks plain HTTP to them."""

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
from api.workers.supervisor import Address, Workers, listen
from keystore import Store, open_store
from keystore.ttl import DIARY

TIMEOUT_S = 30.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """Which problem it is."""
        assert self.headers["content-type"] == "application/problem+json", self
        told = self.json
        assert told["status"] == self.status
        assert told["detail"]
        assert told["request_id"] == self.headers["x-request-id"]
        return str(told["type"]).removeprefix("urn:signal-keystore:")


def ask(
    port: int,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """One request over a connection of its own; a body that isn't bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**({} if sent is None else JSON), **({} if token is None else {"Authorization": f"Bearer {token}"})}
    try:
        connection.request(method, path, sent, {**given, **headers})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


class Api:
    """A served database: its port, its store behind the API's back, and an admin's token."""

    def __init__(self, port: int, store: Store, admin: str, workers: Workers) -> None:
        self.port = port
        self.store = store
        self.admin = admin
        self.workers = workers

    def token(self, company: str | None = None, expires_in_s: float | None = None) -> str:
        """A new token."""
        return create_token(self.store, company, expires_in_s).token

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Answer:
        """One request, an admin's where no token is given; `Keystore_Epoch="1"` is the header Keystore-Epoch."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.port, method, path, body, token=token or self.admin, headers=named)

    def company(self, company: str) -> str:
        """The beginning of a company's paths."""
        return f"/v1/companies/{company}"


def orders(url: str, **changed: Any) -> WorkerConfig:
    """What a worker is told by default."""
    given: dict[str, Any] = {
        "url": url,
        "policy": DIARY,
        "guard": True,
        "connections": 8,
        "log": "json",
        "sweep_every_s": 21_600.0,
        "load_budget_ms": 750.0,
        "requests_per_s": None,
        "tls": None,
        "over_tls": False,
        "version": "test",
    }
    return WorkerConfig(**{**given, **changed})


@contextmanager
def serving_api(url: str, count: int = 1, **changed: Any) -> Iterator[Api]:
    """The API on the database at `url`; afterwards no worker is left."""
    with open_store(url) as store:
        listening = listen(Address("127.0.0.1", 0))
        port = listening.getsockname()[1]
        workers = Workers(listening, orders(url, **changed), count, dict(os.environ))
        workers.start()
        try:
            yield Api(port, store, create_token(store, None, None).token, workers)
        finally:
            assert workers.stop(10), "a worker had to be killed"
