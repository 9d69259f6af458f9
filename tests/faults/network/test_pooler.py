"""PgBouncer in transaction mode is killed while twenty accounts write, over both ways."""

import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic

import pytest

from keystore import open_store
from rig.fixtures.postgres import OwnServer
from rig.pgbouncer import pgbouncer_process, pgbouncer_program
from rig.relay import address_at, free_port
from tests.acceptance.in_process import run_json
from tests.clients.restartable_service import RestartableService, login_address
from tests.faults.conftest import ACCOUNTS
from tests.faults.writers import Writers, report, token_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 10
MOST_RECOVERY_S = 15.0
"""Limit of the time in which every account writes again, once a new pooler is there."""

PASSWORDS = b"SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"


def test_a_pooler_is_killed_ten_times(own_server: OwnServer, tmp_path: Path, baileys: Path, way: str) -> None:
    program, port = pgbouncer_program(), free_port()
    if program is None:
        pytest.skip("pgbouncer isn't installed")
    own_server.let_owner_make_logins()
    run_json("migrate", url=own_server.url)
    login = login_address(own_server.url, ACCOUNTS)
    token = token_for(own_server.url, ACCOUNTS) if way == "http" else ""
    with closing(own_server.site.admin()) as admin:
        users = dict(admin.execute(PASSWORDS).fetchall())
    recoveries = []
    with ExitStack() as running:

        def started() -> subprocess.Popen[bytes]:
            return running.enter_context(
                pgbouncer_process(program, own_server.site.host, own_server.site.port, users, port)
            )

        pooler = started()
        through_pooler = address_at(own_server.url, "127.0.0.1", port)
        service = running.enter_context(RestartableService(through_pooler, tmp_path, free_port()))
        url = service.address if way == "http" else address_at(login, "127.0.0.1", port)
        writers = running.enter_context(Writers(baileys, url, token, ACCOUNTS))
        writers.await_all()
        for _ in range(KILLS):
            writers.await_progress()
            pooler.kill()
            pooler.wait(10)
            pooler = started()
            began = monotonic()
            writers.await_progress()
            recoveries.append(monotonic() - began)
        writers.stop()
        with open_store(own_server.url) as store:
            name = f"SIGKILL of PgBouncer ({'HTTP' if way == 'http' else 'straight'})"
            report(name, KILLS, [writers], writers.lost(store), f"longest recovery {max(recoveries):.1f} s")
    assert max(recoveries) < MOST_RECOVERY_S
