"""Postgres only: no statement's cost is a product of two lists, even with a plan made while the table was empty.

The server's processor time is measured, so that a busy machine fails no test. An operation whose cost is a product
takes many seconds.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import psutil
import psycopg
import pytest

from keystore import Store, open_store
from rig.fixtures.citus import not_on_citus
from rig.fixtures.clock import Clock
from tests.conformance.flood import flood
from tests.conformance.full_sweep import sweep
from tests.conformance.links import postgres_link
from tests.conformance.other_company import Record, another_company_writing

pytestmark = pytest.mark.slow

KEYS = 10_000
IDS = [f"{n}" for n in range(KEYS)]
GROUPS = [f"g{n}@g.us" for n in range(KEYS // 2)]
LIMIT_S = 1.0
USES = 8
"""Enough uses of an operation to prepare its statement, and to let a session choose a plan for good."""

SESSIONS = dict.fromkeys(IDS, b"V" * 100)

OPERATIONS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("1", "session", IDS),
    "touch": lambda store: store.touch("1", {"session": IDS}),
    "touch of many types": lambda store: store.touch("1", {f"type {id_}": [id_] for id_ in IDS}),
    "set": lambda store: store.set("1", {"session": SESSIONS}),
    "set of pre-keys": lambda store: store.set("1", {"pre-key": dict.fromkeys(IDS, b"V" * 100)}),
    "deletion": lambda store: store.set("2", {"session": dict.fromkeys(IDS)}),
    "load": lambda store: store.load("1"),
    "clear": lambda store: store.clear("2"),
    "census": lambda store: store.census(),
    "life_counts": lambda store: store.life_counts(),
    "backfill": lambda store: store.backfill(1_000),
    "sweep": sweep,
}


@pytest.fixture
def full(migrated_postgres_url: str, clock: Clock) -> Iterator[Store]:
    """A store whose session has made its plans for tables of one page, before they were filled.

    Two companies have 10,000 sessions, one has as many types, and one as many keys of groups. All are due.
    """
    with open_store(migrated_postgres_url, clock=clock, max_connections=1) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"C")
        with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:
            conn.execute("VACUUM ANALYZE whatsapp_keys")  # A table of one page is best read from end to end.
        for _ in range(USES):
            store.set("1", {"session": {"a": b"A"}, "pre-key": {"1": b"A"}}, creds=b"C")
            for name in ("get", "touch", "load", "clear", "backfill"):
                OPERATIONS[name](store)
            store.set("1", {"session": {"a": None}})
        sweep(store)
        for company in ("1", "2"):
            store.set(company, {"session": SESSIONS})
        groups = {"sender-key": {f"{group}::1::0": b"S" for group in GROUPS}}
        store.set("4", groups | {"sender-key-memory": dict.fromkeys(GROUPS, b"M")})
        flood(migrated_postgres_url, "3", KEYS)
        clock.advance(timedelta(days=5))
        yield store


@not_on_citus("the time of the coordinator's process is measured, and a worker does the work")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_on_ten_thousand_keys_takes_a_second(
    full: Store, migrated_postgres_url: str, clock: Clock, operation: str, record_testsuite_property: Record
) -> None:
    if operation == "sweep":
        clock.advance(timedelta(days=30))
    ((server,),) = postgres_link(full).rows("SELECT pg_backend_pid()", {})
    with another_company_writing(migrated_postgres_url, clock, record_testsuite_property, f"{operation} on Postgres"):
        began = used_s(server)
        OPERATIONS[operation](full)
        assert used_s(server) - began < LIMIT_S
    if operation == "sweep":
        assert full.census().total == 2, "a pre-key of the newest generation, and the key written meanwhile"


def used_s(process: int) -> float:
    """The processor time that a process has used."""
    times = psutil.Process(process).cpu_times()
    return times.user + times.system
