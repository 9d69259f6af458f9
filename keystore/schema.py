"""The schema of a database: the kind of its tables, and the migrations that are pending.

It is read at every start, so it imports no driver and no yoyo. `migrate.py` applies the migrations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from keystore.errors import SchemaMismatch
from keystore.postgres.function_files import function_hash
from keystore.postgres.statements import STATEMENTS as POSTGRES_STATEMENTS
from keystore.sqlite.statements import STATEMENTS as SQLITE_STATEMENTS

if TYPE_CHECKING:
    from keystore.postgres.link import PostgresLink
    from keystore.sqlite.link import SqliteLink

DatabaseLink: TypeAlias = "PostgresLink | SqliteLink"
Read = Callable[[str], list[tuple[Any, ...]]]

MIGRATIONS = next(
    folder
    for folder in (Path(__file__).parent / "migrations", Path(__file__).parent.parent / "migrations")
    if folder.is_dir()
)
"""The folder of the migrations: within this package where it is installed, beside it in a checkout."""

UPKEEP_MIGRATIONS = (
    "20261124_01_keystore_tables",
    "20261125_01_watch_memory",
    "20261125_02_access",
    "20261126_01_closed_sequences",
    "20261126_02_rules_in_the_database",
    "20261126_04_longer_lifetimes",
    "20261126_05_trash",
    "20261127_02_tokens_of_several_companies",
)
"""Ids of the Postgres migrations that `attach_upkeep` applies. They add only our own tables."""

FUNCTIONS_COMMENT = "Signal Keystore, functions "
"""Begins the comment that holds the hash of the functions in a database."""


class Shape(Enum):
    """The kinds of tables in a database."""

    EMPTY = "empty"
    CONVERTED = "converted"
    """Our tables, with values as bytes."""
    LEGACY = "legacy"
    """A bot's own tables, with values as `jsonb`."""
    ATTACHED = "attached"
    """Legacy tables, with our own tables for the upkeep added."""


@dataclass(frozen=True)
class Schema:
    """The shape of a database's tables, the ids of the pending migrations, in order, and the schemas of the tables."""

    shape: Shape
    pending: tuple[str, ...]
    tables_in: str = ""
    """The schema of a Postgres database that holds the tables; empty without any."""

    makes_in: str = ""
    """The schema in which Postgres would make new tables; empty when it has none for this role."""

    functions: str = ""
    """The hash of the functions in a Postgres database; empty without any."""

    is_server: bool = False
    """True for Postgres, whose database holds the rules as functions."""

    @property
    def functions_outdated(self) -> bool:
        """True when the functions in a Postgres database aren't those of this version."""
        return self.is_server and self.functions != function_hash(attached=self.shape is Shape.ATTACHED)


def schema_of(link: DatabaseLink, read: Read | None = None) -> Schema:
    """Return the schema. `read` runs the queries, by default on a connection of the link, each on its own.

    Raises SchemaMismatch if the tables are of a newer version, or row-level security hides their rows.
    """
    read = read or (lambda statement: link.rows(statement, {}))
    applied: set[str] = set()
    tables_in = makes_in = functions = ""
    if not link.is_server:
        ((has_keys, has_migration_table),) = read(SQLITE_STATEMENTS["schema"])
        if has_migration_table:
            applied = {name for (name,) in read(SQLITE_STATEMENTS["applied_migrations"])}
        shape = Shape.CONVERTED if has_keys else Shape.EMPTY
    else:
        (facts,) = read(POSTGRES_STATEMENTS["schema"])
        has_keys, has_creds, has_migration_table, value_type, rows_are_hidden, tables_in, makes_in, functions = facts
        if rows_are_hidden:
            raise SchemaMismatch(
                f"{link.name}: row-level security hides the tables from this role; use the role that owns them "
                "(a table that forces it on its owner too needs NO FORCE ROW LEVEL SECURITY)"
            )
        if has_migration_table:
            applied = {name for (name,) in read(POSTGRES_STATEMENTS["applied_migrations"])}
        if not has_keys and not has_creds:
            shape = Shape.EMPTY
        elif value_type == "bytea":
            shape = Shape.CONVERTED
        else:
            shape = Shape.ATTACHED if UPKEEP_MIGRATIONS[0] in applied else Shape.LEGACY
    known = migration_ids(is_server=link.is_server)
    unknown = sorted(applied - set(known))
    if unknown:
        raise SchemaMismatch(
            f"{link.name}: its tables were made by a newer version ({unknown[-1]}); upgrade this program"
        )
    pending = tuple(name for name in known if name not in applied)
    in_place = functions.removeprefix(FUNCTIONS_COMMENT)
    return Schema(shape, pending, tables_in, makes_in, in_place, is_server=link.is_server)


def migration_ids(*, is_server: bool) -> list[str]:
    """Return the ids of all migrations for this kind of database, in the order in which they are applied."""
    return sorted(path.stem for path in migrations_folder(is_server=is_server).glob("*.sql"))


def migrations_folder(*, is_server: bool) -> Path:
    """Return the folder of the migrations for this kind of database."""
    return MIGRATIONS / ("postgres" if is_server else "sqlite")


def statements_for(link: DatabaseLink) -> Mapping[str, str]:
    """Return the statements for this database, by name."""
    return POSTGRES_STATEMENTS if link.is_server else SQLITE_STATEMENTS
