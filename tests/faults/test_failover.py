"""The primary dies and a standby takes its place: one that has every commit, and one that is behind."""

from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from keystore import open_store
from monitor.alerts.lost_writes import lost_writes
from rig.fixtures.postgres import OwnServer
from rig.relay import free_port
from rig.waiting import eventually
from tests.acceptance.in_process import run_json
from tests.clients.restartable_service import RestartableService, login_address
from tests.faults.conftest import ACCOUNTS
from tests.faults.standby import run_as_admin, streaming_standby
from tests.faults.writers import Writers, report

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

STREAMING = b"SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND sync_state = %s"


@pytest.mark.parametrize("is_synchronous", [True, False], ids=["synchronous", "behind"])
def test_a_standby_takes_over(
    own_server: OwnServer, postgres_programs: Path, tmp_path: Path, baileys: Path, way: str, is_synchronous: bool
) -> None:
    primary = own_server.server
    own_server.let_owner_make_logins()
    run_json("migrate", url=own_server.url)
    login = login_address(own_server.url, ACCOUNTS)
    token = run_json("token", "create", "--admin", url=own_server.url)["token"]
    with streaming_standby(primary, postgres_programs) as (standby, relay):
        if is_synchronous:
            run_as_admin(primary, "ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()")
        await_standby(primary.admin_url, "sync" if is_synchronous else "async")

        def both(url: str) -> str:
            return url.replace(f":{primary.port}/", f":{primary.port},127.0.0.1:{standby.port}/")

        with RestartableService(both(own_server.url), tmp_path, free_port()) as service:
            url = both(login) if way == "straight" else service.address
            with Writers(baileys, url, token if way == "http" else "", ACCOUNTS, leaseTtlS=10) as writers:
                writers.await_all()
                if not is_synchronous:
                    with relay.refusing():  # From here on the standby falls behind.
                        writers.await_progress()
                        writers.await_progress()
                        primary.crash()
                else:
                    primary.crash()
                run_as_admin(standby, "SELECT pg_promote(true, 60)")
                writers.await_progress()
                writers.await_progress()
                writers.stop()
            with open_store(own_server.url.replace(f":{primary.port}/", f":{standby.port}/")) as store:
                name = f"{'synchronous standby' if is_synchronous else 'standby that was behind'} promoted ({way})"
                report(name, 1, [writers], writers.lost(store))
                noticed = lost_writes(store, store.now())
                if is_synchronous:
                    assert (noticed, writers.went_back) == ({}, 0)
                else:
                    assert set(noticed) == set(ACCOUNTS)
                    assert writers.went_back == len(ACCOUNTS)


def await_standby(url: str, state: str) -> None:
    """Wait until the standby streams, and is synchronous or not."""

    def is_streaming() -> bool:
        with closing(psycopg.connect(url)) as admin:
            return admin.execute(STREAMING, [state]).fetchall() == [(1,)]

    eventually(is_streaming, "the standby streams", 60)
