"""A server with its own database and the service on it, and the two ways of bots to it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rig.fixtures.postgres import OwnServer
from rig.relay import free_port
from rig.waiting import eventually
from tests.clients.conftest import baileys, client  # noqa: F401
from tests.clients.restartable_service import RestartableService, login_address
from tests.faults.writers import accounts, token_for

ACCOUNTS = accounts(20)


class Site:
    """A running service on a server of its own, and the address and token of bots."""

    def __init__(self, service: RestartableService, server: OwnServer, way: str) -> None:
        self.service = service
        self.server = server
        self.straight = way == "straight"
        self.url, self.token = service.address, ""
        if self.straight:
            self.url = login_address(server.url, ACCOUNTS)
        else:
            self.token = token_for(server.url, ACCOUNTS)


def way_of(site: Site) -> str:
    """The way of the bots, for the report."""
    return "straight" if site.straight else "HTTP"


def workers() -> list[psutil.Process]:
    """The worker processes of the service that this test has started, once there are any."""
    processes: list[psutil.Process] = []

    def look() -> bool:
        processes[:] = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any("api/workers/__main__.py" in part for part in process.cmdline()):
                    processes.append(process)
        return bool(processes)

    eventually(look, "the service has a worker", 30)
    return processes


@pytest.fixture(params=["http", "straight"])
def way(request: pytest.FixtureRequest) -> str:
    """The way of bots to the store."""
    return str(request.param)


@pytest.fixture
def site(own_server: OwnServer, tmp_path: Path, way: str) -> Iterator[Site]:
    """The service on a server that waits for its disk."""
    own_server.let_owner_make_logins()
    with RestartableService(own_server.url, tmp_path, free_port()) as service:
        yield Site(service, own_server, way)
