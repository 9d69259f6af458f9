"""The service with its status page, as a real process over real HTTP."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode, urlsplit

from api.access.tokens import create_token
from keystore import open_store
from rig.program import Service, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
FORM = {**BROWSER, "Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Answer:
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


@dataclass(frozen=True)
class Site:
    """A running service: its URL, its database, an admin token, and the process."""

    url: str
    store_url: str = field(repr=False)
    admin: str = field(repr=False)
    service: Service

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: str | None = None,
        method: str | None = None,
    ) -> Answer:
        """Send a request: by default a GET, or a POST if there is a body."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers))
            response = connection.getresponse()
            lower_headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lower_headers, response.read().decode())
        finally:
            connection.close()

    def as_admin(self, path: str, **headers: str) -> Answer:
        """Send a GET with the admin token."""
        return self.ask(path, {"Authorization": f"Bearer {self.admin}", **headers})

    def sign_in(self, token: str, **headers: str) -> Answer:
        """Send the form."""
        return self.ask("/sign-in", {**FORM, **headers}, urlencode({"token": token}))

    def cookie(self) -> str:
        """Begin a session, and return its cookie as a browser sends it."""
        answer = self.sign_in(self.admin)
        assert answer.status == 303, answer
        return answer.headers["set-cookie"].partition(";")[0]


@contextmanager
def serving_site(folder: Path, store_url: str, **settings: str) -> Iterator[Site]:
    """Run the service on a free port."""
    with open_store(store_url) as store:
        admin = create_token(store, None, None)[0]
    with serving(folder / "log", store_url, cwd=folder, KEYSTORE_HTTP="127.0.0.1:0", **settings) as service:
        yield Site(str(service.logged("serving")["http"]), store_url, admin, service)
