"""The service as a process on either database, with a token for one company, and folders to run bots in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.relay import free_port
from tests.clients.packages import adapters_folder, bot_folder, built_client, need_node
from tests.clients.restartable_service import RestartableService


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


@pytest.fixture(scope="session")
def adapters(_node: None) -> Path:
    """The folder with the adapters that npm has."""
    return adapters_folder()


@pytest.fixture(params=["sqlite", "postgres"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RestartableService]:
    """The running service, on each database in turn."""
    url = f"sqlite:///{tmp_path}/k.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with RestartableService(url, tmp_path, free_port()) as service:
        yield service
