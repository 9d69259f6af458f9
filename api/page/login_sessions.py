"""Sessions of the status page: an admin token is sent once, and a random cookie stands for it afterwards.

Sessions are stored in the database, so that every worker knows them and a sign-out ends one at once. Only the cookie's
hash is stored: a reader of the table can't sign in with it. A session ends with its token, and after half a day. The
methods raise the store's errors.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from api.access.tokens import in_force
from keystore.records import Note
from keystore.store import Store
from monitor.note_names import PAGE_SESSION

LIFETIME = timedelta(hours=12)
COOKIE_BYTES = 32


class _Session(msgspec.Struct):
    token_id: str
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)]


_decoder = msgspec.json.Decoder(_Session)


class LoginSessions:
    """The sessions in a store's database; `store` opens it."""

    def __init__(self, store: Callable[[], Store], clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock

    def begin(self, token_id: str) -> str:
        """Begin a session of an admin token, and return its cookie. Expired sessions are deleted."""
        now = self._clock()
        for name, note in self._store().notes(PAGE_SESSION).items():
            if _live_session(note, now) is None:
                self._store().remember(name, None)
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        session = _Session(token_id, now + LIFETIME)
        self._store().remember(_note_name(cookie), msgspec.json.encode(session).decode())
        return cookie

    def is_valid(self, cookie: str) -> bool:
        """Return True if the cookie's session hasn't expired and its token is still an admin token in force.

        This takes two round trips: the second finds a token that was revoked since.
        """
        session = _live_session(self._store().recall(_note_name(cookie)), self._clock())
        if session is None:
            return False
        token = self._store().find_token(session.token_id)
        return token is not None and token.is_admin and in_force(token, self._clock())

    def end(self, cookie: str) -> None:
        """End a session, if it exists."""
        self._store().remember(_note_name(cookie), None)


def _note_name(cookie: str) -> str:
    """Return the name of a session's note. It is a hash, because a client may send any text as its cookie."""
    return PAGE_SESSION + hashlib.sha256(cookie.encode()).hexdigest()


def _live_session(note: Note | None, now: datetime) -> _Session | None:
    """Return the session in a note; None if it has expired or can't be read."""
    try:
        session = None if note is None else _decoder.decode(note.document)
    except msgspec.DecodeError:
        return None
    return None if session is None or session.expires_at <= now else session
