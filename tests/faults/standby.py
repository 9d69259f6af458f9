"""A primary and a standby that streams from it, through a relay that can be cut."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from rig.postgres_server import ENVIRONMENT, PostgresServer, as_ordinary_user, hand_over, server_home
from rig.relay import Relay

BACKUP_TIMEOUT_S = 120.0


@contextmanager
def streaming_standby(primary: PostgresServer, programs: Path) -> Iterator[tuple[PostgresServer, Relay]]:
    """Run a standby of the primary. Yields it, and the relay between both."""
    with server_home("standby") as home:
        relay = Relay(("127.0.0.1", primary.port))
        host, port = relay.address
        subprocess.run(
            [
                programs / "pg_basebackup",
                "-D",
                home / "data",
                "-h",
                host,
                "-p",
                str(port),
                "-U",
                primary.admin,
                "-X",
                "stream",
                "--checkpoint=fast",  # By default it waits for the next one, which comes within minutes.
            ],
            env={**ENVIRONMENT, "PGPASSWORD": primary.admin_password},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BACKUP_TIMEOUT_S,
            check=True,
            **as_ordinary_user(),
        )
        shutil.copy(primary.password_file, home / "password")
        (home / "data" / "standby.signal").touch()
        hand_over(home / "data" / "standby.signal")
        login = f"user={primary.admin} password={primary.admin_password} application_name=standby"
        standby = PostgresServer(home, programs, {"primary_conninfo": f"host={host} port={port} {login}"})
        standby.start()
        try:
            yield standby, relay
        finally:
            standby.stop()
            relay.close()


def run_as_admin(server: PostgresServer, *statements: str) -> None:
    """Run statements as the superuser, each by itself."""
    with closing(psycopg.connect(server.admin_url, autocommit=True)) as admin:
        for statement in statements:
            admin.execute(statement.encode())
