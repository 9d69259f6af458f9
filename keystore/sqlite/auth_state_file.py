"""Reads the database file of Baileys' `useSqliteAuthState`, and changes nothing in it."""

from pathlib import Path

from keystore.sql.statements import read_statements
from keystore.sqlite.link import read_only_rows

_MAGIC = b"SQLite format 3\x00"
_STATEMENTS = read_statements(Path(__file__).with_name("auth_state_file.sql"))


def is_sqlite_file(path: Path) -> bool:
    """True if this is a file of SQLite. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def has_auth_state(path: Path) -> bool:
    """True if the file has the tables of `useSqliteAuthState`. Raises InvalidInput if it can't be read."""
    return bool(read_only_rows(path, _STATEMENTS["has_auth_state"])[0][0])


def read_auth_state(path: Path) -> tuple[bytes | None, list[tuple[str, str, bytes]]]:
    """Return the JSON text of the creds, if there are any, and of each key with its type and id."""
    creds = read_only_rows(path, _STATEMENTS["creds"])
    return creds[0][0] if creds else None, read_only_rows(path, _STATEMENTS["keys"])
