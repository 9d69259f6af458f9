"""A legacy database is adopted in place: no key is lost, and every Buffer ends in base64 form."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from yoyo import get_backend, read_migrations

from keystore import open_store
from keystore.migrate import attach_upkeep, migrate
from keystore.postgres.adoption import NO_CHOICES, AdoptionChoices
from keystore.records import AuthState
from keystore.schema import MIGRATIONS, migration_ids, schema_of
from rig.baileys_state import real_creds, real_keys
from tests.keystore.buffers import revived
from tests.migration.conftest import LEGACY_FILES, OUR_FILES, LegacyDatabase, catalog, opened_link, query

pytestmark = pytest.mark.slow

WRITTEN = datetime(2025, 10, 8, 9, 41, 27, 123456, tzinfo=UTC)
BYTES = [0, 1, 127, 128, 255]

ODD: dict[str, Any] = {
    "array": {"type": "Buffer", "data": BYTES},
    "array, nested": {"a": [{"b": {"type": "Buffer", "data": BYTES}}, {"type": "Buffer", "data": [7]}], "c": None},
    "empty array": {"x": {"type": "Buffer", "data": []}},
    "empty base64": {"x": {"type": "Buffer", "data": ""}},
    "no data": {"x": {"type": "Buffer", "data": None}},
    "legacy, base64": {"x": {"buffer": True, "value": "AAECgP8="}},
    "legacy, array": {"x": {"buffer": True, "value": BYTES}},
    "legacy, data": {"x": {"buffer": True, "data": BYTES}},
    "base64url": {"x": {"type": "Buffer", "data": "-_-_AA"}},
    "uint8array": {"x": {str(n): n * 20 for n in range(12)}},
    "buffer in a buffer": {"x": {"type": "Buffer", "data": {"type": "Buffer", "data": BYTES}}},
    "not a buffer": {"type": "buffer", "data": BYTES, "0": "zero", "buffer": "true"},
    "unicode": {"näme ☎": 'Grüße 🎉 \\ " \n\t', "\u00e9": {"type": "Buffer", "data": BYTES}},
    "a JSON string": 'just a string, with "quotes"',
    "a JSON string of JSON": json.dumps({"type": "Buffer", "data": [1]}),
    "numbers": [0, -1, 1.5, 1e22, 12345678901234567890, 0.1, None, True, False, [], {}],
    "a number": 17,
    "null": None,
    "200 KB": {
        "indexValueMap": {f"{n}": {"valueMac": {"type": "Buffer", "data": [n % 256] * 32}} for n in range(1_500)}
    },
}


def buffers(document: object) -> list[dict[str, Any]]:
    """Every object in a document that represents a Buffer, in any form."""
    if isinstance(document, list):
        return [buffer for item in document for buffer in buffers(item)]
    if not isinstance(document, dict):
        return []
    if document.get("type") == "Buffer" or document.get("buffer") is True:
        return [document]
    return [buffer for item in document.values() for buffer in buffers(item)]


def as_arrays(document: Any) -> Any:
    """The document with every Buffer as an array of bytes, as JSON.stringify writes it without the replacer."""

    def arrays(item: Any) -> Any:
        if isinstance(item, bytes):
            return {"type": "Buffer", "data": list(item)}
        if isinstance(item, list):
            return [arrays(part) for part in item]
        return {name: arrays(part) for name, part in item.items()} if isinstance(item, dict) else item

    return arrays(revived(json.dumps(document).encode()))


def fill(legacy: LegacyDatabase, company: str = "962302") -> dict[tuple[str, str], Any]:
    """Write the 721 real keys, every third with its Buffers as arrays, and the odd ones; return the documents."""
    documents = {
        (key_type, key_id): json.loads(value)
        for key_type, by_id in real_keys().items()
        for key_id, value in by_id.items()
    }
    documents = {
        name: as_arrays(document) if n % 3 == 0 else document for n, (name, document) in enumerate(documents.items())
    } | {("odd", name): document for name, document in ODD.items()}
    with closing(legacy.connect()) as conn, conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO whatsapp_keys VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (company, key_type, key_id, json.dumps(document), WRITTEN, written_at(n), expires_at(n))
                for n, ((key_type, key_id), document) in enumerate(documents.items())
            ],
        )
        cursor.execute(
            "INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES (%s, %s, %s, %s)",
            (company, json.dumps(as_arrays(json.loads(real_creds()))), WRITTEN, WRITTEN),
        )
    return documents


def written_at(n: int) -> datetime:
    return WRITTEN + timedelta(seconds=n)


def expires_at(n: int) -> datetime | None:
    return None if n % 2 else WRITTEN + timedelta(days=7, seconds=n)


def assert_same_meaning(state: AuthState, documents: dict[tuple[str, str], Any]) -> None:
    """Every key exists with its old meaning, and every Buffer as Baileys 7 reads it."""
    values = {(key_type, key_id): value for key_type, by_id in state.keys.items() for key_id, value in by_id.items()}
    assert values.keys() == documents.keys()
    for name, value in values.items():
        assert revived(value) == revived(json.dumps(documents[name]).encode()), name
        for buffer in buffers(json.loads(value)):
            assert buffer.keys() == {"type", "data"}, name
            assert isinstance(buffer["data"], str), name


def run_migrate(url: str, choices: AdoptionChoices = NO_CHOICES) -> list[str]:
    with opened_link(url) as link:
        return migrate(link, choices=choices)


def record_as_yoyo(url: str) -> None:
    """Let yoyo itself apply, and so record, the two legacy files."""
    files = read_migrations(str(MIGRATIONS / "postgres")).filter(lambda migration: migration.id in LEGACY_FILES)
    with get_backend(url.replace("postgresql://", "postgresql+psycopg://", 1)) as backend, backend.lock():
        backend.apply_migrations(files)


@pytest.mark.parametrize("recorded_before", [False, True], ids=["made by hand", "recorded by yoyo"])
def test_an_adopted_database_reads_back_equal_in_meaning(legacy: LegacyDatabase, *, recorded_before: bool) -> None:
    documents = fill(legacy)
    assert len(documents) == 721 + len(ODD)
    if recorded_before:
        record_as_yoyo(legacy.url)
    expected = list(OUR_FILES) if recorded_before else [*OUR_FILES[:1], *LEGACY_FILES, *OUR_FILES[1:]]
    assert sorted(run_migrate(legacy.url)) == sorted(expected)
    with open_store(legacy.url) as store:
        state = store.load("962302")
        assert_same_meaning(state, documents)
        assert state.creds is not None
        assert revived(state.creds) == revived(real_creds())
        assert all(isinstance(buffer["data"], str) for buffer in buffers(json.loads(state.creds)))
        assert store.census().total == len(documents)
    assert run_migrate(legacy.url) == []


def test_times_and_expiries_stay_as_they_were(legacy: LegacyDatabase) -> None:
    documents = fill(legacy)
    run_migrate(legacy.url)
    with open_store(legacy.url) as store:
        rows = {(row.key_type, row.key_id): row for row in store.export_rows("962302")}
        assert store.census().without_expiry == len(documents) // 2
    for n, name in enumerate(documents):
        row = rows[name]
        assert (row.created_at, row.updated_at, row.expires_at) == (WRITTEN, written_at(n), expires_at(n))
    assert legacy.execute("SELECT updated_at FROM whatsapp_auth") == [(WRITTEN,)]


def test_a_missing_time_is_filled_without_faking_activity(legacy: LegacyDatabase) -> None:
    fill(legacy)
    newest = max(written_at(n) for n in range(721 + len(ODD)))
    legacy.execute("ALTER TABLE whatsapp_keys DISABLE TRIGGER USER")
    legacy.execute("UPDATE whatsapp_keys SET updated_at = NULL WHERE key_type = 'session'")
    legacy.execute(
        "UPDATE whatsapp_keys SET created_at = NULL, updated_at = NULL WHERE key_type = 'odd' AND key_id = 'null'"
    )
    legacy.execute("ALTER TABLE whatsapp_keys ENABLE TRIGGER USER")
    run_migrate(legacy.url)
    with open_store(legacy.url) as store:
        assert store.census().last_activity_at == newest
        rows = store.export_rows("962302")
    assert {row.updated_at for row in rows if row.key_type == "session"} == {WRITTEN}
    (without_times,) = [row for row in rows if row.key_id == "null"]
    assert without_times.created_at == without_times.updated_at == newest


def test_of_two_spellings_of_a_company_the_older_row_is_set_aside(
    legacy: LegacyDatabase, database_rows: Callable[[str, str], list[tuple[Any, ...]]]
) -> None:
    def insert(company: str, key_id: str, text: str, at: datetime) -> None:
        legacy.execute(
            "INSERT INTO whatsapp_keys VALUES (%s, 'session', %s, %s, %s, %s, NULL)",
            (company, key_id, json.dumps({"text": text}), WRITTEN, at),
        )

    early, late = WRITTEN, WRITTEN + timedelta(hours=1)
    insert("962302", "newer here", "keep", late)
    insert("company_962302", "newer here", "set aside 1", early)
    insert("962302", "newer there", "set aside 2", early)
    insert("company_962302", "newer there", "keep", late)
    insert("company_company_962302", "only there", "keep", early)
    insert("company_5", "alone", "keep", early)
    for company, text, at in (("962302", "set aside 3", early), ("company_962302", "keep", late)):
        legacy.execute("INSERT INTO whatsapp_auth VALUES (%s, %s, %s, %s)", (company, json.dumps(text), at, at))
    run_migrate(legacy.url, AdoptionChoices(keep_odd=True))
    with open_store(legacy.url) as store:
        state = store.load("962302")
        assert {key_id: json.loads(value)["text"] for key_id, value in state.keys["session"].items()} == {
            "newer here": "keep",
            "newer there": "keep",
            "only there": "keep",
        }
        assert state.creds == b'"keep"'
        assert store.companies() == ["5", "962302"]
        assert {row.updated_at for row in store.export_rows("962302")} == {early, late}
    aside = database_rows(legacy.url, "SELECT key_type, key_id, document::jsonb, updated_at FROM keystore_displaced")
    assert sorted(aside, key=repr) == [
        ("creds", "", "set aside 3", early),
        ("session", "newer here", {"text": "set aside 1"}, early),
        ("session", "newer there", {"text": "set aside 2"}, early),
    ]


@pytest.mark.parametrize(
    "index",
    [
        "CREATE INDEX idx_whatsapp_keys_company_type_id ON whatsapp_keys (company_id, key_id) INCLUDE (value)",
        "CREATE INDEX by_another_name ON whatsapp_keys (company_id) INCLUDE (value)",
        "CREATE INDEX on_an_expression ON whatsapp_keys ((value ->> 'type'))",
        "CREATE INDEX with_gin ON whatsapp_keys USING gin (value)",
    ],
)
def test_an_index_over_the_values_is_no_obstacle(legacy: LegacyDatabase, index: str) -> None:
    legacy.execute("DROP INDEX idx_whatsapp_keys_company_type_id")
    legacy.execute(index)
    legacy.upsert("1", "mine", "small", {"type": "Buffer", "data": [1, 2]})
    run_migrate(legacy.url)
    with open_store(legacy.url) as store:
        store.set("1", {"app-state-sync-version": {"big": b"x" * 112_000}})
        assert store.load("1").total == 2
    assert len(catalog(legacy.url)["indexes"]) == len(
        [row for row in catalog(legacy.url)["indexes"] if "value" not in row[1]]
    )


def test_an_index_of_the_operators_own_stays(legacy: LegacyDatabase) -> None:
    legacy.execute("CREATE INDEX mine ON whatsapp_keys (created_at)")
    run_migrate(legacy.url)
    assert any("mine" in definition for _, definition, _, _ in catalog(legacy.url)["indexes"])


def test_legacy_functions_triggers_and_policies_go_under_any_name(legacy: LegacyDatabase) -> None:
    for statement in (
        "CREATE FUNCTION cleanup_expired_whatsapp_keys() RETURNS int LANGUAGE sql AS "
        "'DELETE FROM whatsapp_keys WHERE expires_at < now(); SELECT 1'",
        "CREATE FUNCTION get_whatsapp_auth_stats() RETURNS TABLE (n bigint) LANGUAGE sql AS "
        "'SELECT count(*) FROM whatsapp_auth'",
        "CREATE TRIGGER another_name BEFORE UPDATE ON whatsapp_keys FOR EACH ROW "
        "EXECUTE FUNCTION update_whatsapp_keys_updated_at()",
        "CREATE POLICY more ON whatsapp_keys FOR SELECT USING (true)",
    ):
        legacy.execute(statement)
    fill(legacy)
    run_migrate(legacy.url)
    after = catalog(legacy.url)
    assert (after["triggers"], after["policies"]) == ([], [])
    assert catalog(legacy.url, without_ours=True)["functions"] == []


def test_a_function_that_another_table_still_needs_stays(legacy: LegacyDatabase) -> None:
    legacy.execute("CREATE TABLE mine (updated_at timestamptz)")
    legacy.execute(
        "CREATE TRIGGER t BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION update_whatsapp_keys_updated_at()"
    )
    run_migrate(legacy.url)
    assert [row[0] for row in catalog(legacy.url)["triggers"]] == ["mine"]


def test_rows_closed_by_the_operator_are_not_opened_on_the_way(legacy: LegacyDatabase) -> None:
    """With row-level security on and no policy, the legacy `USING (true)` must not return, not even in between."""
    for table in ("whatsapp_auth", "whatsapp_keys"):
        legacy.execute(f'DROP POLICY "Allow service role full access to {table}" ON {table}')
    with opened_link(legacy.url) as link:
        attach_upkeep(link)
        migrate(link, only=LEGACY_FILES[:1])
    assert catalog(legacy.url)["policies"] == []


def test_a_fresh_database_equals_an_adopted_one(legacy: LegacyDatabase, postgres_site: Any) -> None:
    fill(legacy)
    run_migrate(legacy.url)
    with postgres_site.database() as name:
        url = postgres_site.url(name)
        open_store(url).close()
        fresh = catalog(url)
    assert catalog(legacy.url) == fresh
    tables = {row[0]: row[2] for row in fresh["tables"]}
    assert set(tables) >= {"whatsapp_auth", "whatsapp_keys", "keystore_displaced", "_yoyo_migration"}
    assert all(tables.values()), "a table without row-level security"
    assert fresh["policies"] == fresh["triggers"] == []


def test_every_file_run_a_second_time_changes_nothing(legacy: LegacyDatabase) -> None:
    documents = fill(legacy)
    run_migrate(legacy.url)
    with closing(legacy.connect()) as conn:
        before = (query(conn, "SELECT * FROM whatsapp_keys ORDER BY 1, 2, 3"), catalog(legacy.url))
        for path in sorted((MIGRATIONS / "postgres").glob("202611*.sql")):
            with conn.transaction():
                query(conn, path.read_text(encoding="utf-8"))
        assert (query(conn, "SELECT * FROM whatsapp_keys ORDER BY 1, 2, 3"), catalog(legacy.url)) == before
    with opened_link(legacy.url) as link:
        assert schema_of(link).pending == ()
    with open_store(legacy.url) as store:
        assert_same_meaning(store.load("962302"), documents)


def test_migrations_are_plain_ascii() -> None:
    """yoyo reads a file in the encoding of the machine's locale."""
    for path in MIGRATIONS.rglob("*.sql"):
        assert path.read_bytes().isascii(), path


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_the_migrations_are_in_the_order_of_their_dependencies(kind: str) -> None:
    """A store reads their ids from the names of the files. yoyo reads the files too, and sorts by what each needs."""
    by_dependency = [migration.id for migration in read_migrations(str(MIGRATIONS / kind))]
    assert by_dependency == migration_ids(is_server=kind == "postgres")
