"""`seed` writes the demo data set into a real store, and the reports count the expected numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keystore import open_store
from keystore.errors import InvalidInput
from keystore.store import Store
from monitor.upkeep.demo import demo_creds, demo_rows, seed
from rig.fixtures.clock import Clock

BATCH = 250
"""Fewer keys than lack an expiry, so that the backfill has several batches."""


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty SQLite store."""
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock) as opened:
        yield opened


def backfilled(store: Store) -> int:
    """The number of keys that got an expiry, after which none lacks one."""
    total = 0
    while by_type := store.backfill(BATCH):
        total += sum(by_type.values())
    return total


def test_the_census_counts_the_expected_numbers(store: Store) -> None:
    seed(store, "demo")
    census = store.census()
    assert (census.total, census.active, census.expired, census.guarded) == (665, 665, 0, 0)
    assert (census.without_expiry, census.companies) == (609, 1)
    assert (census.created_24h, census.created_7d) == (330, 425)
    assert census.oldest_created_at is not None
    assert (census.taken_at - census.oldest_created_at).days == 17
    totals = {count.key_type: count.total for count in census.by_type}
    named = {key_type: totals.pop(key_type) for key_type in ("lid-mapping", "pre-key", "session", "lid")}
    assert named == {"lid-mapping": 56, "pre-key": 251, "session": 120, "lid": 172}
    assert sum(totals.values()) == 66


def test_the_report_counts_the_written_keys_and_names_the_database(store: Store) -> None:
    report = seed(store, "company_demo")
    assert (report.database, report.company, report.keys, report.without_expiry) == (store.database, "demo", 665, 609)
    assert report.by_type == {count.key_type: count.total for count in store.census().by_type}


def test_rows_and_creds_come_back_as_they_were_made(store: Store, clock: Clock) -> None:
    seed(store, "demo")
    assert store.export_rows("demo") == demo_rows(clock())
    assert store.get_creds("demo") == demo_creds()


def test_backfill_gives_609_keys_an_expiry(store: Store) -> None:
    seed(store, "demo")
    assert backfilled(store) == 609
    assert store.census().without_expiry == 0


def test_every_mis_split_lid_can_be_moved_to_its_type(store: Store) -> None:
    seed(store, "demo")
    names = list(store.key_names(["lid"]))
    assert all(store.move_key(name, "lid-mapping", name.key_id.removeprefix("mapping-")) for name in names)
    assert len(names) == 172
    totals = {count.key_type: count.total for count in store.census().by_type}
    assert totals["lid-mapping"] == 56 + 172
    assert "lid" not in totals


def test_a_company_with_keys_is_left_unchanged(store: Store) -> None:
    store.set("demo", {"session": {"1": b"{}", "2": b"{}"}})
    with pytest.raises(InvalidInput, match=r"demo has 2 keys in sqlite.*another --company or database"):
        seed(store, "company_demo")
    assert store.census().total == 2
    assert store.get_creds("demo") is None


def test_a_company_with_only_creds_is_left_unchanged(store: Store) -> None:
    store.set_creds("demo", b"{}")
    with pytest.raises(InvalidInput, match="demo has 0 keys and creds"):
        seed(store, "demo")
    assert store.census().total == 0
    assert store.get_creds("demo") == b"{}"


def test_another_company_can_be_seeded_beside_it(store: Store) -> None:
    seed(store, "demo")
    seed(store, "demo2")
    assert store.companies() == ["demo", "demo2"]
    assert store.census().total == 2 * 665


def test_a_database_that_refuses_keys_without_expiry_is_left_unchanged(store: Store) -> None:
    store.enforce_expiry()
    with pytest.raises(InvalidInput, match="seed another database"):
        seed(store, "demo")
    assert store.companies() == []
