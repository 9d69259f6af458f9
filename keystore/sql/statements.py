"""Files of complete SQL statements, each under a name.

The idea is procrastinate's `queries.sql`. Parameters are named, and no statement is assembled from strings.
"""

import re
from collections.abc import Mapping
from pathlib import Path


def read_statements(path: Path) -> Mapping[str, str]:
    """Return the `{name: statement}` of a `.sql` file: each statement follows a line `-- name: …`, without comments."""
    _, *parts = re.split(r"^-- name: (\w+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names, texts = parts[::2], (re.sub(r"^\s*--.*\n?", "", text, flags=re.MULTILINE) for text in parts[1::2])
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: two statements have the same name")
    return {name: text.strip().removesuffix(";") for name, text in zip(names, texts, strict=True)}
