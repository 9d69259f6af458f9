"""Our own tables attached beside a live bot: nothing else changes, and upkeep works while the bot writes jsonb."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keystore import KeystoreError, SchemaMismatch, Store, open_store
from keystore.migrate import attach_upkeep, migrate
from keystore.records import TokenRecord
from keystore.schema import UPKEEP_MIGRATIONS, Shape, schema_of
from keystore.ttl import DIARY
from rig.fixtures.clock import START
from rig.fixtures.postgres import PostgresSite
from rig.waiting import eventually
from tests.conformance.full_sweep import sweep
from tests.migration.conftest import POSTGRES_FILES, UPSERT, LegacyDatabase, catalog, opened_link

pytestmark = pytest.mark.slow

STORE_CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("1", "session", ["a"]),
    "set": lambda store: store.set("1", {"session": {"a": b"A"}}),
    "set, deleting": lambda store: store.set("1", {"session": {"a": None}}),
    "set with creds": lambda store: store.set("1", {}, creds=b"C"),
    "load": lambda store: store.load("1"),
    "touch": lambda store: store.touch("1", {"session": ["a"]}),
    "get_creds": lambda store: store.get_creds("1"),
    "set_creds": lambda store: store.set_creds("1", b"C"),
    "clear": lambda store: store.clear("1"),
    "lease_company": lambda store: store.lease_company("1", "a", 60),
    "release_company": lambda store: store.release_company("1", "a", 1),
    "export_rows": lambda store: store.export_rows("1"),
    "restore_rows": lambda store: store.restore_rows("1", []),
}


def run_attach(url: str) -> list[str]:
    with opened_link(url) as link:
        return attach_upkeep(link)


@contextmanager
def bot_writing(legacy: LegacyDatabase) -> Iterator[Callable[[], int]]:
    """Run a bot that upserts jsonb during the block; yields a function that returns the number written so far."""
    stop, written = threading.Event(), [0]
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with closing(legacy.connect()) as conn:
                while not stop.is_set():
                    n = written[0] % 50
                    conn.execute(UPSERT, ("1", "session", f"live {n}", '{"type": "Buffer", "data": [1, 2, 3]}'))
                    written[0] += 1
        except BaseException as error:  # noqa: BLE001  # the test's own thread raises it
            failed.append(error)

    thread = threading.Thread(target=write, name="bot")
    thread.start()
    try:
        eventually(lambda: written[0] > 50 or bool(failed), "the bot writes")
        yield lambda: written[0]
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_attaching_changes_nothing_of_the_bots(legacy: LegacyDatabase) -> None:
    legacy.execute("CREATE INDEX covering ON whatsapp_keys (company_id) INCLUDE (value)")
    legacy.upsert("company_1", "session", "a", {"type": "Buffer", "data": [1, 2]})
    rows = legacy.execute("SELECT * FROM whatsapp_keys")
    before = catalog(legacy.url)
    assert run_attach(legacy.url) == list(UPKEEP_MIGRATIONS)
    assert catalog(legacy.url, without_ours=True) == before
    assert legacy.execute("SELECT * FROM whatsapp_keys") == rows
    assert run_attach(legacy.url) == []
    with opened_link(legacy.url) as link:
        assert schema_of(link).shape is Shape.ATTACHED


def test_counting_filling_and_sweeping_work_while_the_bot_writes(legacy: LegacyDatabase) -> None:
    many = (
        "INSERT INTO whatsapp_keys SELECT '1', %s, 'key ' || n, '{}', now(), now() - interval '30 days', "
        "now() + %s::interval "
        "FROM generate_series(1, %s) AS n"
    )
    legacy.execute(many, ("session", "-1 day", 40))
    legacy.execute(many, ("lid-mapping", None, 60))
    legacy.execute(many, ("app-state-sync-key", "-1 day", 3))
    with bot_writing(legacy) as written:
        run_attach(legacy.url)
        with open_store(legacy.url, policy=DIARY) as store:
            before = store.census()
            assert (before.without_expiry, before.expired, before.guarded) == (60, 40, 3)
            assert store.backfill(1_000) == {"lid-mapping": 60}
            lease = store.acquire_lease("sweep", "me", 60)
            assert lease is not None
            run = store.start_sweep("me")
            (due,) = store.due_companies()
            assert (due.company_id, due.keys) == ("1", 43)
            (sessions,) = store.due_sessions()
            assert (sessions.company_id, sessions.due) == ("1", 40)
            run = store.sweep_companies(lease, run, ["1"], 60)
            assert store.finish_sweep(run, 1.0, None).by_type == {"session": 40}
            after = store.census()
            assert (after.without_expiry, after.expired, after.guarded) == (0, 0, 3)
            assert [type(name.updated_at) for name in store.key_names(["lid-mapping"])] == [type(START)] * 60
            store.release_lease(lease)
        so_far = written()
        eventually(lambda: written() > so_far + 50, "the bot goes on writing")
    assert legacy.execute("SELECT count(*) FROM whatsapp_keys WHERE jsonb_typeof(value) = 'object'") == [(113,)]


BOT_WRITES = {
    "update": "UPDATE whatsapp_keys SET updated_at = %(now)s WHERE key_id = 'in use'",
    "upsert": """
        INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, updated_at)
        VALUES ('1', 'session', 'in use', '{}', %(now)s)
        ON CONFLICT (company_id, key_type, key_id) DO UPDATE
        SET value = excluded.value, updated_at = excluded.updated_at
    """,
    # As PostgREST makes it of an upsert by Supabase's client: every column of the body is set, and no other.
    "upsert over REST": """
        WITH source AS (
            INSERT INTO public.whatsapp_keys (company_id, key_id, key_type, updated_at, value)
            SELECT body.company_id, body.key_id, body.key_type, body.updated_at, body.value
            FROM (SELECT json_build_array(json_build_object(
                'company_id', '1', 'key_type', 'session', 'key_id', 'in use', 'value', '{}'::json,
                'updated_at', %(now)s::timestamptz)) AS data) AS payload,
            LATERAL (SELECT * FROM json_to_recordset(payload.data) AS row (
                company_id text, key_id text, key_type text, updated_at timestamptz, value jsonb)) AS body
            ON CONFLICT (company_id, key_type, key_id) DO UPDATE
            SET company_id = excluded.company_id, key_id = excluded.key_id, key_type = excluded.key_type,
                updated_at = excluded.updated_at, value = excluded.value
            RETURNING 1
        )
        SELECT '' AS total_result_set, count(*) AS page_total FROM source
    """,
}
"""The statements by which bots write a key again; none of them moves its expiry."""


@pytest.mark.parametrize("write", BOT_WRITES)
def test_a_key_that_the_bot_wrote_in_its_last_lifetime_is_not_due(legacy: LegacyDatabase, write: str) -> None:
    """Its own upserts set updated_at and leave expires_at, so that the expiry of each key in use is long past."""
    legacy.upsert("1", "session", "in use", {})
    legacy.upsert("1", "session", "silent", {})
    run_attach(legacy.url)
    silent = "UPDATE whatsapp_keys SET updated_at = %s WHERE key_id = 'silent'"
    with open_store(legacy.url, policy=DIARY) as store:
        store.backfill(10)
    with closing(legacy.connect()) as conn:
        conn.execute("DROP TRIGGER trigger_whatsapp_keys_updated_at ON whatsapp_keys")
        began = datetime.now(UTC)
        conn.execute(silent, (began,))
        for day in range(1, 31):
            now = began + timedelta(days=day)
            if day % 3 == 0:
                conn.execute(BOT_WRITES[write], {"now": now})
            with open_store(legacy.url, clock=lambda: now) as store:  # noqa: B023
                store.backfill(10)
                expired = store.census().expired
                assert sweep(store).deleted == expired
            left = {row[0] for row in conn.execute("SELECT key_id FROM whatsapp_keys")}
            assert left == ({"in use", "silent"} if day <= 7 else {"in use"})


def test_a_backfill_beside_the_bot_leaves_the_newest_pre_keys_guarded(legacy: LegacyDatabase) -> None:
    with closing(legacy.connect()) as conn:
        for days, first, expires in ((60, 1, "NULL"), (2, 100, "now() + interval '5 days'")):
            conn.execute(
                "INSERT INTO whatsapp_keys SELECT 'b', 'pre-key', g::text, '{}', "
                f"now() - interval '{days} days', now() - interval '{days} days', {expires} "
                f"FROM generate_series({first}, {first + 4}) AS g"
            )
        run_attach(legacy.url)
        with open_store(legacy.url) as store:
            assert store.backfill(100) == {"pre-key": 5}
        later = datetime.now(UTC) + timedelta(days=6)
        with open_store(legacy.url, clock=lambda: later) as store:
            assert store.census().expired == 0
            sweep(store)
        left = {row[0] for row in conn.execute("SELECT key_id FROM whatsapp_keys WHERE key_type = 'pre-key'")}
        assert {"100", "101", "102", "103", "104"} <= left


def test_companies_are_listed_and_tokens_saved_beside_the_bot(legacy: LegacyDatabase) -> None:
    legacy.upsert("company_1", "session", "a", {})
    legacy.upsert("2", "session", "a", {})
    legacy.execute("ALTER TABLE whatsapp_keys DISABLE TRIGGER USER")
    legacy.execute("UPDATE whatsapp_keys SET updated_at = NULL WHERE company_id = '2'")
    run_attach(legacy.url)
    token = TokenRecord("a", bytes(32), "1", START, None, None, ("2", "3"))
    with open_store(legacy.url) as store:
        page = store.company_page()
        assert [(company.company_id, company.keys, company.lease) for company in page.companies] == [
            ("2", 1, None),
            ("company_1", 1, None),
        ]
        assert [type(company.last_activity_at) for company in page.companies] == [type(None), type(START)]
        store.add_token(token)
        assert store.find_token("a") == token


@pytest.mark.parametrize("call", STORE_CALLS)
def test_a_call_of_a_bot_is_refused_until_the_values_are_converted(legacy: LegacyDatabase, call: str) -> None:
    legacy.upsert("1", "session", "a", {})
    rows = legacy.execute("SELECT * FROM whatsapp_keys")
    run_attach(legacy.url)
    with open_store(legacy.url) as store, pytest.raises(SchemaMismatch, match=r"not converted yet.*run.py migrate"):
        STORE_CALLS[call](store)
    assert legacy.execute("SELECT * FROM whatsapp_keys") == rows
    assert legacy.execute("SELECT count(*) FROM whatsapp_auth") == [(0,)]


def test_an_attached_database_can_be_migrated_later(legacy: LegacyDatabase) -> None:
    legacy.upsert("1", "mine", "a", {"type": "Buffer", "data": [1, 2]})
    run_attach(legacy.url)
    with open_store(legacy.url) as store:
        store.finish_sweep(store.start_sweep("before"), 1.0, None)
    with opened_link(legacy.url) as link:
        applied = migrate(link)
        assert not set(UPKEEP_MIGRATIONS) & set(applied)
        assert len(applied) == len(POSTGRES_FILES) - len(UPKEEP_MIGRATIONS)
        with pytest.raises(KeystoreError, match="this database is converted"):
            attach_upkeep(link)
    with open_store(legacy.url) as store:
        assert store.load("1").keys == {"mine": {"a": b'{"data": "AQI=", "type": "Buffer"}'}}
        assert [run.sweeper for run in store.sweep_runs(5)] == ["before"]


def test_attaching_to_any_other_database_is_refused(
    postgres_url: str, postgres_site: PostgresSite, migrated_postgres_url: str, tmp_path: Path
) -> None:
    for url, shape in (
        (postgres_url, "empty"),
        (migrated_postgres_url, "converted"),
        (f"sqlite:///{tmp_path / 'keystore.db'}", "empty"),
    ):
        with pytest.raises(
            KeystoreError, match=rf"nothing to attach to.*this database is {shape}; run `python run.py migrate`"
        ):
            run_attach(url)
    assert catalog(postgres_url)["tables"] == []


def test_a_legacy_database_is_not_opened_before_attach_or_migrate(legacy: LegacyDatabase) -> None:
    before = catalog(legacy.url)
    with pytest.raises(SchemaMismatch, match=r"run `python run.py migrate` .*or run `python run.py migrate --attach`"):
        open_store(legacy.url)
    assert catalog(legacy.url) == before


def test_attaching_waits_for_no_transaction_of_a_bot(legacy: LegacyDatabase) -> None:
    with closing(legacy.connect()) as conn, conn.transaction():
        conn.execute(UPSERT, ("1", "mine", "open", "{}"))
        conn.execute("LOCK TABLE whatsapp_keys, whatsapp_auth IN ACCESS EXCLUSIVE MODE")
        assert run_attach(legacy.url) == list(UPKEEP_MIGRATIONS)


def test_reading_the_schema_lists_pending_files_and_changes_nothing(legacy: LegacyDatabase, database_rows: Any) -> None:
    with opened_link(legacy.url) as link:
        assert len(schema_of(link).pending) == len(POSTGRES_FILES)
        attach_upkeep(link)
        assert len(schema_of(link).pending) == len(POSTGRES_FILES) - len(UPKEEP_MIGRATIONS)
    assert database_rows(legacy.url, "SELECT count(*) FROM _yoyo_migration") == [(len(UPKEEP_MIGRATIONS),)]
