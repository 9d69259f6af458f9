"""The line of an API token in a backup: the fields of its record by their names. Only valid tokens are in a backup."""

from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any

from keystore.errors import InvalidInput
from keystore.records import TokenRecord
from monitor.transfer.archive_lines import line_of, time_of

REVOKED_AT = "revoked_at"


def token_line(token: TokenRecord) -> bytes:
    """Return the line of a token."""
    return line_of({name: _plain(value) for name, value in vars(token).items() if name != REVOKED_AT})


def read_token(line: dict[str, Any]) -> TokenRecord:
    """Return the token of a line. Raises InvalidInput."""
    needed = {field.name for field in fields(TokenRecord) if field.default is MISSING} - {REVOKED_AT}
    known = {field.name for field in fields(TokenRecord)} - {REVOKED_AT}
    if not needed <= set(line) <= known:
        raise InvalidInput(f"not a token with {', '.join(sorted(needed))}")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in line.items()}
    for name in ("created_at", "expires_at"):
        values[name] = None if line[name] is None else time_of(line, name)
    try:
        values["secret_hash"] = bytes.fromhex(line["secret_hash"])
    except (TypeError, ValueError):
        raise InvalidInput("secret_hash: not a SHA-256") from None
    return TokenRecord(**values, revoked_at=None)


def _plain(value: object) -> object:
    """Return a field's value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value
