"""The clocks of the server and of the service jump by days and back, while bots write. libfaketime makes the jumps."""

from pathlib import Path

import pytest

from keystore import open_store
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.postgres import OwnServer
from rig.relay import free_port
from rig.waiting import eventually
from tests.clients.restartable_service import RestartableService, login_address
from tests.faults.conftest import ACCOUNTS
from tests.faults.writers import Writers, report, token_for

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

JUMPS_DAYS = (40, 0, 400, 0, -400, 0)
"""The days by which the clock is off, one jump after the other."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(LIBRARY is None, reason="no libfaketime here (Debian: apt-get install faketime)"),
]


class FakedClock:
    """A clock that stands beside the right one by a number of days, for programs with this environment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)
        file.chmod(0o644)
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, days: int) -> None:
        """Put the clock so many days from the right time."""
        self._file.write_text(f"{days:+}d\n", encoding="utf-8")


def await_sweep(service: RestartableService) -> None:
    """Wait until the service has swept once more, or has held a sweep back."""
    before = service.logs.count('"sweep_finished"')
    eventually(lambda: service.logs.count('"sweep_finished"') > before, "the service sweeps", 90)


@pytest.mark.parametrize("place", ["the server", "the server and the service"])
def test_a_clock_that_jumps_by_days_deletes_nothing(
    own_server: OwnServer, baileys: Path, tmp_path: Path, place: str
) -> None:
    of_server, of_service = FakedClock(own_server.server.data / "clock"), FakedClock(tmp_path / "clock")
    own_server.let_owner_make_logins()
    own_server.server.stop()
    own_server.server.environment |= of_server.environment
    own_server.server.start()
    settings = {"KEYSTORE_SWEEP_EVERY": "1m", **of_service.environment}
    over_http, straight = ACCOUNTS[:10], ACCOUNTS[10:]
    with (
        RestartableService(own_server.url, tmp_path, free_port(), settings=settings) as service,
        open_store(own_server.url) as store,
        Writers(baileys, service.address, token_for(own_server.url, over_http), over_http) as first,
        Writers(baileys, login_address(own_server.url, straight), "", straight) as second,
    ):
        store.set("quiet", real_keys(), creds=real_creds())
        for writers in (first, second):
            writers.await_all()
        await_sweep(service)  # It has to see the clock before it jumps.
        for days in JUMPS_DAYS:
            of_server.jump(days)
            if place != "the server":
                of_service.jump(days)
            await_sweep(service)
            for writers in (first, second):
                writers.await_progress()
        for writers in (first, second):
            writers.stop()
        assert store.load("quiet").keys == real_keys()
        lost = first.lost(store) + second.lost(store)
        report(f"the clock of {place} jumps", len(JUMPS_DAYS), [first, second], lost)
