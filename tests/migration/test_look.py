"""Adoption looks before it changes anything: each obstacle is named, with the statement or option that ends it."""

import json
from typing import Any

import pytest

from keystore import InvalidInput, SchemaMismatch, open_store
from keystore.migrate import look, migrate
from keystore.postgres.adoption import NO_CHOICES, AdoptionChoices, AdoptionReport
from keystore.values.fitting import BARE_BASE64, JSON_IN_A_STRING, MONGO_BINARY
from rig.baileys_state import real_creds, real_keys
from tests.acceptance.in_process import run
from tests.keystore.value_forms import encoded
from tests.migration.conftest import POSTGRES_FILES, LegacyDatabase, catalog, opened_link

pytestmark = pytest.mark.slow

JID = "4915111111111@s.whatsapp.net"
ODD_COMPANIES = (
    JID,
    "4915111111111:3@s.whatsapp.net",
    "+4915111111111",
    "Loja São Paulo",
    "cliente.teste",
    "bot 1",
    "shop/eu",
    "x" * 80,
)


def run_migrate(url: str, choices: AdoptionChoices = NO_CHOICES) -> tuple[list[str], AdoptionReport]:
    reports: list[AdoptionReport] = []
    with opened_link(url) as link:
        return migrate(link, choices=choices, adopted=reports.append), reports[0]


def refusal(legacy: LegacyDatabase, choices: AdoptionChoices = NO_CHOICES) -> str:
    """The line of a refusal, which changed nothing: no row, table or record."""
    before = (legacy.execute("SELECT * FROM whatsapp_keys"), legacy.execute("SELECT * FROM whatsapp_auth"))
    tables = catalog(legacy.url)
    with pytest.raises(SchemaMismatch) as refused:
        run_migrate(legacy.url, choices)
    assert (legacy.execute("SELECT * FROM whatsapp_keys"), legacy.execute("SELECT * FROM whatsapp_auth")) == before
    assert catalog(legacy.url) == tables
    line = str(refused.value)
    assert "\n" not in line
    assert "nothing was changed; before these tables can be converted: 1. " in line
    return line


def fill(legacy: LegacyDatabase, company: str, form: str = "base64", times: int = 0) -> None:
    """Write the real state, with its Buffers in this form and its values as JSON in so many strings."""
    with legacy.connect() as conn, conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES (%s, %s, %s, %s)",
            [
                (company, key_type, key_id, encoded(value, form, times=times).decode())
                for key_type, by_id in real_keys().items()
                for key_id, value in by_id.items()
            ],
        )
        creds = encoded(real_creds(), form, times=times).decode()
        cursor.execute("INSERT INTO whatsapp_auth (company_id, creds) VALUES (%s, %s)", (company, creds))


