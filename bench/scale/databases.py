"""The server on which scale is measured, with one database for each size and the figures that were measured there.

A database is named after its size and is kept. Each of its figures is kept too, in a table of the database. So a killed
run continues, and a measurement that changes the table is not repeated.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psutil
import psycopg
from msgspec import Struct
from psycopg import sql

from bench.measuring import Connection, Progress
from bench.scale.fill import Filled, fill
from keystore.opening import open_store
from keystore.schema import MIGRATIONS
from keystore.ttl import DIARY
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
"""The days over which the keys arrive; no key is due at their end."""

SHARED_BUFFERS_SHARE, MOST_SHARED_BUFFERS_GB = 0.25, 8

FIGURES = "CREATE TABLE IF NOT EXISTS bench_figures (name text PRIMARY KEY, figures text NOT NULL)"


class Size(Struct, frozen=True):
    """The number of companies and of partitions; with 0 partitions, the table is as `migrate` makes it."""

    companies: int
    partitions: int = 0

    @property
    def database(self) -> str:
        """The name of its database."""
        return f"bench_scale_{self.companies}" + (f"_in_{self.partitions}" if self.partitions else "")


@dataclass(frozen=True)
class Site:
    """The filled database of one size, and a connection to it."""

    size: Size
    url: str = field(repr=False)
    filled: Filled
    conn: Connection = field(repr=False)

    @property
    def now(self) -> datetime:
        """The time at which the last key arrived, for the store's clock."""
        return self.filled.ended_at

    def has(self, name: str) -> bool:
        """True if figures were kept here under this name."""
        return bool(self.conn.execute("SELECT 1 FROM bench_figures WHERE name = %s", [name]).fetchall())

    def figures(self) -> dict[str, Any]:
        """All figures that were kept here, by name."""
        rows = self.conn.execute("SELECT name, figures FROM bench_figures").fetchall()
        return {name: msgspec.json.decode(figures) for name, figures in rows}

    def keep(self, name: str, figures: object) -> None:
        """Keep figures in the database."""
        self.conn.execute("INSERT INTO bench_figures VALUES (%s, %s)", [name, msgspec.json.encode(figures).decode()])

    def once(self, name: str, measure: Callable[[], object]) -> None:
        """Measure and keep the figures, unless figures of this name are kept here."""
        if not self.has(name):
            self.keep(name, measure())


@dataclass(frozen=True)
class Server:
    """A running server; `forget_pages` makes the next reads come from the disk, which only our own server can."""

    url: str = field(repr=False)
    forget_pages: Callable[[], None] | None = None

    @property
    def own(self) -> bool:
        """True for a server that was started for the measurement."""
        return self.forget_pages is not None


@contextmanager
def own_server(home: Path | None) -> Iterator[Server]:
    """Our own server for the block, with the memory of a dedicated database server.

    Its data are in `home`, and stay, or in a temporary folder. Raises KeystoreError.
    """
    with ExitStack() as stack:
        programs = stack.enter_context(postgres_programs())
        if home is None:
            home = stack.enter_context(server_home("scale"))
        else:
            home.mkdir(parents=True, exist_ok=True)
            hand_over(home)
        home, memory_mb = home.absolute(), psutil.virtual_memory().total // 2**20
        settings = {
            "shared_buffers": f"{min(int(memory_mb * SHARED_BUFFERS_SHARE), MOST_SHARED_BUFFERS_GB * 1024)}MB",
            "effective_cache_size": f"{memory_mb * 3 // 4}MB",
            "max_wal_size": "8GB",
            "checkpoint_timeout": "15min",
        }
        server = PostgresServer(home, programs, settings)
        _stop_a_server_left_by_a_killed_run(home / "data", programs)
        server.start()
        stack.callback(server.stop)
        yield Server(server.admin_url, partial(_forget_pages, server, home / "data"))


def _stop_a_server_left_by_a_killed_run(data: Path, programs: Path) -> None:
    if (data / "postmaster.pid").exists():
        subprocess.run(
            [programs / "pg_ctl", "stop", "-D", data, "-m", "fast"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STOP_TIMEOUT_S,
            cwd=data,
            env=ENVIRONMENT,
            check=False,  # It fails where the server is gone and only its file is left.
            **as_ordinary_user(),
        )


def _forget_pages(server: PostgresServer, data: Path) -> None:
    """Restart the server, and make the system drop the data files from its cache."""
    server.stop()
    for path in filter(Path.is_file, data.rglob("*")):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    server.start()


@contextmanager
def site(server: Server, size: Size, progress: Progress) -> Iterator[Site]:
    """The database of this size; it is made and filled if it isn't yet."""
    with connected(server.url) as admin:
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [size.database]).fetchall():
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(size.database)))
    url = urlunsplit(urlsplit(server.url)._replace(path=f"/{size.database}"))
    open_store(url, policy=DIARY).close()  # This makes the tables.
    with connected(url) as conn:
        if size.partitions:
            partition(conn, size.partitions)
        conn.execute(FIGURES)
        filled = fill(conn, size.companies, DAYS, progress)
        yield Site(size, url, filled, conn)


def connected(url: str) -> Connection:
    """A connection like the store's: each statement is a transaction, and nothing is prepared."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, connect_timeout=5)


def partition(conn: Connection, partitions: int) -> None:
    """Apply the migration to hash partitions, for large installations."""
    conn.execute("SELECT set_config('keystore.partitions', %s, false)", [str(partitions)])
    conn.execute(PARTITIONING.read_bytes())


def gather(conn: Connection) -> None:
    """Lay each company's keys together, each company in a transaction of its own."""
    conn.execute(GATHERING.read_bytes())


def drop(server: Server, size: Size) -> None:
    """Drop the database of a size, with all figures in it."""
    with connected(server.url) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(size.database)))
