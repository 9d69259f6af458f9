"""The service as a process with a token for one company, on either database, and folders to run bots in."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.node import bot_folder, built_client, need_node
from tests.clients.site import Site


@pytest.fixture(scope="session")
def _node() -> None:
    need_node()


@pytest.fixture(scope="session")
def client(_node: None) -> Path:
    """The built client's folder."""
    return built_client()


@pytest.fixture(scope="session", params=["6", "7"])
def each_baileys(request: pytest.FixtureRequest, _node: None) -> Path:
    """A bot's folder, once with Baileys 6 and once with 7."""
    return bot_folder(request.param)


@pytest.fixture(scope="session")
def baileys(_node: None) -> Path:
    """A bot's folder with Baileys 7."""
    return bot_folder("7")


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """The service, on either database."""
    url = f"sqlite:///{tmp_path}/k.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Site(url, tmp_path, free_port()) as site:
        yield site


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
