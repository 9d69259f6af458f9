"""The tests' Postgres and clock, for measurements; `python -m pytest bench`.

Registered here, not by `pytest_plugins`, which pytest refuses in any conftest but the first.
"""

import pytest

FIXTURES = ("rig.fixtures.clock", "rig.fixtures.relay", "rig.fixtures.postgres")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the fixtures; those that the tests have registered already stay."""
    for module in FIXTURES:
        config.pluginmanager.import_plugin(module)


@pytest.fixture(scope="session")
def admin_url(request: pytest.FixtureRequest) -> str:
    """The address of the tests' Postgres for a role that may make databases."""
    return str(request.getfixturevalue("postgres_site").admin_url)
