"""API tokens: made, shown once, kept as a hash.

The first start of an embedded database makes an admin's, so that whoever runs it can use it: in a file beside the
database that its owner alone can read.
"""

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from keystore.errors import InvalidInput, KeystoreError
from keystore.ids import canonical_company
from keystore.records import TokenRecord
from keystore.store import Store

TOKEN = re.compile(r"kst_([a-z0-9]{1,32})_([A-Za-z0-9_-]{20,128})")
"""Its id and its secret."""

ID_BYTES = 6
SECRET_BYTES = 32

FILE_SUFFIX = ".admin-token"

log = structlog.get_logger()


@dataclass(frozen=True)
class NewToken:
    """A token that was just made; `token` is never to be had again."""

    token: str = field(repr=False)
    token_id: str
    company: str | None
    expires_at: datetime | None


@dataclass(frozen=True)
class ListedToken:
    """A token as `token list` shows it."""

    token_id: str
    company: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    in_force: bool


def create_token(store: Store, company: str | None, expires_in_s: float | None) -> NewToken:
    """Makes a token for a company, or with None an admin's, which reaches all. Raises what the store raises."""
    made = _make(company, expires_in_s)
    store.add_token(_record(made))
    return made


def listed_tokens(store: Store) -> list[ListedToken]:
    """Every token there ever was."""
    now = datetime.now(UTC)
    return [
        ListedToken(one.token_id, one.company_id, one.created_at, one.expires_at, one.revoked_at, in_force(one, now))
        for one in store.tokens()
    ]


def token_line(one: ListedToken) -> str:
    """A token in one line, for a terminal."""
    if one.revoked_at is not None:
        state = f"revoked {one.revoked_at:%Y-%m-%d %H:%M} UTC"
    elif one.expires_at is None:
        state = "in force"
    else:
        state = f"{'in force until' if one.in_force else 'expired'} {one.expires_at:%Y-%m-%d %H:%M} UTC"
    whose = "admin" if one.company is None else f"company {one.company}"
    return f"{one.token_id}  {whose}  made {one.created_at:%Y-%m-%d}  {state}"


def revoke_token(store: Store, token_id: str) -> None:
    """Ends a token: every worker refuses it within 5 seconds. Raises InvalidInput where there is none."""
    if not store.revoke_token(token_id):
        raise InvalidInput(f"token {ascii(token_id)[:80]}: there is none with this id; see `python run.py token list`")


def announce_first_admin_token(store: Store, database: Path) -> None:
    """Make an admin's token where there never was a token, and log the file that holds it. Raises KeystoreError."""
    file = keep_first_admin_token(store, database)
    if file is not None:
        log.info("admin_token_made", file=str(file), hint="send it as Authorization: Bearer")


def keep_first_admin_token(store: Store, database: Path) -> Path | None:
    """Makes an admin's token where there never was a token, and keeps it beside the database file; where, or None.

    The file is written first: a start that dies in between is the first start again.
    """
    if store.tokens():
        return None
    made = _make(None, None)
    file = database.with_name(database.name + FILE_SUFFIX)
    half = file.with_name(file.name + ".new")
    try:
        half.unlink(missing_ok=True)
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(made.token + "\n")
            opened.flush()
            os.fsync(descriptor)
        half.replace(file)
    except OSError as error:
        raise KeystoreError(f"{file}: the admin's token can't be written: {error.strerror}") from error
    store.add_token(_record(made))
    return file


def _make(company: str | None, expires_in_s: float | None) -> NewToken:
    token_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    expires_at = None if expires_in_s is None else datetime.now(UTC) + timedelta(seconds=expires_in_s)
    return NewToken(
        f"kst_{token_id}_{secret}", token_id, None if company is None else canonical_company(company), expires_at
    )


def _record(made: NewToken) -> TokenRecord:
    secret = made.token.split("_", 2)[2]
    return TokenRecord(made.token_id, hash_of(secret), made.company, datetime.now(UTC), made.expires_at, None)


def hash_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def in_force(record: TokenRecord, now: datetime) -> bool:
    """Whether a token is neither revoked nor expired."""
    return record.revoked_at is None and (record.expires_at is None or record.expires_at > now)
