"""The relay of the measurements, in front of a test's own server: it counts round trips, and fails when told to."""

from collections.abc import Iterator

import pytest

from bench.latency import Relay, relay_to


@pytest.fixture
def relay(migrated_postgres_url: str) -> Iterator[Relay]:
    """A relay in front of the test's own migrated database: `open_store(relay.url(migrated_postgres_url))`."""
    with relay_to(migrated_postgres_url) as relay:
        yield relay
