"""The companies of a storm: the real state of each, what one does when it reconnects, and a thread for each at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Barrier
from time import perf_counter
from typing import Protocol, TypeVar

import psycopg

from keystore.errors import KeystoreError
from keystore.records import AuthState, Keys
from keystore.store import Store
from monitor.upkeep.demo import demo_creds
from rig.baileys_state import pre_keys, real_state

FIRST_BURST_ID = 100_000
"""Beyond the ids of the real pre-keys."""

MESSAGE_EVERY_S = 2.0
"""Of each company: 500 a second of a thousand."""

CONSUME_EVERY = 50
"""One message in so many uses up a pre-key."""

START_WITHIN_S = 60.0
"""For a thousand threads to stand ready."""

COPY_CREDS = """
INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at)
SELECT c, creds, created_at, updated_at FROM unnest(%(companies)s::text[]) AS c, whatsapp_auth
WHERE company_id = %(model)s
"""

COPY_KEYS = """
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT c, key_type, key_id, value, created_at, updated_at, expires_at
FROM unnest(%(companies)s::text[]) AS c, whatsapp_keys WHERE company_id = %(model)s
"""

T = TypeVar("T")


class Bot(Protocol):
    """What a bot does: with a store in this process, or over HTTP."""

    def load(self, company_id: str) -> AuthState:
        """Creds and all keys."""

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Those of these keys that are there."""

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        """Writes keys, and creds unless None."""


@cache
def state() -> AuthState:
    """What each company has: creds and the 721 real keys; for reading only."""
    return AuthState(demo_creds(), real_state())


@cache
def burst() -> dict[str, bytes]:
    """The pre-keys that a reconnect writes; for reading only."""
    return pre_keys(first=FIRST_BURST_ID)


def fill(store: Store, url: str, companies: int) -> list[str]:
    """Gives so many companies their state, the first through the store and the others as its copies; their names."""
    names = [f"7999{number:07}" for number in range(companies)]
    model = state()
    store.set(names[0], model.keys, creds=model.creds)
    with psycopg.connect(url, autocommit=True) as conn:
        for copy in (COPY_CREDS, COPY_KEYS):
            conn.execute(copy, {"companies": names[1:], "model": names[0]})
        conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")  # As autovacuum leaves a table in use.
    return names


def reconnect(bot: Bot, company: str) -> AuthState:
    """Reads everything and writes a burst; what was read."""
    found = bot.load(company)
    bot.set(company, {"pre-key": burst()}, creds=found.creds)
    return found


def at_once(acts: Sequence[Callable[[], T]]) -> tuple[float, list[T]]:
    """Runs each in a thread of its own, all from the same moment; seconds until the last ended, and their results."""
    began_at: list[float] = []
    ready = Barrier(len(acts), action=lambda: began_at.append(perf_counter()), timeout=START_WITHIN_S)

    def run(act: Callable[[], T]) -> tuple[T, float]:
        ready.wait()
        return act(), perf_counter()

    with ThreadPoolExecutor(len(acts)) as threads:
        done = list(threads.map(run, acts))
    return max(ended_at for _, ended_at in done) - began_at[0], [result for result, _ in done]


@contextmanager
def driver_errors_told() -> Iterator[None]:
    """Turns what psycopg raises on the bare side into one line without the address."""
    try:
        yield
    except psycopg.Error as error:
        raise KeystoreError(f"the server can't be used: {type(error).__name__}; look at --url") from error
