"""Where scale is measured: a server, one database of it for each size, and what was measured there already.

A database is named after its size and kept, and so is each of its figures, in a table beside the keys: a run that is
killed goes on where it was, and a measurement that changes the table is not made twice.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.scale.fill import Connection, Filled, fill
from keystore.migrate import MIGRATIONS
from keystore.opening import open_store
from rig.postgres_server import (
    ENVIRONMENT,
    STOP_TIMEOUT_S,
    PostgresServer,
    as_ordinary_user,
    hand_over,
    postgres_programs,
    server_home,
)

PARTITIONING = MIGRATIONS / "large" / "hash_partitions.sql"
GATHERING = MIGRATIONS / "large" / "gather_companies.sql"

DAYS = 5.0
"""Over which the keys arrive: none is due at their end."""

SHARED_BUFFERS_SHARE, MOST_SHARED_BUFFERS_GB = 0.25, 8

FIGURES = "CREATE TABLE IF NOT EXISTS bench_figures (name text PRIMARY KEY, figures text NOT NULL)"

Figures = dict[str, Any]
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Size:
    """How many companies, and in how many partitions; 0: the table as `migrate` makes it."""

    companies: int
    partitions: int = 0

    @property
    def database(self) -> str:
        """The name of its database."""
        return f"bench_scale_{self.companies}" + (f"_in_{self.partitions}" if self.partitions else "")


@dataclass(frozen=True)
class Site:
    """One size's filled database, with a connection beside the stores."""

    size: Size
    url: str = field(repr=False)
    filled: Filled
    conn: Connection = field(repr=False)

    @property
    def now(self) -> datetime:
        """When the last key arrived: what a store's clock is set to."""
        return self.filled.ended_at

    def kept(self, name: str) -> Figures | None:
        """What was measured under this name before, None when nothing was."""
        found = self.conn.execute("SELECT figures FROM bench_figures WHERE name = %s", [name]).fetchall()
        return json.loads(found[0][0]) if found else None

    def keep(self, name: str, figures: Figures) -> Figures:
        """Keeps what was measured, and gives it back."""
        self.conn.execute("INSERT INTO bench_figures VALUES (%s, %s)", [name, json.dumps(figures)])
        return figures

    def once(self, name: str, measured: Callable[[], Figures]) -> Figures:
        """What was measured before, or else is now."""
        kept = self.kept(name)
        return self.keep(name, measured()) if kept is None else kept


class Server:
    """A server somebody else runs, at `url`."""

    own = False

    def __init__(self, url: str) -> None:
        self.url = url

    def forget_pages(self) -> None:
        """Makes the next reads come from the disk, where the server is ours."""


class OwnServer(Server):
    """Our own, with the memory a database server would be given."""

    own = True

    def __init__(self, home: Path, programs: Path) -> None:
        self._data, self._programs = home / "data", programs
        self._server = PostgresServer(home, programs, own_settings())
        super().__init__(self._server.admin_url)

    def start(self) -> None:
        """Starts it, after stopping the one that a killed run has left on the same data. Raises KeystoreError."""
        if (self._data / "postmaster.pid").exists():
            subprocess.run(
                [self._programs / "pg_ctl", "stop", "-D", self._data, "-m", "fast"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=STOP_TIMEOUT_S,
                cwd=self._data,
                env=ENVIRONMENT,
                check=False,  # It fails where the server is gone and only its file is left.
                **as_ordinary_user(),
            )
        self._server.start()

    def stop(self) -> None:
        """Stops it; the data stay."""
        self._server.stop()

    def forget_pages(self) -> None:
        """Restarts it, and has the system drop what it holds of the data files."""
        self._server.stop()
        for path in self._data.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
        self._server.start()


def own_settings() -> dict[str, str]:
    """What a machine that is a database server would be given; the rest is Postgres's own."""
    memory_mb = memory_bytes() // 2**20
    return {
        "shared_buffers": f"{min(int(memory_mb * SHARED_BUFFERS_SHARE), MOST_SHARED_BUFFERS_GB * 1024)}MB",
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "15min",
    }


def memory_bytes() -> int:
    """The machine's."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def own_server(home: Path | None) -> Iterator[OwnServer]:
    """Our own server for the block: in `home`, which stays, or in a temporary folder. Raises KeystoreError."""
    with ExitStack() as stack:
        programs = stack.enter_context(postgres_programs())
        if home is None:
            home = stack.enter_context(server_home("scale"))
        else:
            home.mkdir(parents=True, exist_ok=True)
            hand_over(home)
        server = OwnServer(home.absolute(), programs)
        server.start()
        stack.callback(server.stop)
        yield server


@contextmanager
def site(server: Server, size: Size, told: Told) -> Iterator[Site]:
    """The database of this size, made and filled as far as it isn't yet."""
    with psycopg.connect(server.url, autocommit=True, connect_timeout=5) as admin:
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [size.database]).fetchall():
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(size.database)))
    url = urlunsplit(urlsplit(server.url)._replace(path=f"/{size.database}"))
    with closing(open_store(url)):
        pass  # It makes the tables.
    with connected(url) as conn:
        if size.partitions:
            partition(conn, size.partitions)
        conn.execute(FIGURES)
        filled = fill(conn, size.companies, DAYS, told)
        yield Site(size, url, filled, conn)


def connected(url: str) -> Connection:
    """A connection as the store has them: each statement on its own, nothing prepared."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, connect_timeout=5)


def partition(conn: Connection, partitions: int) -> None:
    """Applies the migration for large installations."""
    conn.execute("SELECT set_config('keystore.partitions', %s, false)", [str(partitions)])
    conn.execute(PARTITIONING.read_bytes())


def gather(conn: Connection) -> None:
    """Runs the upkeep for large installations; each company is a transaction of its own."""
    conn.execute(GATHERING.read_bytes())


def drop(server: Server, size: Size) -> None:
    """Drops a size's database, with all that was measured there."""
    with psycopg.connect(server.url, autocommit=True, connect_timeout=5) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(size.database)))
