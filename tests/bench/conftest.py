"""Node with the packages of `bench/seat`, for the tests of measurements that run bots."""

import pytest

from bench.seat.program import node_with_packages
from keystore.errors import KeystoreError


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node, with the packages of the measurements' bots installed."""
    try:
        node = node_with_packages()
    except KeystoreError as error:
        pytest.skip(str(error))
    if node is None:
        pytest.skip("no node or npm here (Debian: apt-get install nodejs npm)")
    return node
