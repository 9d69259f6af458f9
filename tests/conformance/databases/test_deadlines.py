"""A bot's call ends by one deadline, for any wait, on either database."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from keystore import Store, StoreUnavailable, open_store
from keystore.sql.link import BOT_DEADLINE_S
from rig.relay import Relay
from tests.conformance.links import postgres_link

DEADLINE_S = 1.0
ENDS_WITHIN_S = 8.0
"""Limit of a call that ends by the deadline, on a busy machine; without it the call would wait for longer."""

WRITES: dict[str, Callable[[Store], object]] = {
    "set": lambda store: store.set("7", {"session": {"a": b"X"}}),
    "touch": lambda store: store.touch("7", {"session": ["a"]}),
    "clear": lambda store: store.clear("7"),
    "lease_company": lambda store: store.lease_company("7", "me", 60),
}


@pytest.fixture(autouse=True)
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that a test can wait for."""
    for database in ("sqlite", "postgres"):
        monkeypatch.setattr(f"keystore.{database}.link.BOT_DEADLINE_S", DEADLINE_S)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Write to a file for the block, as another process does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def ends_by_the_deadline(call: Callable[[], object]) -> None:
    began = monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    assert monotonic() - began < ENDS_WITHIN_S


def test_the_deadline_is_below_the_time_after_which_a_client_gives_up() -> None:
    assert BOT_DEADLINE_S < 40


@pytest.mark.parametrize("write", WRITES)
def test_a_bots_write_does_not_wait_longer_for_another_process(tmp_path: Path, write: str) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db") as store, locked_file(tmp_path / "k.db"):
        ends_by_the_deadline(lambda: WRITES[write](store))


def test_a_bots_write_does_not_wait_longer_for_another_thread(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db") as store, ThreadPoolExecutor(1) as threads:
        with locked_file(tmp_path / "k.db"):
            upkeep = threads.submit(store.remember, "note", "waits for longer than a bot")
            ends_by_the_deadline(lambda: WRITES["set"](store))
            assert not upkeep.done()
        upkeep.result(30)


@pytest.mark.slow
def test_a_bots_write_does_not_wait_longer_for_a_locked_row(migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url) as store, closing(psycopg.connect(migrated_postgres_url)) as other:
        WRITES["set"](store)
        other.execute("SELECT 1 FROM whatsapp_keys WHERE company_id = '7' FOR UPDATE")
        ends_by_the_deadline(lambda: WRITES["set"](store))


@pytest.mark.slow
def test_a_statement_that_timed_out_is_not_repeated(relay: Relay, migrated_postgres_url: str) -> None:
    with open_store(relay.url(migrated_postgres_url)) as store:
        postgres_link(store).answer_timeout_s = DEADLINE_S / 2
        WRITES["set"](store)
        before = relay.connections
        with relay.holding_back(), pytest.raises(StoreUnavailable):
            WRITES["set"](store)
        assert relay.connections - before <= 1, "only the attempt to cancel it"
