"""A real PostgreSQL for the tests: that of the measurements (`bench/server.py`), with a database for each test.

`KEYSTORE_TEST_URL` (a superuser's address, over TCP) puts another server in its place; the throw-away server that
outage tests stop and kill is always the wheel's.

Stores log in as an ordinary role whose password has every character that breaks a careless address.
"""

import os
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

from bench import server
from bench.server import PostgresServer, server_home

PASSWORD = "p@ss/w:rd#?%20&+"


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
    """The folder of PostgreSQL programs."""
    with server.postgres_programs() as programs:
        yield programs


@pytest.fixture(scope="session")
def postgres_site(request: pytest.FixtureRequest) -> Iterator[PostgresSite]:
    """The session's Postgres: the one `KEYSTORE_TEST_URL` names, or else our own."""
    other = os.environ.get("KEYSTORE_TEST_URL")
    if other:
        yield from _with_role(_site(other))
        return
    with server_home("postgres") as home:
        own = PostgresServer(home, request.getfixturevalue("postgres_programs"))
        own.start()
        try:
            yield from _with_role(_site(own.admin_url))
        finally:
            own.stop()


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
        own = PostgresServer(home, postgres_programs)
        own.start()
        try:
            site = _site(own.admin_url)
            site.create_role()
            with closing(site.admin()) as conn:
                conn.execute(sql.SQL("CREATE DATABASE bots OWNER {}").format(sql.Identifier(site.role)))
            yield OwnServer(own, site, site.url("bots"))
        finally:
            own.stop()


@pytest.fixture
def database_rows(postgres_site: PostgresSite) -> Callable[[str, str], list[tuple[Any, ...]]]:
    """`database_rows(url, statement)`: what the superuser reads in that database, over a connection of its own."""

    def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
        with closing(postgres_site.admin(url.rpartition("/")[2])) as conn:
            return conn.execute(statement.encode()).fetchall()

    return rows
