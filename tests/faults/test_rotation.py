"""A thousand companies get a new secret key while bots write; the command is killed in the middle, and goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

from keystore import Store, open_store
from rig.fixtures.postgres import OwnServer
from rig.program import RUN, environment
from rig.relay import free_port
from rig.waiting import eventually
from tests.clients.restartable_service import RestartableService
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY
from tests.faults.conftest import ACCOUNTS
from tests.faults.writers import Writers, report, token_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

BOTH_KEYS = {"KEYSTORE_SECRET_KEYS": f"{NEW_KEY},{OLD_KEY}"}
"""The settings of the service and of the command: the new key before the old one."""

COMPANIES = [*ACCOUNTS, *(f"quiet{number:03}" for number in range(1_000 - len(ACCOUNTS)))]
SESSIONS = {f"{number}": b'{"version":0}' for number in range(20)}


def rotation(url: str) -> subprocess.Popen[bytes]:
    """Begin with `rotate`."""
    return subprocess.Popen([sys.executable, RUN, "rotate"], env=environment(url, BOTH_KEYS), stdout=subprocess.DEVNULL)


def waiting(store: Store) -> int:
    """The number of companies that have plain values, or a data key under the old key."""
    return sum(store.needs_new_wrapping(company) or store.unsealed_values(company) > 0 for company in COMPANIES)


def test_a_thousand_companies_are_rotated_while_bots_write(
    own_server: OwnServer, baileys: Path, tmp_path: Path
) -> None:
    url = own_server.url
    with open_store(url) as store:
        for company in COMPANIES[::2]:  # These are plain, and the others sealed by the old key.
            store.set(company, {"device-list": SESSIONS}, creds=b"{}")
    token = token_for(url, ACCOUNTS)
    with open_store(url, secret_keys=OLD_KEY) as store:
        for company in COMPANIES[1::2]:
            store.set(company, {"device-list": SESSIONS}, creds=b"{}")
    with (
        RestartableService(url, tmp_path, free_port(), settings=BOTH_KEYS) as service,
        open_store(url, secret_keys=BOTH_KEYS["KEYSTORE_SECRET_KEYS"]) as store,
        Writers(baileys, service.address, token, ACCOUNTS) as writers,
    ):
        writers.await_all()
        assert waiting(store) == len(COMPANIES)
        with rotation(url) as killed:
            eventually(lambda: waiting(store) < 0.7 * len(COMPANIES), "the rotation goes on", 120)
            killed.kill()
        assert waiting(store) > 0, "it was killed too late"
        writers.await_progress()
        with rotation(url) as resumed:
            assert resumed.wait(300) == 0
        writers.await_progress()
        writers.stop()
        assert waiting(store) == 0
        lost = [company for company in COMPANIES if store.load(company).keys["device-list"] != SESSIONS]
        report("rotation of 1,000 companies, killed (HTTP)", 1, [writers], lost + writers.lost(store))
        assert writers.retries == 0, "a call failed"
    with open_store(url, secret_keys=NEW_KEY) as store:
        assert len(store.companies()) == len(COMPANIES)
        assert store.load(COMPANIES[1]).total > 0
