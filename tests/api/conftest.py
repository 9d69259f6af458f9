"""Fixtures: the API on each backend, shared by all tests that only need a company of their own."""

from collections.abc import Iterator
from itertools import count

import pytest

from rig.fixtures.postgres import PostgresSite
from tests.api.service import Api, serving_api

_companies = count(1)


@pytest.fixture(scope="session")
def sqlite_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API on an SQLite file that was empty at first."""
    with serving_api(f"sqlite:///{tmp_path_factory.mktemp('api')}/k.db") as served:
        yield served


@pytest.fixture(scope="session")
def postgres_api(postgres_site: PostgresSite, postgres_template: str) -> Iterator[Api]:
    """The API on a PostgreSQL database that was empty at first."""
    with postgres_site.database(postgres_template) as name, serving_api(postgres_site.url(name)) as served:
        yield served


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def api(request: pytest.FixtureRequest) -> Api:
    """The API on each backend in turn."""
    served: Api = request.getfixturevalue(f"{request.param}_api")
    return served


@pytest.fixture
def company() -> str:
    """The id of a company that only this test uses."""
    return f"c{next(_companies)}"
