"""Sessions of the status page: an admin token is given once, a random cookie stands for it afterwards.

Sessions live in the database, so that every worker knows them and a sign-out ends one at once. What is kept there is
the cookie's hash: who reads the table can't sign in with it. A session ends with its token, and after half a day.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from api.access.tokens import in_force
from keystore.store import Store
from monitor.note_names import PAGE_SESSION

LASTS = timedelta(hours=12)
COOKIE_BYTES = 32


@dataclass(frozen=True)
class LoginSession:
    """Whose it is and when it ends."""

    token_id: str
    expires_at: datetime


class LoginSessions:
    """The sessions kept in a store's database; `store` opens it. Every method raises what the store raises."""

    def __init__(self, store: Callable[[], Store], clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock

    def begin(self, token_id: str) -> str:
        """A new session of this token; the cookie that stands for it. Forgets those that are over."""
        now = self._clock()
        for name, note in self._store().notes(PAGE_SESSION).items():
            found = _read(note.document)
            if found is None or found.expires_at <= now:
                self._store().remember(name, None)
        cookie = secrets.token_urlsafe(COOKIE_BYTES)
        document = json.dumps({"token_id": token_id, "expires_at": (now + LASTS).isoformat()})
        self._store().remember(_name(cookie), document)
        return cookie

    def find(self, cookie: str) -> LoginSession | None:
        """The session that a cookie stands for; None when there is none, or it is over, or its token no longer holds.

        Two round trips: the second finds a token that was revoked since.
        """
        note = self._store().recall(_name(cookie))
        session = None if note is None else _read(note.document)
        if session is None or session.expires_at <= self._clock():
            return None
        return session if self._is_admin(session.token_id) else None

    def end(self, cookie: str) -> None:
        """Ends a session; one that isn't there is ended already."""
        self._store().remember(_name(cookie), None)

    def _is_admin(self, token_id: str) -> bool:
        """Whether this is an admin's token that holds."""
        token = self._store().find_token(token_id)
        return token is not None and token.company_id is None and in_force(token, self._clock())


def _name(cookie: str) -> str:
    """Of the note; a cookie is whatever somebody sent."""
    return PAGE_SESSION + hashlib.sha256(cookie.encode()).hexdigest()


def _read(document: str) -> LoginSession | None:
    try:
        kept = json.loads(document)
        expires_at = datetime.fromisoformat(kept["expires_at"])
        return LoginSession(str(kept["token_id"]), expires_at) if expires_at.tzinfo is not None else None
    except (ValueError, KeyError, TypeError):
        return None
