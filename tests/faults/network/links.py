"""The links that a network may cut, each with a relay: bot to service, service to database, bot to database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keystore import open_store
from rig.fixtures.postgres import OwnServer
from rig.relay import Relay, free_port, relay_to
from tests.acceptance.in_process import run_json
from tests.clients.restartable_service import RestartableService, login_address
from tests.faults.calls import http_get
from tests.faults.conftest import ACCOUNTS
from tests.faults.writers import token_for

LINKS = ("bot to service", "service to database", "bot to database")


@dataclass(frozen=True)
class Link:
    """Bots whose way to the store has a relay in it, and the calls that a test makes while the relay fails.

    `bounds_s` has the most seconds that each call may take.
    """

    name: str
    relay: Relay
    url: str = field(repr=False)
    token: str = field(repr=False)
    calls: Mapping[str, Callable[[], object]]
    bounds_s: Mapping[str, float]


@contextmanager
def relayed(name: str, server: OwnServer, home: Path) -> Iterator[Link]:
    """Run what a link needs: a migrated database, and the service unless bots are straight on PostgreSQL."""
    run_json("migrate", url=server.url)
    with ExitStack() as running:
        if name == "bot to database":
            relay = running.enter_context(relay_to(server.url))
            store = running.enter_context(open_store(relay.url(server.url)))
            calls: dict[str, Callable[[], object]] = {"a call from Python": lambda: store.load("probe")}
            yield Link(name, relay, relay.url(login_address(server.url, ACCOUNTS)), "", calls, _BOUNDS_S)
            return
        token, probe_token = token_for(server.url, ACCOUNTS), token_for(server.url, ["probe"])
        url = server.url
        if name == "service to database":
            relay = running.enter_context(relay_to(server.url))
            url = relay.url(server.url)
        service = running.enter_context(RestartableService(url, home, free_port()))
        address = service.address
        if name == "bot to service":
            relay = running.enter_context(relay_to(service.address))
            address = relay.url(service.address)
        calls = {
            "a request": lambda: http_get(f"{service.address}/v1/companies/probe/state", probe_token),
            "/healthz": lambda: http_get(f"{service.address}/healthz"),
            "/readyz": lambda: http_get(f"{service.address}/readyz"),
        }
        yield Link(name, relay, address, token, calls, _BOUNDS_S)


_BOUNDS_S = {"a call from Python": 32.0, "a request": 32.0, "/healthz": 3.0, "/readyz": 4.0}
"""The deadlines that docs/http.md promises, and a second or two for a busy machine."""
