"""The tests' Postgres and clock for `python -m pytest bench`.

They are registered here, not by `pytest_plugins`, which pytest refuses in any conftest but the first.
"""

import pytest

FIXTURES = ("rig.fixtures.clock", "rig.fixtures.relay", "rig.fixtures.postgres")


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures; those that the tests have registered already stay."""
    for module in FIXTURES:
        config.pluginmanager.import_plugin(module)
