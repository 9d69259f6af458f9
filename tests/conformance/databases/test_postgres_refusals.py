"""PostgreSQL only: a row that the database refuses for good is no outage, so that nobody goes on repeating it."""

import psycopg
import pytest

from keystore import InvalidInput, SchemaMismatch, open_store
from keystore.ttl import CAREFUL
from monitor.reports.doctor import examine
from rig.fixtures.citus import not_on_citus

REFUSALS = {
    "a column that is too short": "ALTER TABLE whatsapp_keys ALTER key_type TYPE varchar(20)",
    "a foreign key": (
        "CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('session');"
        "ALTER TABLE whatsapp_keys ADD FOREIGN KEY (key_type) REFERENCES kinds"
    ),
    "a further unique key": (
        "ALTER TABLE whatsapp_keys ADD kind text GENERATED ALWAYS AS (left(key_type, 3)) STORED;"
        "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES ('2', 'app', '1', '\\x00');"
        "CREATE UNIQUE INDEX ON whatsapp_keys (kind)"
    ),
    "a trigger": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not here'; END $$;"
        "CREATE TRIGGER refusing BEFORE INSERT ON whatsapp_keys FOR EACH ROW"
        " WHEN (NEW.key_type LIKE 'app%') EXECUTE FUNCTION refuse()"
    ),
}


def execute(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)


@pytest.mark.parametrize(
    "reason",
    [
        "a column that is too short",
        pytest.param("a foreign key", marks=not_on_citus("a distributed table refers to no other kind of table")),
        pytest.param("a further unique key", marks=not_on_citus("a unique key has the company in it")),
        pytest.param("a trigger", marks=not_on_citus("a distributed table has no triggers")),
    ],
)
def test_a_refused_row_is_a_refusal_and_the_next_write_goes(migrated_postgres_url: str, reason: str) -> None:
    execute(migrated_postgres_url, REFUSALS[reason])
    with open_store(migrated_postgres_url) as store:
        with pytest.raises(InvalidInput, match="the database refused a row") as refusal:
            store.set("1", {"app-state-sync-version": {"regular": b"S3CRET"}})
        assert "S3CRET" not in str(refusal.value)
        store.set("1", {"session": {"a": b"A"}})


def test_tables_without_their_primary_key_are_a_mismatch_and_no_outage(migrated_postgres_url: str) -> None:
    execute(migrated_postgres_url, "ALTER TABLE whatsapp_keys DROP CONSTRAINT whatsapp_keys_pkey")
    with (
        open_store(migrated_postgres_url) as store,
        pytest.raises(SchemaMismatch, match="the tables have lost the primary key"),
    ):
        store.set("1", {"session": {"a": b"A"}})


@pytest.mark.parametrize(("setting", "status"), [("off", "failed"), ("on", "ok")])
def test_doctor_fails_where_acknowledged_writes_are_not_durable(
    migrated_postgres_url: str, setting: str, status: str
) -> None:
    separator = "&" if "?" in migrated_postgres_url else "?"
    url = f"{migrated_postgres_url}{separator}options=-c%20synchronous_commit%3D{setting}"
    report = examine(lambda: open_store(url), CAREFUL, guard=True, telegram=("ok", ""))
    (durability,) = (check for check in report.checks if check.name == "durability")
    assert durability.status == status
    assert report.healthy == (status == "ok")
    assert status == "ok" or "synchronous_commit is off" in durability.detail
