"""The functions that `migrate` puts into the database: the text of `functions/*.sql`, and its hash.

The database has the hash of its functions in a comment on one of them. So a store notices at opening whether the
functions are those of its version.
"""

import re
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).with_name("functions")

FOR_UPKEEP = ("rules.sql", "guards.sql", "trash.sql", "upkeep.sql")
"""The files for a legacy database beside a live bot, which has no functions for keys."""

FOR_KEYS = ("leases.sql", "keys.sql", "sealing.sql", "bots.sql", "logins.sql")

RECORDED = "recorded.sql"
"""The last file: it closes the functions to everybody but their owner, and records the hash."""


def function_text(*, attached: bool) -> str:
    """Return the statements that make the functions, without the last file."""
    names = FOR_UPKEEP if attached else FOR_UPKEEP + FOR_KEYS
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def function_hash(*, attached: bool) -> str:
    """Return the hash of the functions, in hexadecimal digits."""
    return sha256((function_text(attached=attached) + recording_text()).encode()).hexdigest()[:16]


def function_names(text: str) -> list[str]:
    """Return the names of the functions that these statements make."""
    return re.findall(r"^CREATE OR REPLACE FUNCTION (\w+)", text, flags=re.MULTILINE)


def recording_text() -> str:
    """Return the statements of the last file."""
    return (FOLDER / RECORDED).read_text(encoding="utf-8")
