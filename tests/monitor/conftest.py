"""The store that the tests of `monitor/` use, on either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystore import Store, open_store
from rig.fixtures.clock import Clock


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty store at the test's clock, on each database in turn."""
    file = f"sqlite:///{tmp_path}/k.db"
    url = file if request.param == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    with open_store(url, clock=clock) as opened:
        yield opened
