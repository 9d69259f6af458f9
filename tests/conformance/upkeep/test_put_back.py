"""A database that was put back to an older copy shows its holders lower numbers than they were acknowledged."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import LeaseLost, open_store
from rig.fixtures.citus import not_on_citus
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import PostgresSite

FIVE_MINUTES = timedelta(minutes=5)
HOUR_S = 3_600.0

Copied = Callable[[str], AbstractContextManager[str]]
"""Copies the database at an address, with all stores on it closed, and gives the address of the copy."""


def file_copied(url: str) -> AbstractContextManager[str]:
    """Copy a file as `sqlite3 .backup` does."""

    @contextmanager
    def copied() -> Iterator[str]:
        path = Path(url.removeprefix("sqlite:///"))
        copy = path.with_name("copy.db")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        yield f"sqlite:///{copy}"

    return copied()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.slow, not_on_citus("it copies none")])])
def original(request: pytest.FixtureRequest) -> Iterator[tuple[str, Copied]]:
    """The address of a migrated database, and the way to copy it."""
    if request.param == "sqlite":
        yield request.getfixturevalue("migrated_sqlite_url"), file_copied
        return
    site: PostgresSite = request.getfixturevalue("postgres_site")

    @contextmanager
    def copied(url: str) -> Iterator[str]:
        with site.database(url.rpartition("/")[2]) as name:
            yield site.url(name)

    with site.database(request.getfixturevalue("postgres_template")) as name:
        yield site.url(name), copied


def test_a_holder_sees_that_the_database_has_lost_its_last_writes(original: tuple[str, Copied], clock: Clock) -> None:
    url, copied = original
    with open_store(url, clock=clock) as store:
        epoch = store.lease_company("7", "holder", HOUR_S).epoch
        for seq in (1, 2, 3):
            store.set("7", {"session": {"a": b"%d" % seq}}, epoch=epoch, seq=seq)
    with copied(url) as copy:
        clock.advance(FIVE_MINUTES)
        with open_store(url, clock=clock) as store:
            for seq in (4, 5):
                store.set("7", {"session": {"a": b"%d" % seq}}, epoch=epoch, seq=seq)
            acknowledged = (epoch, 5)
            state, lease = store.load("7"), store.lease_company("7", "holder", HOUR_S, epoch=epoch)
            assert (state.epoch, state.seq) == (lease.epoch, lease.seq) == acknowledged
        with open_store(copy, clock=clock) as store:
            state, lease = store.load("7"), store.lease_company("7", "holder", HOUR_S, epoch=epoch)
            assert (state.epoch, state.seq) == (lease.epoch, lease.seq) == (epoch, 3)
            assert (lease.epoch, lease.seq) < acknowledged
            assert state.keys == {"session": {"a": b"3"}}, "and that is true"


def test_a_holder_sees_that_the_database_has_lost_its_lease(original: tuple[str, Copied], clock: Clock) -> None:
    url, copied = original
    with open_store(url, clock=clock) as store:
        epoch = store.lease_company("7", "holder", 60).epoch
        store.set("7", {"session": {"a": b"A"}}, epoch=epoch, seq=1)
    with copied(url) as copy:
        clock.advance(FIVE_MINUTES)
        with open_store(url, clock=clock) as store:
            acknowledged = (store.lease_company("7", "holder", HOUR_S).epoch, 0)
        with open_store(copy, clock=clock) as store:
            assert (store.load("7").epoch, store.load("7").seq) == (epoch, 1)
            assert (epoch, 1) < acknowledged
            with pytest.raises(LeaseLost):
                store.lease_company("7", "holder", HOUR_S, epoch=acknowledged[0])
