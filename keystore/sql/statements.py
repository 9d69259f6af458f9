"""Reads the `.sql` file of a backend: complete statements, each below a `-- name:` line.

The idea is procrastinate's `queries.sql`. Parameters are named, and no statement is assembled from strings.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def read_statements(path: Path) -> Mapping[str, str]:
    """Return the file's `{name: statement}`. Text above the first name is a comment."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))[1:]
    names, texts = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: two statements have the same name")
    return {name: _without_comments(text) for name, text in zip(names, texts, strict=True)}


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
