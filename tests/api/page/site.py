"""The service with its status page, as the page's tests see it: a real process, over real HTTP."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode, urlsplit

from api.access.tokens import create_token
from keystore import open_store
from rig.commands import Service, serving

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
FORM = {**BROWSER, "Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Answer:
    """A status, headers by their lower-case name, and a body."""

    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


@dataclass(frozen=True)
class Site:
    """Where the service is, on which database, and an admin's token."""

    url: str
    store_url: str = field(repr=False)
    admin: str = field(repr=False)
    service: Service

    def ask(self, path: str, headers: Mapping[str, str] = MappingProxyType({}), body: str | None = None) -> Answer:
        """A GET, or with a body a POST."""
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, body, dict(headers))
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, told, response.read().decode())
        finally:
            connection.close()

    def as_admin(self, path: str, **headers: str) -> Answer:
        """A GET with the admin's token."""
        return self.ask(path, {"Authorization": f"Bearer {self.admin}", **headers})

    def sign_in(self, token: str, **headers: str) -> Answer:
        """Sends the form."""
        return self.ask("/sign-in", {**FORM, **headers}, urlencode({"token": token}))

    def cookie(self) -> str:
        """Of a new session, as a browser sends it."""
        answer = self.sign_in(self.admin)
        assert answer.status == 303, answer
        return answer.headers["set-cookie"].partition(";")[0]


@contextmanager
def serving_site(folder: Path, store_url: str, **settings: str) -> Iterator[Site]:
    """The service on a free port."""
    with open_store(store_url) as store:
        admin = create_token(store, None, None).token
    with serving(folder / "log", store_url, cwd=folder, KEYSTORE_HTTP="127.0.0.1:0", **settings) as service:
        yield Site(str(service.logged("serving")["http"]), store_url, admin, service)
