"""The service as a process on either database, with a company and its token, and folders to run bots in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql

from rig.fixtures.postgres import PostgresSite
from rig.npm import PackagesUnavailableError, built_client, need_node
from rig.relay import free_port
from tests.clients.packages import BAILEYS, LONG_NAMED, adapters_folder, bot_folder, peer
from tests.clients.restartable_service import RestartableService

_companies = count(1)


def _or_skip(install: Callable[[], Path]) -> Path:
    """Return the installed folder. Skips the test where nothing can be installed."""
    try:
        need_node()
        return install()
    except PackagesUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def client() -> Path:
    """The built client's folder."""
    return _or_skip(built_client)


@pytest.fixture(scope="session", params=BAILEYS)
def each_baileys(request: pytest.FixtureRequest) -> Path:
    """A bot's folder, once with Baileys 6 and once with 7."""
    return _or_skip(lambda: bot_folder(peer(request.param)))


@pytest.fixture(scope="session")
def long_named() -> Path:
    """A bot's folder with Baileys 6.7 as `@whiskeysockets/baileys`, and none under the shorter name."""
    return _or_skip(lambda: bot_folder(LONG_NAMED))


@pytest.fixture(scope="session")
def baileys() -> Path:
    """A bot's folder with Baileys 7."""
    return _or_skip(lambda: bot_folder(peer("7")))


@pytest.fixture(scope="session")
def adapters() -> Path:
    """The folder with the adapters that npm has."""
    return _or_skip(adapters_folder)


WAYS = ("sqlite", "postgres", "straight")


@pytest.fixture(scope="module", params=[pytest.param(way, marks=pytest.mark.xdist_group(f"bot-{way}")) for way in WAYS])
def running_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartableService]:
    """The running service: on each database in turn, and at last with bots that connect to PostgreSQL themselves."""
    home = tmp_path_factory.mktemp("service")
    with ExitStack() as database:
        if request.param == "sqlite":
            url = f"sqlite:///{home}/k.db"
        else:
            site: PostgresSite = request.getfixturevalue("postgres_site")
            name = database.enter_context(site.database())
            url = site.url(name)
            if request.param == "straight":
                database.enter_context(may_make_logins(site, name))
        with RestartableService(url, home, free_port(), straight=request.param == "straight") as service:
            yield service


@contextmanager
def may_make_logins(site: PostgresSite, database: str) -> Iterator[None]:
    """Let the owner of a database make logins of bots, and drop them after the block."""
    owner = sql.Identifier(site.role)
    with closing(site.admin(database)) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(owner))
        try:
            yield
        finally:
            for (login,) in admin.execute("SELECT DISTINCT login FROM keystore_logins").fetchall():
                admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(login)))
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
            admin.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(owner))


@pytest.fixture
def service(running_service: RestartableService) -> RestartableService:
    """The running service, with a company that only this test uses."""
    running_service.admit(f"bot{next(_companies):03}")
    return running_service
