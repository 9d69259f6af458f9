"""If the server limits the time of a statement, the table is counted in portions, and the results are the same."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from keystore import Store, StoreUnavailable, open_store
from keystore.postgres import queries as postgres_queries
from keystore.postgres.queries import PostgresQueries
from keystore.sql.link import Run
from keystore.sql.store import SqlStore
from rig.fixtures.clock import START, Clock
from tests.conformance.links import postgres_link
from tests.conformance.upkeep.test_census import made_up_rows

T = TypeVar("T")

SLOW_COUNT = """
SELECT company_id, count(*) FROM (
    SELECT company_id, pg_sleep(0.002)::text FROM whatsapp_keys
    WHERE (%(after)s::text IS NULL OR company_id > %(after)s) AND (%(upto)s::text IS NULL OR company_id <= %(upto)s)
    OFFSET 0
) AS keys GROUP BY company_id
"""
"""A count that takes 2 ms for each key."""


@pytest.fixture
def url(migrated_postgres_url: str) -> str:
    """Return the address of a database with companies of several sizes, some of which have creds only."""
    with open_store(migrated_postgres_url, clock=lambda: START) as store:
        for seed, company in enumerate(("1", "2", "acme", "Bots", "a-1", "z9")):
            store.restore_rows(company, made_up_rows(company, seed)[: 5 + 20 * seed])
        store.set("big", {"session": {f"{n}": b"A" for n in range(300)}}, creds=b"C")
        for company in ("0", "creds", "zz"):
            store.set_creds(company, b"C")
    return migrated_postgres_url


def limited(url: str, timeout: str) -> Store:
    """Open a store for which the server ends every statement after `timeout`."""
    return open_store(f"{url}?options=-cstatement_timeout%3D{timeout}", clock=Clock())


@pytest.mark.parametrize("portion_keys", [1, 40, 100, 1_000])
def test_portions_and_a_single_statement_count_the_same(
    url: str, portion_keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_queries, "FEWEST_AT_A_TIME", portion_keys)
    monkeypatch.setattr(postgres_queries, "COUNTED_PER_MS", 0)
    with open_store(url, clock=lambda: START) as unlimited, limited(url, "1min") as store:
        portions = in_snapshot(store, lambda run: queries_of(store).portions(run, 1.0))
        assert (len(portions) > 1) == (portion_keys < 1_000)
        assert portions[0]["after"] is None
        assert portions[-1]["upto"] is None
        assert store.census() == unlimited.census()
        assert sorted(map(repr, store.life_counts())) == sorted(map(repr, unlimited.life_counts()))
        assert store.low_on_pre_keys(20) == unlimited.low_on_pre_keys(20)
        assert store.largest_company() == unlimited.largest_company() == "big"


def test_an_empty_table_is_counted_in_portions_too(migrated_postgres_url: str) -> None:
    with limited(migrated_postgres_url, "1s") as store:
        assert store.census().total == 0
        assert store.life_counts() == []
        assert store.low_on_pre_keys(20) == {}
        assert store.largest_company() is None


def test_portions_get_smaller_when_a_statement_takes_too_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_queries, "COUNTED_PER_MS", 2)
    with limited(url, "400ms") as store:
        monkeypatch.setattr(PostgresQueries, "sql", {**PostgresQueries.sql, "low_on_pre_keys": SLOW_COUNT})
        with open_store(url) as filler:
            for n in range(8):
                filler.set(f"more-{n}", {"session": {f"{key}": b"A" for key in range(50)}})
            filler.clear("big")
        keys_by_company = store.low_on_pre_keys(1_000)
        assert sum(keys_by_company.values()) > 400
        assert keys_by_company["more-7"] == 50


def test_the_error_of_a_statement_that_the_server_ended_names_the_setting(url: str) -> None:
    advice = r"statement timeout.*ALTER ROLE … SET statement_timeout"
    with limited(url, "50ms") as store, pytest.raises(StoreUnavailable, match=advice):
        in_snapshot(store, lambda run: run("SELECT pg_sleep(5)", {}))


def in_snapshot(store: Store, unit: Callable[[Run], T]) -> T:
    return postgres_link(store).work(unit, snapshot=True)


def queries_of(store: Store) -> PostgresQueries:
    assert isinstance(store, SqlStore)
    assert isinstance(store.queries, PostgresQueries)
    return store.queries
