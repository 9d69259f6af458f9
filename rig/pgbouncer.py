"""PgBouncer in transaction mode in front of a PostgreSQL server, where a `pgbouncer` program is installed.

Its pool is smaller than a store's, so that transactions of one client really run on several server connections. A
store that left anything in a session would fail.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from rig.postgres_server import as_ordinary_user, hand_over, server_home
from rig.relay import free_port
from rig.waiting import eventually

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
WATCHER = "watcher"
"""The user that may read the pooler's console, if the users have one of this name."""

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


def pgbouncer_program() -> str | None:
    """Return the path of the program; None where it isn't installed."""
    folders = (os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")
    return shutil.which("pgbouncer", path=os.pathsep.join(folders))


@contextmanager
def pgbouncer(
    program: str, host: str, port: int, users: Mapping[str, str], listen_port: int | None = None
) -> Iterator[int]:
    """Run a pooler in front of the server for the block, and give its port: a free one, unless `listen_port` names it.

    `users` has the password of each user, or its SCRAM form as the server stores it.
    """
    listen_port = listen_port or free_port()
    with pgbouncer_process(program, host, port, users, listen_port):
        yield listen_port


@contextmanager
def pgbouncer_process(
    program: str, host: str, port: int, users: Mapping[str, str], listen_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a pooler as `pgbouncer` does, and give its process, which the block may kill."""
    with server_home("pgbouncer") as home:
        users_file, conf, log = home / "users.txt", home / "pgbouncer.ini", home / "log"
        lines = (f'"{user}" "{password}"\n' for user, password in users.items())
        users_file.write_text("".join(lines), encoding="utf-8")
        conf.write_text(
            _CONF.format(host=host, port=port, listen_port=listen_port, users=users_file, watcher=WATCHER, log=log),
            encoding="utf-8",
        )
        for file in (users_file, conf):
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

        def accepts_connections() -> bool:
            assert process.poll() is None, f"pgbouncer didn't start:\n{log.read_text(encoding='utf-8')}"
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", listen_port), 1.0).close()
                return True
            return False

        try:
            eventually(accepts_connections, "pgbouncer accepts connections", START_TIMEOUT_S)
            yield process
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
