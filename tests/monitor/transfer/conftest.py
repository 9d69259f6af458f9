"""An empty store to import into and export from, and a folder with the real state."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystore import Store, open_store
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import Clock
from tests.monitor.transfer.folders import write_folder


@pytest.fixture
def store(migrated_sqlite_url: str, clock: Clock) -> Iterator[Store]:
    """An empty SQLite store at the test's clock."""
    with open_store(migrated_sqlite_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """The real state as `useMultiFileAuthState` leaves it."""
    return write_folder(tmp_path / "auth", real_keys(), real_creds())
