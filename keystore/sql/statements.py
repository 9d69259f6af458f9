"""SQL kept as SQL: complete statements in a `.sql` file beside the backend, each under a `-- name:` line.

The idea is procrastinate's `queries.sql`. A statement's parameters are named; nothing is ever put together from
strings here or by the callers.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def read_statements(path: Path) -> Mapping[str, str]:
    """`{name: statement}` of a file; what stands above the first name is commentary."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))[1:]
    names, texts = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: a statement's name is given twice")
    return {name: _without_comments(text) for name, text in zip(names, texts, strict=True)}


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
