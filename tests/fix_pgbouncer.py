"""PgBouncer in transaction mode in front of the tests' Postgres, where a `pgbouncer` program is found.

Its pool is smaller than a store's, so that transactions of one client really run on several server connections: a
store that leaves anything in a session is found out.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote

import psycopg
import pytest

from bench.latency import free_port
from bench.server import as_ordinary_user, hand_over, server_home
from tests.fix_clock import eventually
from tests.fix_postgres import PostgresSite

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
WATCHER = "watcher"

_CONF = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
stats_users = {watcher}
pool_mode = transaction
default_pool_size = 3
max_client_conn = 500
server_lifetime = 600
query_wait_timeout = 20
logfile = {log}
pidfile =
"""


@dataclass(frozen=True)
class Pooler:
    """Where the pooler listens, and how to look into it."""

    site: PostgresSite
    port: int

    def url(self, database: str) -> str:
        """The address that a store opens."""
        login = f"{quote(self.site.role, safe='')}:{quote(self.site.password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def clients(self, database: str) -> int:
        """How many client connections the pooler holds for this database."""
        console = psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname="pgbouncer",
            user=WATCHER,
            password=self.site.password,
            autocommit=True,
        )
        with closing(console), console.cursor() as cursor:
            cursor.execute("SHOW CLIENTS")
            assert cursor.description is not None
            column = [field.name for field in cursor.description].index("database")
            return sum(row[column] == database for row in cursor.fetchall())


@pytest.fixture(scope="session")
def pooler(postgres_site: PostgresSite) -> Iterator[Pooler]:
    """A running PgBouncer; skips the test where there is no such program."""
    program = shutil.which(
        "pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    )
    if program is None:
        pytest.skip(
            "no pgbouncer program on this machine (Debian: apt-get install pgbouncer): pooled backend NOT tested"
        )
    with server_home("pgbouncer") as home:
        users, conf, log = home / "users.txt", home / "pgbouncer.ini", home / "log"
        password = postgres_site.password.replace('"', '""')
        users.write_text(f'"{postgres_site.role}" "{password}"\n"{WATCHER}" "{password}"\n', encoding="utf-8")
        port = free_port()
        conf.write_text(
            _CONF.format(
                host=postgres_site.host,
                port=postgres_site.port,
                listen_port=port,
                users=users,
                watcher=WATCHER,
                log=log,
            ),
            encoding="utf-8",
        )
        for file in (users, conf):
            hand_over(file)
        process = subprocess.Popen(
            [program, "-q", conf],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            start_new_session=True,
            **as_ordinary_user(),
        )

        def takes_connections() -> bool:
            assert process.poll() is None, f"pgbouncer didn't start:\n{log.read_text(encoding='utf-8')}"
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                return True
            return False

        try:
            eventually(takes_connections, "pgbouncer takes connections", START_TIMEOUT_S)
            yield Pooler(postgres_site, port)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


@pytest.fixture
def pgbouncer_url(pooler: Pooler, migrated_postgres_url: str) -> str:
    """The address, through the pooler, of a new migrated database without any keys."""
    return pooler.url(migrated_postgres_url.rpartition("/")[2])
