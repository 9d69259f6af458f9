"""The companies of a storm: their real state, their reconnect, and threads that all begin at the same moment."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from time import perf_counter
from typing import TypeVar

import psycopg

from bench.storms.http_client import HttpBot
from keystore.records import AuthState
from keystore.store import Store
from monitor.upkeep.demo import demo_creds
from rig.baileys_state import pre_keys, real_keys

FIRST_BURST_ID = 100_000
"""The first id of a burst, after the ids of the real pre-keys."""

MESSAGE_EVERY_S = 2.0
"""The interval of each company; a thousand companies send 500 messages a second."""

CONSUME_EVERY = 50
"""The number of messages of which one uses up a pre-key."""

START_WITHIN_S = 60.0
"""The time in which a thousand threads must be ready."""

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

Bot = Store | HttpBot
"""A bot's operations, on a store in this process or over HTTP."""

T = TypeVar("T")


@cache
def state() -> AuthState:
    """The state of each company: creds and the 721 real keys; for reading only."""
    return AuthState(demo_creds(), real_keys())


@cache
def burst() -> dict[str, bytes]:
    """The pre-keys that a reconnect writes; for reading only."""
    return pre_keys(first=FIRST_BURST_ID)


def fill(store: Store, url: str, companies: int) -> list[str]:
    """Write the state of companies, the first through the store and the others as its copies; return their names."""
    names = [f"7999{number:07}" for number in range(companies)]
    model = state()
    store.set(names[0], model.keys, creds=model.creds)
    with psycopg.connect(url, autocommit=True) as conn:
        for copy in (COPY_CREDS, COPY_KEYS):
            conn.execute(copy, {"companies": names[1:], "model": names[0]})
        conn.execute("VACUUM (ANALYZE) whatsapp_keys, whatsapp_auth")  # As autovacuum leaves a table in use.
    return names


def reconnect(bot: Bot, company: str) -> AuthState:
    """Read everything, write a burst, and return the state that was read."""
    loaded = bot.load(company)
    bot.set(company, {"pre-key": burst()}, creds=loaded.creds)
    return loaded


def at_once(acts: Sequence[Callable[[], T]]) -> tuple[float, list[T]]:
    """Run each act in a thread, all from the same moment; return the seconds until the last ended, and the results."""
    began_at: list[float] = []
    ready = Barrier(len(acts), action=lambda: began_at.append(perf_counter()), timeout=START_WITHIN_S)

    def run(act: Callable[[], T]) -> tuple[T, float]:
        ready.wait()
        return act(), perf_counter()

    with ThreadPoolExecutor(len(acts)) as threads:
        results = list(threads.map(run, acts))
    return max(ended_at for _, ended_at in results) - began_at[0], [result for result, _ in results]
