"""Fixtures: the API on each backend, shared by all tests that only need a company of their own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.api.service import Api, serving_api

_companies = count(1)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API on a database that was empty at first, once for each backend."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("api")
        with serving_api(f"sqlite:///{folder}/k.db") as served:
            yield served
        return
    site = request.getfixturevalue("postgres_site")
    with site.database(request.getfixturevalue("postgres_template")) as name, serving_api(site.url(name)) as served:
        yield served


@pytest.fixture
def company() -> str:
    """The id of a company that only this test uses."""
    return f"c{next(_companies)}"
