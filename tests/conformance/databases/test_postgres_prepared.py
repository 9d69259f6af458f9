"""Prepared statements: used on a direct connection, never behind a pooler; a lost one causes no error."""

from contextlib import closing

import psycopg

from keystore import Store, open_store
from keystore.opening import open_link
from keystore.postgres.link import MOST_BYTES_HELD, MOST_ITEMS_HELD, PREPARE_AFTER
from keystore.postgres.statements import STATEMENTS
from keystore.sql.link import UPKEEP_TIMEOUT_S
from rig.relay import Relay
from tests.conformance.links import postgres_link

USES = PREPARE_AFTER + 2
FORGET_ALL = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"
"""Forgets all prepared statements without psycopg noticing, as it would a plain DEALLOCATE."""


def used(url: str) -> Store:
    """A store on one connection that has run each bot operation often enough to prepare it; the caller closes it."""
    store = open_store(url, max_connections=1)
    for number in range(USES):
        use(store, number)
    return store


def use(store: Store, number: int) -> None:
    """Run each bot operation once."""
    store.set("1", {"session": {"a": b"%d" % number}})
    store.set("1", {"pre-key": {"7": b"%d" % number}}, creds=b"C")
    assert store.get("1", "session", ["a", "b"]) == {"a": b"%d" % number}
    assert store.load("1").keys == {"session": {"a": b"%d" % number}, "pre-key": {"7": b"%d" % number}}
    store.touch("1", {"session": ["a"]})


def prepared(store: Store) -> int:
    """The number of statements that the store's connection has prepared."""
    return int(postgres_link(store).rows("SELECT count(*) FROM pg_prepared_statements", {}, UPKEEP_TIMEOUT_S)[0][0])


def test_a_bots_statements_are_prepared_on_the_server_itself(migrated_postgres_url: str) -> None:
    with used(migrated_postgres_url) as store:
        assert prepared(store) == 5
        for _ in range(USES):
            store.census()
            store.companies()
        assert prepared(store) == 5, "upkeep statements are planned for their parameters"


def test_nothing_is_prepared_behind_a_pooler(pgbouncer_url: str) -> None:
    with used(pgbouncer_url) as store:
        assert prepared(store) == 0


def test_preparing_takes_no_round_trip_more(migrated_postgres_url: str, relay: Relay) -> None:
    with open_store(relay.url(migrated_postgres_url), max_connections=1) as store:
        store.load("1")
        before = relay.round_trips
        for number in range(USES):
            use(store, number)
        assert relay.round_trips - before == 5 * USES
        assert prepared(store) == 5


def test_a_load_is_prepared_from_the_first(migrated_postgres_url: str) -> None:
    with open_store(migrated_postgres_url, max_connections=1) as store:
        assert prepared(store) == 1


def test_the_store_that_makes_the_tables_prepares_a_load_too(postgres_url: str) -> None:
    with used(postgres_url) as store:
        assert prepared(store) == 5


def test_a_connection_opened_before_the_tables_exist_works(postgres_url: str) -> None:
    with closing(open_link(postgres_url, 1)) as link:
        link.rows("SELECT 1", {})
        open_store(postgres_url).close()
        for _ in range(USES):
            assert link.rows(STATEMENTS["load"], {"company_id": "1"}) == []
        assert link.rows("SELECT count(*) FROM pg_prepared_statements", {}, UPKEEP_TIMEOUT_S) == [(0,)]


def test_opening_a_connection_does_not_wait_for_a_locked_table(migrated_postgres_url: str) -> None:
    with psycopg.connect(migrated_postgres_url) as holder:
        holder.execute("LOCK TABLE whatsapp_keys")
        store = open_store(migrated_postgres_url, max_connections=1)
        assert postgres_link(store).rows("SELECT current_setting('lock_timeout')", {}) == [("0",)]
    with store:
        use(store, 1)


def test_lost_prepared_statements_cause_no_error(migrated_postgres_url: str) -> None:
    with used(migrated_postgres_url) as store:
        postgres_link(store).rows(FORGET_ALL, {}, UPKEEP_TIMEOUT_S)
        assert prepared(store) == 0
        for number in range(USES):
            use(store, number)


def test_a_changed_column_type_causes_no_error(migrated_postgres_url: str) -> None:
    with used(migrated_postgres_url) as store:
        with psycopg.connect(migrated_postgres_url) as conn:
            conn.execute("ALTER TABLE whatsapp_keys ALTER COLUMN key_id TYPE varchar(1000)")
        for number in range(USES):
            use(store, number)


def test_a_connection_holds_nothing_of_a_large_call(migrated_postgres_url: str) -> None:
    few_large = {f"{n}": bytes(MOST_BYTES_HELD // 4 + 1) for n in range(4)}
    many_small = {f"{n}": b"A" for n in range(MOST_ITEMS_HELD + 1)}
    with used(migrated_postgres_url) as store:
        for key_type, keys in (("session", few_large), ("pre-key", many_small)):
            assert {"get", "set"} <= holding(store)
            for _ in range(2 * USES):  # With each combination of nulls often enough.
                store.set("2", {key_type: keys})
            assert store.get("2", key_type, keys) == keys
            assert not {"get", "set"} & holding(store)
            store.set("2", {key_type: {"0": b"B"}})
            assert store.get("2", key_type, ["0"]) == {"0": b"B"}


def holding(store: Store) -> set[str]:
    """The names of the statements of which the store's connection holds the last call."""
    with postgres_link(store)._pool.connection() as conn:
        return {name for name, statement in STATEMENTS.items() if statement in conn.cursors}
