"""Writes and takeovers that wait for each other on Postgres. Held locks force the orders that races meet by chance."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from time import monotonic

import psycopg
import pytest

from keystore import LeaseLost, Store, StoreUnavailable, open_store
from rig.waiting import eventually
from tests.conformance.conftest import SECRET_KEY
from tests.conformance.databases.test_postgres_table import locked

pytestmark = pytest.mark.slow

MOST_LOCK_WAIT_S = 10.0
"""Limit of a wait for a lock, which is 5 seconds, on a busy machine."""

TAKEN_OVER = "UPDATE keystore_company_leases SET epoch = epoch + 1, holder = 'newer' WHERE company_id = '7'"

RENEWED = "UPDATE keystore_company_leases SET expires_at = now() + interval '11 minutes' WHERE company_id = '7'"

WRITES: dict[str, Callable[[Store, int], None]] = {
    "put": lambda store, epoch: store.set("7", {"session": {"a": b"X"}}, epoch=epoch),
    "set": lambda store, epoch: store.set("7", {"pre-key": {"1": b"X"}}, creds=b"X", epoch=epoch),
    "set_creds": lambda store, epoch: store.set_creds("7", b"X", epoch=epoch),
    "clear": lambda store, epoch: store.clear("7", epoch=epoch),
}


@pytest.fixture
def leased(migrated_postgres_url: str) -> Iterator[Store]:
    """A store in which company 7 has a state and a lease of epoch 1."""
    with open_store(migrated_postgres_url) as store:
        store.set("7", {"session": {"a": b"A"}, "pre-key": {"1": b"P"}}, creds=b"C")
        store.lease_company("7", "older", 600)
        yield store


@pytest.mark.parametrize("write", WRITES)
def test_a_takeover_waits_for_a_write_under_way(
    leased: Store, migrated_postgres_url: str, lock_waits: Callable[[], int], write: str
) -> None:
    table = "whatsapp_auth" if write == "set_creds" else "whatsapp_keys"
    with ThreadPoolExecutor(2) as pool:
        with locked(migrated_postgres_url, "7", table=table):
            writing = pool.submit(WRITES[write], leased, 1)
            eventually(lambda: lock_waits() == 1, "the write waits in its middle")
            taking = pool.submit(leased.lease_company, "7", "newer", 600, force=True)
            eventually(lambda: lock_waits() == 2, "the takeover waits for the write")
            assert not taking.done()
        writing.result(30)
        assert taking.result(30).epoch == 2


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_waited_for_a_takeover_is_refused(
    leased: Store, migrated_postgres_url: str, lock_waits: Callable[[], int], write: str
) -> None:
    before = leased.get_creds("7"), leased.export_rows("7")
    with ThreadPoolExecutor(1) as pool:
        with closing(psycopg.connect(migrated_postgres_url)) as conn:
            conn.execute(TAKEN_OVER)
            writing = pool.submit(WRITES[write], leased, 1)
            eventually(lambda: lock_waits() == 1, "the write waits for the takeover")
            conn.commit()
        with pytest.raises(LeaseLost, match="newer has the lease"):
            writing.result(30)
    assert (leased.get_creds("7"), leased.export_rows("7")) == before


@pytest.mark.parametrize("write", WRITES)
def test_writes_under_one_lease_do_not_wait_for_each_other(
    leased: Store, migrated_postgres_url: str, write: str
) -> None:
    with closing(psycopg.connect(migrated_postgres_url)) as conn:
        conn.execute("SELECT 1 FROM keystore_company_leases WHERE company_id = '7' FOR SHARE")
        WRITES[write](leased, 1)


def test_a_renewal_does_not_lose_a_write_that_waited_for_it(
    leased: Store, migrated_postgres_url: str, lock_waits: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with closing(psycopg.connect(migrated_postgres_url)) as conn:
            conn.execute(RENEWED)
            writing = pool.submit(WRITES["set"], leased, 1)
            eventually(lambda: lock_waits() == 1, "the write waits for the renewal")
            conn.commit()
        writing.result(30)
    assert leased.get_creds("7") == b"X"


def test_a_clear_that_began_before_the_first_lease_stays_whole(
    migrated_postgres_url: str, lock_waits: Callable[[], int]
) -> None:
    with open_store(migrated_postgres_url) as store, ThreadPoolExecutor(2) as pool:
        store.set("7", {"session": {"a": b"old", "z": b"old"}}, creds=b"old")
        with locked(migrated_postgres_url, "7", "key_id = 'z'"):
            new = {"session": {"a": b"new", "b": b"new", "z": b"new"}, "pre-key": {"1": b"new"}}
            writing = pool.submit(store.set, "7", new, b"new")
            eventually(lambda: lock_waits() == 1, "the set waits in its middle")
            clearing = pool.submit(store.clear, "7")
            eventually(lambda: lock_waits() == 2, "the clear waits for the set")
            store.lease_company("7", "first", 600)
        writing.result(30)
        clearing.result(30)
        assert (store.load("7").creds, store.load("7").keys) == (None, {})


def test_a_clear_leaves_no_session_state_for_the_next_one(leased: Store, migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url, max_connections=1) as store:
        store.clear("7", epoch=1)
        leased.set("7", {"session": {"a": b"A"}}, creds=b"C", epoch=1)
        with pytest.raises(LeaseLost):
            store.clear("7")
    assert (leased.load("7").creds, leased.load("7").total) == (b"C", 1)


def test_locked_rows_of_a_company_end_its_calls_soon_and_hold_up_no_other(
    leased: Store, migrated_postgres_url: str
) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: leased.set("7", {"session": {"a": b"A"}}, epoch=1),
        lambda: leased.lease_company("7", "older", 600, epoch=1),
    )
    with closing(psycopg.connect(migrated_postgres_url)) as other:
        other.execute("SELECT 1 FROM keystore_company_leases WHERE company_id = '7' FOR UPDATE")
        for call in calls:
            began = monotonic()
            with pytest.raises(StoreUnavailable, match="another session holds the rows"):
                call()
            assert monotonic() - began < MOST_LOCK_WAIT_S
            leased.set("8", {"session": {"a": b"A"}})
    for call in calls:
        call()


def test_a_sealed_write_waits_for_a_purge(migrated_postgres_url: str, lock_waits: Callable[[], int]) -> None:
    with open_store(migrated_postgres_url, secret_keys=SECRET_KEY) as store, ThreadPoolExecutor(1) as pool:
        store.set("7", {"session": {"a": b"A"}})
        with closing(psycopg.connect(migrated_postgres_url)) as conn:
            conn.execute("SELECT keystore_drop_data_key('7'), keystore_purge('7', NULL)")
            writing = pool.submit(store.set, "7", {"session": {"b": b"B"}})
            eventually(lambda: lock_waits() == 1, "the write waits for the purge")
            conn.commit()
        writing.result(30)
        assert store.load("7").keys == {"session": {"b": b"B"}}, "it was sealed again, by a new data key"
