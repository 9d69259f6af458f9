"""Brings a database's tables to what this version works with: plain SQL files, applied by yoyo.

Two processes that start together are safe: whoever finds something to apply takes a lock that ends with its holder
(an advisory lock in a Postgres transaction; a lock on the folder of a SQLite file), looks again, and only then lets
yoyo apply it. yoyo has a lock of its own, a row in a table, which a killed process leaves behind: under ours, a row
that is there already is such a left-over.

yoyo records a migration in a transaction after the migration's own, so each file is written so that running it
again changes nothing. Mistakes made with migrations are written down in `migrations/NOTES.md`.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import monotonic
from urllib.parse import quote, urlsplit, urlunsplit

from yoyo import get_backend, read_migrations
from yoyo.migrations import MigrationList

from keystore.errors import KeystoreError, SchemaMismatch, StoreUnavailable
from keystore.postgres import STATEMENTS as POSTGRES_STATEMENTS
from keystore.postgres_link import PostgresLink
from keystore.sqlite import STATEMENTS as SQLITE_STATEMENTS
from keystore.sqlite_link import SqliteLink

MIGRATIONS = Path(__file__).parent.parent / "migrations"

WATCH_TABLES = "20261124_01_keystore_tables"
"""The Postgres migration that adds only our own tables: what `attach` applies beside a live bot."""

LOCK_TIMEOUT_S = 60.0
_LOCK_POLL_S = 0.1


class Shape(Enum):
    """What stands in a database."""

    EMPTY = "empty"
    OURS = "ours"
    DIARY = "diary"
    """Bot tables with `jsonb` values that we have not touched."""
    ATTACHED = "attached"
    """The same, with our own tables beside them."""


@dataclass(frozen=True)
class Schema:
    """A database's tables: their shape, and the ids of the migrations still to apply, in order."""

    shape: Shape
    pending: tuple[str, ...]


def schema_of(link: PostgresLink | SqliteLink) -> Schema:
    """What stands in this database. Raises SchemaMismatch for tables of a newer version, or that hide their rows."""
    applied: set[str] = set()
    if isinstance(link, SqliteLink):
        ((has_keys, has_record),) = link.rows(SQLITE_STATEMENTS["schema"], {})
        if has_record:
            applied = {row[0] for row in link.rows(SQLITE_STATEMENTS["applied_migrations"], {})}
        shape = Shape.OURS if has_keys else Shape.EMPTY
    else:
        ((has_keys, has_creds, has_record, value_type, rows_are_hidden),) = link.rows(POSTGRES_STATEMENTS["schema"], {})
        if rows_are_hidden:
            raise SchemaMismatch(
                f"{link.name}: row-level security hides the tables from this role; use the role that owns them"
            )
        if has_record:
            applied = {row[0] for row in link.rows(POSTGRES_STATEMENTS["applied_migrations"], {})}
        if not has_keys and not has_creds:
            shape = Shape.EMPTY
        elif value_type == "bytea":
            shape = Shape.OURS
        else:
            shape = Shape.ATTACHED if WATCH_TABLES in applied else Shape.DIARY
    known = [migration.id for migration in _migrations(link)]
    unknown = sorted(applied - set(known))
    if unknown:
        raise SchemaMismatch(
            f"{link.name}: its tables were made by a newer version ({unknown[-1]}); upgrade this program"
        )
    return Schema(shape, tuple(name for name in known if name not in applied))


def migrate(link: PostgresLink | SqliteLink, only: str | None = None) -> list[str]:
    """Applies what is pending, in order, and returns the ids of what it applied; with `only`, that one alone.

    Raises SchemaMismatch, with the database's own words, when a migration fails: nothing of that file stays.
    """
    if not _wanted(schema_of(link), only):
        return []
    with _exclusive(link):
        wanted = _wanted(schema_of(link), only)
        migrations = MigrationList([m for m in _migrations(link) if m.id in wanted])
        if not migrations:
            return []
        with get_backend(_yoyo_url(link)) as backend:
            backend.break_lock()
            with backend.lock():
                for migration in migrations:
                    try:
                        backend.apply_one(migration)
                    except backend.DatabaseError as error:
                        told = str(error).splitlines()[0]
                        raise SchemaMismatch(
                            f"{link.name}: migration {migration.id} failed, nothing of it was kept: {told}"
                        ) from error
        return [migration.id for migration in migrations]


def attach(link: PostgresLink | SqliteLink) -> list[str]:
    """Adds only our own tables beside a live bot's; returns the ids of what it applied, [] when they are there.

    Raises KeystoreError where there is no such bot's database to attach to.
    """
    shape = schema_of(link).shape
    if isinstance(link, SqliteLink) or shape not in (Shape.DIARY, Shape.ATTACHED):
        raise KeystoreError(
            f"{link.name}: there is nothing to attach to: attaching is for a Postgres database whose whatsapp_keys "
            f"a bot still writes as jsonb, and this one is {shape.value}; run `python run.py migrate`"
        )
    return migrate(link, only=WATCH_TABLES)


def _wanted(schema: Schema, only: str | None) -> tuple[str, ...]:
    return schema.pending if only is None else tuple(name for name in schema.pending if name == only)


def _migrations(link: PostgresLink | SqliteLink) -> MigrationList:
    folder = MIGRATIONS / ("sqlite" if isinstance(link, SqliteLink) else "postgres")
    return read_migrations(str(folder))


def _yoyo_url(link: PostgresLink | SqliteLink) -> str:
    if isinstance(link, SqliteLink):
        return f"sqlite:///{quote(str(link.path))}"
    return urlunsplit(urlsplit(link.url)._replace(scheme="postgresql+psycopg"))


def _exclusive(link: PostgresLink | SqliteLink) -> AbstractContextManager[None]:
    if isinstance(link, SqliteLink):
        return _locked_folder(link.path.parent)
    return link.held(POSTGRES_STATEMENTS["migration_lock"], {})


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, which the system releases when its holder dies."""
    give_up_at = monotonic() + LOCK_TIMEOUT_S
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > give_up_at:
                    raise StoreUnavailable(
                        f"{folder}: another process has been migrating here for {LOCK_TIMEOUT_S:.0f} s"
                    ) from None
                threading.Event().wait(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)
