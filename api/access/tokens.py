"""API tokens: created, shown once, stored as a hash.

The functions that take a store raise the store's errors. The first start of an embedded database creates an admin
token, so that its operator can use the API at once. The token is in a file beside the database that only the owner
can read.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from keystore.errors import InvalidInput, KeystoreError
from keystore.ids import canonical_company
from keystore.invocation import command
from keystore.records import TokenRecord
from keystore.store import Store

TOKEN = re.compile(r"kst_([a-z0-9]{1,32})_([A-Za-z0-9_-]{20,128})")
"""The form of a token; the groups are its id and its secret."""

ID_BYTES = 6
SECRET_BYTES = 32

COMPANIES_NAMED = 5
"""Companies of a token that a list shows by name; `--json` has all of them."""

FIRST_ID = "first"
"""The id of the admin token that the first start makes."""

FILE_SUFFIX = ".admin-token"

log = structlog.get_logger()


def create_token(
    store: Store, company: str | None, expires_in_s: float | None, further_companies: Iterable[str] = ()
) -> tuple[str, TokenRecord]:
    """Create a token for one or more companies; without one, an admin token, which reaches all companies.

    Return the token, which is shown now and can't be read again, and its record.
    """
    token, record = _new_token(company, expires_in_s, further_companies=further_companies)
    store.add_token(record)
    return token, record


def token_columns(token: TokenRecord, now: datetime) -> tuple[str, str, str, str]:
    """Return a token's id, owner, date and state, in words."""
    return token.token_id, _owner(token), f"{token.created_at:%Y-%m-%d}", _state(token, now)


def _owner(token: TokenRecord) -> str:
    if token.is_admin:
        return "admin"
    named, left_out = token.companies[:COMPANIES_NAMED], len(token.companies[COMPANIES_NAMED:])
    noun = "company" if len(token.companies) == 1 else "companies"
    return f"{noun} {', '.join(named)}" + (f" and {left_out:,} more" if left_out else "")


def _state(token: TokenRecord, now: datetime) -> str:
    if token.revoked_at is not None:
        return f"revoked {token.revoked_at:%Y-%m-%d %H:%M} UTC"
    if token.expires_at is None:
        return "in force"
    return f"{'in force until' if in_force(token, now) else 'expired'} {token.expires_at:%Y-%m-%d %H:%M} UTC"


def revoke_token(store: Store, token_id: str) -> None:
    """End a token: every worker refuses it within 5 seconds. Raises InvalidInput if no token has this id."""
    if not store.revoke_token(token_id):
        raise InvalidInput(f"token {ascii(token_id)[:80]}: no token has this id; see `{command('token list')}`")


def announce_first_admin_token(store: Store, database: Path) -> Path | None:
    """Create an admin token if the database never had a token, and log the file that holds it. Raises KeystoreError.

    Returns that file, also if an earlier start made it. The database decides which of two starts is the first, because
    both use one id. Each writes a file of its own beforehand, named after the token's hash. The first one renames its
    file afterwards; if it dies before that, the next start renames it.
    """
    file = token_file(database)
    tokens = store.tokens()
    if tokens:
        for record in tokens:
            if record.token_id == FIRST_ID:
                _rename_if_there(_unannounced(file, record), file)
        return file if file.is_file() else None
    token, record = _new_token(None, None, FIRST_ID)
    unannounced = _unannounced(file, record)
    _write_private(unannounced, token + "\n")
    try:
        store.add_token(record)
    except InvalidInput:  # Another start was the first.
        unannounced.unlink(missing_ok=True)
        return announce_first_admin_token(store, database)
    _rename_if_there(unannounced, file)
    log.info("admin_token_made", file=str(file), hint="sign in with it, or send it as Authorization: Bearer")
    return file


def _unannounced(file: Path, record: TokenRecord) -> Path:
    """The token's file until it is known that its token is the first."""
    return file.with_name(f"{file.name}.{record.secret_hash.hex()[:16]}")


def _rename_if_there(unannounced: Path, file: Path) -> None:
    with suppress(FileNotFoundError):  # Another start has renamed it.
        unannounced.replace(file)


def token_file(database: Path) -> Path:
    """Return the file that the first admin token of an embedded database is written to."""
    return database.with_name(database.name + FILE_SUFFIX)


def _write_private(file: Path, text: str) -> None:
    """Write a new file that its owner alone can read. Raises KeystoreError."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise KeystoreError(f"{file}: the admin token can't be written: {error.strerror}") from error


def _new_token(
    company: str | None, expires_in_s: float | None, token_id: str | None = None, further_companies: Iterable[str] = ()
) -> tuple[str, TokenRecord]:
    token_id, secret = token_id or secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    company_id = None if company is None else canonical_company(company)
    further = dict.fromkeys(name for name in map(canonical_company, further_companies) if name != company_id)
    now = datetime.now(UTC)
    expires_at = None if expires_in_s is None else now + timedelta(seconds=expires_in_s)
    record = TokenRecord(token_id, hash_of(secret), company_id, now, expires_at, None, tuple(further))
    return f"kst_{token_id}_{secret}", record


def hash_of(secret: str) -> bytes:
    """Return the hash by which a secret is stored."""
    return hashlib.sha256(secret.encode()).digest()


def in_force(record: TokenRecord, now: datetime) -> bool:
    """Return True unless the token is revoked or expired."""
    return record.revoked_at is None and (record.expires_at is None or record.expires_at > now)