def documents(url: str, company: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The creds and keys of a company, as documents."""
    with open_store(url) as store:
        state = store.load(company)
    assert state.creds is not None
    keys = {kind: {k: json.loads(value) for k, value in by_id.items()} for kind, by_id in state.keys.items()}
    return json.loads(state.creds), keys


def real_documents() -> tuple[Any, dict[str, dict[str, Any]]]:
    keys = {kind: {k: json.loads(value) for k, value in by_id.items()} for kind, by_id in real_keys().items()}
    return json.loads(real_creds()), keys


@pytest.mark.parametrize(
    ("cause", "problem", "remedy"),
    [
        (
            "ALTER TABLE whatsapp_keys ADD tenant_id int NOT NULL",
            "whatsapp_keys.tenant_id needs a value in each row, and has no default",
            "ALTER TABLE whatsapp_keys ALTER COLUMN tenant_id DROP NOT NULL",
        ),
        (
            "CREATE TABLE companies (id text PRIMARY KEY); "
            "ALTER TABLE whatsapp_auth ADD CONSTRAINT owner FOREIGN KEY (company_id) REFERENCES companies",
            "whatsapp_auth has the constraint owner, which refuses rows",
            "ALTER TABLE whatsapp_auth DROP CONSTRAINT owner",
        ),
        (
            "CREATE TABLE bots (id text CONSTRAINT of_auth REFERENCES whatsapp_auth)",
            "bots refers to whatsapp_auth by the constraint of_auth",
            "ALTER TABLE bots DROP CONSTRAINT of_auth",
        ),
        (
            "ALTER TABLE whatsapp_keys DROP CONSTRAINT whatsapp_keys_pkey",
            "whatsapp_keys has no unique key (company_id, key_id, key_type)",
            "ALTER TABLE whatsapp_keys ADD PRIMARY KEY (company_id, key_id, key_type)",
        ),
        (
            "ALTER TABLE whatsapp_keys DROP CONSTRAINT whatsapp_keys_pkey, ADD id serial PRIMARY KEY",
            "whatsapp_keys has no unique key (company_id, key_id, key_type)",
            "ALTER TABLE whatsapp_keys ADD UNIQUE (company_id, key_id, key_type)",
        ),
        (
            "CREATE UNIQUE INDEX ids ON whatsapp_keys (company_id, key_id)",
            "whatsapp_keys has a narrower unique key, ids",
            "DROP INDEX ids",
        ),
        (
            "ALTER TABLE whatsapp_keys ALTER COLUMN key_type TYPE varchar(20)",
            "whatsapp_keys.key_type is character varying(20)",
            "ALTER TABLE whatsapp_keys ALTER COLUMN key_type TYPE text USING key_type::text",
        ),
        (
            "ALTER TABLE whatsapp_keys ALTER COLUMN expires_at TYPE text",
            "whatsapp_keys.expires_at is text",
            "ALTER TABLE whatsapp_keys ALTER COLUMN expires_at TYPE timestamptz USING expires_at::timestamptz",
        ),
        (
            "ALTER TABLE whatsapp_keys DROP COLUMN expires_at",
            "whatsapp_keys has no column expires_at",
            "ALTER TABLE whatsapp_keys ADD COLUMN expires_at timestamptz",
        ),
        (
            "ALTER TABLE whatsapp_keys ADD CONSTRAINT c CHECK (jsonb_typeof(value) <> 'null')",
            "whatsapp_keys has the constraint c, which refuses rows",
            "ALTER TABLE whatsapp_keys DROP CONSTRAINT c",
        ),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW;END'; "
            "CREATE TRIGGER t BEFORE INSERT ON whatsapp_keys FOR EACH ROW EXECUTE FUNCTION f()",
            "whatsapp_keys has the trigger t, which changes rows",
            "DROP TRIGGER t ON whatsapp_keys",
        ),
        (
            "ALTER TABLE whatsapp_keys ALTER COLUMN value DROP NOT NULL; "
            "INSERT INTO whatsapp_keys (company_id, key_type, key_id) VALUES ('1', 'session', 'x')",
            "1 rows of whatsapp_keys have no value",
            "DELETE FROM whatsapp_keys WHERE value IS NULL",
        ),
        (
            "UPDATE whatsapp_keys SET created_at = '2200-01-01' WHERE key_id = '121'",
            "1 rows of whatsapp_keys were created before 2000 or after 2100",
            "UPDATE whatsapp_keys SET created_at = now() WHERE created_at NOT BETWEEN '2000-01-02' AND '2100-12-30'",
        ),
    ],
    ids=lambda text: text[:60] if text.startswith(("whatsapp", "bots", "1 rows")) else "",
)
def test_tables_in_which_the_store_cannot_live_are_refused_with_the_remedy(
    legacy: LegacyDatabase, cause: str, problem: str, remedy: str
) -> None:
    fill_few = "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES ('1', 'pre-key', '121', %s)"
    for statement in cause.split("; "):
        if statement.startswith("UPDATE"):
            legacy.execute(fill_few, (real_keys()["pre-key"]["121"].decode(),))
        legacy.execute(statement)
    line = refusal(legacy)
    assert f"{problem} ({remedy})" in line
    done = run("migrate", "--dry-run", url=legacy.url)
    assert (done.returncode, f"in the way: {problem} {remedy}" in " ".join(done.stdout.split())) == (1, True)
    legacy.execute(remedy)
    assert len(run_migrate(legacy.url)[0]) == len(POSTGRES_FILES)
    with open_store(legacy.url) as store:
        store.set("new", {"app-state-sync-version": {"critical_unblock_low": b"{}"}}, creds=b"{}")
        store.set("other", {"session": {"a": b"{}"}})
        assert store.load("new").total == 1


def test_tables_with_more_than_the_store_needs_are_taken(legacy: LegacyDatabase) -> None:
    for statement in (
        "ALTER TABLE whatsapp_keys DROP CONSTRAINT whatsapp_keys_pkey, ADD id serial PRIMARY KEY, "
        "ADD CONSTRAINT k UNIQUE (key_id, key_type, company_id), ADD note text, ADD tenant int NOT NULL DEFAULT 1",
        "ALTER TABLE whatsapp_keys ALTER updated_at TYPE timestamp(3), ALTER key_type TYPE varchar(255)",
    ):
        legacy.execute(statement)
    fill(legacy, "1")
    run_migrate(legacy.url)
    assert documents(legacy.url, "1") == real_documents()


def test_companies_that_no_command_could_name_are_refused_with_a_mapping(legacy: LegacyDatabase) -> None:
    for company in (*ODD_COMPANIES, "7c1d9b0a-1f4e-4f5d-9a57-0d2b6f0f6f3e", "company_5", "4915111111111"):
        legacy.upsert(company, "pre-key", "121", json.loads(real_keys()["pre-key"]["121"]))
    line = refusal(legacy)
    assert "8 companies have ids that no command could name" in line
    assert "--dry-run lists all" in line
    with opened_link(legacy.url) as link:
        report = look(link, NO_CHOICES)
    assert report is not None
    assert report.unnamable.keys() == set(ODD_COMPANIES)
    assert report.unnamable[JID] == "4915111111111-4", "the names before are other companies'"
    assert report.unnamable["Loja São Paulo"] == "Loja-S-o-Paulo"
    assert len({*report.unnamable.values()}) == 8
    some = dict([*report.unnamable.items()][:3])
    assert "5 companies have ids" in refusal(legacy, AdoptionChoices(some))
    arguments = [argument for old, new in report.unnamable.items() for argument in ("--rename", f"{old}={new}")]
    done = run("migrate", *arguments, url=legacy.url)
    assert done.returncode == 0, done.stderr
    with open_store(legacy.url) as store:
        assert sorted(store.companies()) == sorted(
            [*report.unnamable.values(), "7c1d9b0a-1f4e-4f5d-9a57-0d2b6f0f6f3e", "5", "4915111111111"]
        )
        assert all(store.load(company).total == 1 for company in store.companies())


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        ({"nobody": "1"}, "there is no such company"),
        ({"bot 1": "company_2"}, "there is a company 2 already"),
        ({"bot 1": "3", "bot 2": "company_3"}, "there is a company 3 already"),
        ({"bot 1": "a b"}, "is not 1-64 characters"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(legacy: LegacyDatabase, renames: dict[str, str], message: str) -> None:
    for company in ("bot 1", "bot 2", "2"):
        legacy.upsert(company, "mine", "a", 1)
    with pytest.raises(InvalidInput, match=message):
        run_migrate(legacy.url, AdoptionChoices(renames))
    assert "_yoyo_migration" not in {row[0] for row in catalog(legacy.url)["tables"]}


def test_a_renamed_company_keeps_its_times(legacy: LegacyDatabase) -> None:
    fill(legacy, "bot 1", times=1)
    legacy.execute("ALTER TABLE whatsapp_keys DISABLE TRIGGER USER")
    legacy.execute("UPDATE whatsapp_keys SET updated_at = '2025-10-08'")
    legacy.execute("ALTER TABLE whatsapp_keys ENABLE TRIGGER USER")
    run_migrate(legacy.url, AdoptionChoices({"bot 1": "bot-1"}))
    with open_store(legacy.url) as store:
        assert {row.updated_at.year for row in store.export_rows("bot-1")} == {2025}
    assert documents(legacy.url, "bot-1") == real_documents()


@pytest.mark.parametrize(
    ("form", "times", "wrapping"),
    [
        ("base64", 1, JSON_IN_A_STRING),
        ("array", 2, JSON_IN_A_STRING),
        ("$binary", 0, MONGO_BINARY),
        ("bare base64", 0, BARE_BASE64),
        ("uint8array", 0, None),
        ("named uint8array", 1, JSON_IN_A_STRING),
    ],
)
def test_wrapped_values_are_unwrapped_beside_others(
    legacy: LegacyDatabase, form: str, times: int, wrapping: str | None
) -> None:
    fill(legacy, "1", form, times)
    fill(legacy, "2")
    with opened_link(legacy.url) as link:
        looked = look(link, NO_CHOICES)
    _, report = run_migrate(legacy.url)
    assert looked == report
    assert set(report.unwrapped) >= ({wrapping} if wrapping else set())
    if wrapping == JSON_IN_A_STRING:
        assert report.unwrapped[wrapping] == 722
    assert documents(legacy.url, "1") == documents(legacy.url, "2") == real_documents()


def test_values_that_no_baileys_reads_are_named_and_kept_on_request(legacy: LegacyDatabase) -> None:
    fill(legacy, "1")
    legacy.upsert("1", "session", "7.0", "hunter2")
    legacy.upsert("1", "pre-key", "9000", {"private": "hunter2"})
    legacy.upsert("1", "pre-key", "9001", None)
    legacy.upsert("1", "mine", "x", "hunter2")
    line = refusal(legacy)
    assert "2 values are none that Baileys reads" in line
    assert "session 7.0 of 1: expected an object with _sessions, or a Buffer; there is a text (7 characters)" in line
    assert "--keep-odd" in line
    assert "hunter2" not in line
    done = run("migrate", "--keep-odd", url=legacy.url)
    assert done.returncode == 0, done.stderr
    assert "no value that Baileys reads: pre-key 9000 of 1" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    with open_store(legacy.url) as store:
        assert store.get("1", "session", ["7.0"]) == {"7.0": b'"hunter2"'}
        assert store.get("1", "pre-key", ["9001"]) == {"9001": b"null"}
        assert store.load("1").total == 725


def test_a_bot_that_writes_meanwhile_is_waited_for_and_then_refused(legacy: LegacyDatabase) -> None:
    """The look and the conversion are one transaction, which locks the tables first."""
    fill(legacy, "1")
    with legacy.connect() as bot, bot.transaction():
        bot.execute("UPDATE whatsapp_auth SET updated_at = now()")
        with pytest.raises(SchemaMismatch, match="another session has locked the tables, so nothing was changed"):
            run_migrate(legacy.url)
    run_migrate(legacy.url)


def test_one_of_the_two_tables_is_enough(legacy: LegacyDatabase) -> None:
    fill(legacy, "1", times=1)
    legacy.execute("DROP TABLE whatsapp_auth")
    run_migrate(legacy.url)
    with open_store(legacy.url) as store:
        assert (store.load("1").total, store.get_creds("1")) == (721, None)
