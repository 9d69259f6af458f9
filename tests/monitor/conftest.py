"""The store that the tests of `monitor/` use, on either database."""

from collections.abc import Iterator

import pytest

from keystore import Store, open_store
from rig.fixtures.clock import Clock


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """An empty store at the test's clock, on each database in turn."""
    with open_store(request.getfixturevalue(f"migrated_{request.param}_url"), clock=clock) as opened:
        yield opened
