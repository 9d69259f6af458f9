"""Scale: a killed filling continues, hash partitions change nothing but the table, gathering loses nothing."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg import sql

from bench.measuring import no_progress
from bench.scale.__main__ import main
from bench.scale.databases import GATHERING, PARTITIONING, gather, partition
from bench.scale.fill import company_name, fill
from bench.scale.pages import explained_load, rewrites
from bench.scale.steps import Effort
from keystore import open_store
from keystore.errors import KeystoreError
from keystore.migrate import migrate
from keystore.opening import open_link
from keystore.records import KeyName, KeyRow
from keystore.schema import schema_of
from keystore.store import Store
from monitor.sweeper import sweep
from rig.baileys_state import real_keys
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import PostgresSite
from rig.paths import PROJECT

pytestmark = pytest.mark.slow

PARTITIONS = 4
COMPANIES = 40

PAGES = """
SELECT count(DISTINCT split_part(ctid::text, ',', 1)) FROM whatsapp_keys
WHERE company_id = %s AND (key_type = 'pre-key') = %s
"""

BY_BATCH = """
SELECT company_id, key_type, key_id, dense_rank() OVER (ORDER BY created_at) FROM whatsapp_keys ORDER BY 1, 2, 3
"""
"""Every key with the number of its batch in a filling."""

INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'whatsapp_keys' ORDER BY 1"
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE conrelid = 'whatsapp_keys'::regclass ORDER BY 1
"""
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attstorage FROM pg_attribute
WHERE attrelid = 'whatsapp_keys'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
GRANTS = """
SELECT c.oid = 'whatsapp_keys'::regclass, pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity,
       (SELECT array_agg(privilege_type::text ORDER BY privilege_type)
        FROM aclexplode(relacl) WHERE grantee <> relowner)
FROM pg_class c WHERE relname = 'whatsapp_keys' OR c.oid IN (SELECT relid FROM pg_partition_tree('whatsapp_keys'))
ORDER BY 1 DESC, relname
"""

Connection = psycopg.Connection[tuple[Any, ...]]
NewPostgres = Callable[[], str]


def connected(url: str) -> Connection:
    """A connection as the tables' owner; the caller closes it."""
    return psycopg.connect(url, autocommit=True, connect_timeout=5)


def filled(url: str, companies: int = COMPANIES) -> None:
    """Fill a store's tables with the keys of companies."""
    with closing(open_store(url)), closing(connected(url)) as conn:
        fill(conn, companies, 5.0, no_progress)


@pytest.fixture
def new_database(postgres_site: PostgresSite) -> Iterator[NewPostgres]:
    """Return addresses of new, empty databases, which are dropped after the test."""
    with ExitStack() as databases:
        yield lambda: postgres_site.url(databases.enter_context(postgres_site.database()))


# Filling.


def test_a_killed_filling_continues_where_it_was(
    postgres_site: PostgresSite, new_database: NewPostgres, tmp_path: Path
) -> None:
    url, whole = new_database(), new_database()
    filled(whole, 60)
    with closing(open_store(url)):
        pass
    program = (
        "import psycopg; from bench.scale.fill import fill\n"
        f"with psycopg.connect({url!r}, autocommit=True) as conn: fill(conn, 60, 5.0, lambda done, total: None)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
    with closing(connected(url)) as conn:
        done, give_up_at = 0, monotonic() + 60
        while done == 0:
            assert process.poll() is None, "it ended before it was killed"
            assert monotonic() < give_up_at
            if conn.execute("SELECT to_regclass('bench_fill') IS NOT NULL").fetchall()[0][0]:
                done = sum(row[0] for row in conn.execute("SELECT arrivals_done FROM bench_fill").fetchall())
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        # Its server process may still finish a batch; a committed batch is noted as well.
        keys_then = conn.execute("SELECT count(*) FROM whatsapp_keys").fetchall()[0][0]
        assert 0 < keys_then < 60 * 721
        filled(url, 60)
        with closing(connected(whole)) as other:
            assert conn.execute(BY_BATCH).fetchall() == other.execute(BY_BATCH).fetchall()
        assert conn.execute("SELECT count(*) FROM whatsapp_auth").fetchall() == [(60,)]


def test_a_batch_and_its_note_are_one_transaction(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 2)
    count = "SELECT count(*) FROM whatsapp_keys"
    with closing(connected(url)) as conn:
        conn.execute("TRUNCATE whatsapp_keys, whatsapp_auth")
        conn.execute("UPDATE bench_fill SET arrivals_done = 0")
        conn.execute("ALTER TABLE bench_fill ADD CHECK (arrivals_done < 100)")
        with pytest.raises(psycopg.errors.CheckViolation):
            fill(conn, 2, 5.0, no_progress)
        ((done,),) = conn.execute("SELECT arrivals_done FROM bench_fill").fetchall()
        ((bursts,),) = conn.execute("SELECT count(*) FROM whatsapp_auth").fetchall()
        assert 0 < done < 100
        assert conn.execute(count).fetchall() == [(done + bursts * 249,)]


def test_pre_keys_lie_together_and_other_keys_scattered(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 20)
    with closing(connected(url)) as conn:
        together, apart = (
            sum(conn.execute(PAGES, [company_name(number), burst]).fetchall()[0][0] for number in range(20))
            for burst in (True, False)
        )
    assert together / 250 < apart / 471 / 2


def test_a_second_filling_of_another_size_is_refused(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 2)
    with pytest.raises(KeystoreError, match="a filling of 2 companies"):
        filled(url, 3)


# Rewrites.


def test_rewrites_of_sessions_stay_in_their_pages(new_database: NewPostgres) -> None:
    result = rewrites(new_database(), companies=20, each=30)
    assert result.rewrites == 600
    assert result.heap_only_percent >= 98
    assert result.ratio <= 1.05


# Partitions.


def partitioned(url: str) -> None:
    """Apply the migration to hash partitions, as the tables' owner."""
    with closing(connected(url)) as conn:
        partition(conn, PARTITIONS)


def described(url: str) -> dict[str, Any]:
    """The table's description in the catalog, without its partitions."""
    with closing(connected(url)) as conn:
        indexes = [(name, text.replace(" ON ONLY ", " ON ")) for name, text in conn.execute(INDEXES).fetchall()]
        constraints = [tuple(row) for row in conn.execute(CONSTRAINTS).fetchall()]
        return {"indexes": indexes, "constraints": constraints, "columns": conn.execute(COLUMNS).fetchall()}


def as_tuple(row: KeyRow) -> tuple[Any, ...]:
    return row.key_type, row.key_id, row.value, row.created_at, row.updated_at, row.expires_at


def everything(store: Store, clock: Clock) -> list[Any]:
    """A store's answers to all its operations, in an order in which each step changes something."""
    keys, answers = real_keys(), list[Any]()
    for company in ("1", "2", "3"):
        store.set(company, keys, creds=b"creds")
    store.set("2", {"session": {"new": b"1"}, "pre-key": {"121": None, "122": b"other"}})
    answers.append({company: store.load(company) for company in store.companies()})
    clock.advance(timedelta(days=4))
    answers.append(store.get("1", "session", list(keys["session"])[:7]))
    store.touch("1", {"identity-key": list(keys["identity-key"])[:7], "pre-key": ["123", "124"]})
    answers += [store.due_companies(), store.low_on_pre_keys(250), store.largest_company(), store.life_counts()]
    store.clear("3")
    store.restore_rows("4", store.export_rows("1")[:50], creds=b"more")
    moved = store.export_rows("4")[0]
    answers.append(store.move_key(KeyName("4", moved.key_type, moved.key_id, moved.updated_at), "session", "moved"))
    answers.append(list(store.key_names(["session"])))
    clock.advance(timedelta(days=5))
    report = sweep(store)
    answers += [report.deleted, report.by_type]
    census = store.census()
    answers += [census.by_type, census.total, census.active, census.expired, census.guarded, census.companies]
    answers.append({company: list(map(as_tuple, store.export_rows(company))) for company in store.companies()})
    return answers


def test_a_store_on_partitions_answers_the_same(new_database: NewPostgres, clock: Clock) -> None:
    began, answers = clock(), []
    for partitions in (False, True):
        url = new_database()
        with closing(open_store(url)):
            pass
        if partitions:
            partitioned(url)
        clock.set(began)
        with open_store(url, clock=clock) as store:
            answers.append(everything(store, clock))
    whole, parts = answers
    assert len(whole) == len(parts)
    for whole_answer, parts_answer in zip(whole, parts, strict=True):
        assert whole_answer == parts_answer


def test_backfill_and_enforcing_work_on_partitions(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 3)
    partitioned(url)
    with closing(connected(url)) as conn, open_store(url) as store:
        conn.execute("UPDATE whatsapp_keys SET expires_at = NULL WHERE key_type = 'session'")
        assert store.backfill(100) == {"session": 100}
        assert store.backfill(1_000) == {"session": 260}
        store.enforce_expiry()
        assert store.expiry_enforced
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute("UPDATE whatsapp_keys SET expires_at = NULL")


@pytest.mark.parametrize("enforced", [False, True])
def test_the_migration_to_partitions_keeps_rows_rules_and_rights(
    postgres_site: PostgresSite, new_database: NewPostgres, enforced: bool
) -> None:
    url = new_database()
    filled(url, 5)
    with open_store(url) as store:
        if enforced:
            store.enforce_expiry()
        before = [store.export_rows(company) for company in store.companies()]
    with closing(connected(url)) as conn:
        conn.execute("CREATE INDEX operators_own ON whatsapp_keys (key_type, updated_at DESC) WHERE key_type <> 'x'")
        conn.execute("ALTER TABLE whatsapp_keys ADD CONSTRAINT operators_rule CHECK (key_id <> 'x') NOT VALID")
        conn.execute("GRANT SELECT, DELETE ON whatsapp_keys TO PUBLIC")
        # As on Supabase, where everybody has rights on new tables.
        conn.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    was = described(url)
    for _ in range(2):
        partitioned(url)
        now = described(url)
        assert now == was
        with open_store(url) as store:
            assert [store.export_rows(company) for company in store.companies()] == before
            assert store.expiry_enforced == enforced
        with closing(connected(url)) as conn:
            parent, *parts = conn.execute(GRANTS).fetchall()
            assert parent == (True, postgres_site.role, True, False, ["DELETE", "SELECT"])
            assert parts == [(False, postgres_site.role, True, False, None)] * PARTITIONS
            storage = conn.execute(
                "SELECT reloptions FROM pg_class JOIN pg_inherits ON inhrelid = oid "
                "WHERE inhparent = 'whatsapp_keys'::regclass"
            ).fetchall()
            assert storage == [(["fillfactor=80"],)] * PARTITIONS


def test_ordinary_migrations_work_on_partitions(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 2)
    partitioned(url)
    with closing(open_link(url)) as link:
        assert schema_of(link).pending == ()
        assert migrate(link) == []
    with closing(connected(url)) as conn:
        was = described(url)
        conn.execute("CREATE INDEX IF NOT EXISTS whatsapp_keys_expiry ON whatsapp_keys (expires_at)")
        conn.execute("ALTER TABLE whatsapp_keys ALTER COLUMN value SET NOT NULL, ALTER COLUMN created_at SET NOT NULL")
        assert described(url) == was
        conn.execute("ALTER TABLE whatsapp_keys ADD COLUMN device int")
        conn.execute("CREATE INDEX IF NOT EXISTS later ON whatsapp_keys (device)")
        assert described(url)["columns"][-1][0] == "device"


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE POLICY mine ON whatsapp_keys USING (true)",
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER mine BEFORE INSERT ON whatsapp_keys FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE VIEW mine AS SELECT company_id FROM whatsapp_keys",
    ],
)
def test_obstacles_stop_the_migration_and_nothing_changes(new_database: NewPostgres, obstacle: str) -> None:
    url = new_database()
    filled(url, 2)
    with closing(connected(url)) as conn:
        conn.execute(obstacle.encode())
        was = described(url)
        with pytest.raises((psycopg.errors.RaiseException, psycopg.errors.DependentObjectsStillExist)):
            partition(conn, PARTITIONS)
        conn.rollback()
        assert described(url) == was
        assert conn.execute("SELECT relkind FROM pg_class WHERE relname LIKE 'whatsapp\\_keys%'").rowcount == 1 + 2
        assert conn.execute("SELECT count(*) FROM whatsapp_keys").fetchall() == [(1_442,)]


def test_the_documented_way_back_restores_the_table(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url, 3)
    with open_store(url) as store, closing(connected(url)) as conn:
        store.enforce_expiry()
        before, was = [store.export_rows(company) for company in store.companies()], described(url)
        security = conn.execute(GRANTS).fetchall()
        partitioned(url)
        document = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")
        (way_back,) = re.findall(r"```sql\n(BEGIN;\nCREATE TABLE whole .*?COMMIT;\n)```", document, re.DOTALL)
        conn.execute(way_back.encode())
        assert described(url) == was
        assert conn.execute(GRANTS).fetchall() == security
        assert [store.export_rows(company) for company in store.companies()] == before


# Gathering.


@pytest.mark.parametrize("partitions", [False, True])
def test_gathering_moves_keys_together_and_changes_no_value(new_database: NewPostgres, partitions: bool) -> None:
    url = new_database()
    if partitions:
        with closing(open_store(url)):
            pass
        partitioned(url)
    filled(url)
    with closing(connected(url)) as conn, open_store(url) as store:
        before = {company: store.export_rows(company) for company in store.companies()}
        scattered = explained_load(conn, company_name(7)).pages
        # An autovacuum in between frees the rows that were moved, and the next company's keys would fill the holes.
        leaves = conn.execute("SELECT relid::regclass::text FROM pg_partition_tree('whatsapp_keys') WHERE isleaf")
        for (table,) in leaves:
            conn.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(table)))
        gather(conn)
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        assert explained_load(conn, company_name(7)).pages < scattered / 1.5
        assert {company: store.export_rows(company) for company in store.companies()} == before


def test_keys_that_already_lie_together_are_not_moved(new_database: NewPostgres) -> None:
    url = new_database()
    with open_store(url) as store, closing(connected(url)) as conn:
        for company in ("1", "2"):
            store.set(company, real_keys())
        places = conn.execute("SELECT ctid FROM whatsapp_keys ORDER BY 1").fetchall()
        gather(conn)
        assert conn.execute("SELECT ctid FROM whatsapp_keys ORDER BY 1").fetchall() == places


def test_no_write_is_lost_during_gathering(new_database: NewPostgres) -> None:
    url = new_database()
    filled(url)
    sessions = list(real_keys()["session"])
    wrote: dict[tuple[str, str], bytes | None] = {}
    with open_store(url) as store, closing(connected(url)) as conn, ThreadPoolExecutor(1) as thread:
        gathering = thread.submit(gather, conn)
        number = 0
        while not gathering.done() or number < COMPANIES:
            company, value = company_name(number % COMPANIES), f"{number}".encode()
            rewritten, deleted = sessions[number % 60], sessions[60 + number % 60]
            store.set(company, {"session": {rewritten: value, deleted: None}})
            wrote |= {(company, rewritten): value, (company, deleted): None}
            number += 1
        gathering.result()
        for (company, key_id), expected in wrote.items():
            assert store.get(company, "session", [key_id]) == ({} if expected is None else {key_id: expected})


def test_psql_runs_both_scripts_as_documented(new_database: NewPostgres, postgres_programs: Path) -> None:
    url = new_database()
    filled(url, 3)
    environment = {"PGOPTIONS": "-c keystore.partitions=3", "PATH": "/usr/bin:/bin"}
    for script in (PARTITIONING, GATHERING):
        done = subprocess.run(
            [postgres_programs / "psql", "-v", "ON_ERROR_STOP=1", "-f", script, url],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    with closing(connected(url)) as conn:
        partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'whatsapp_keys'::regclass"
        assert conn.execute(partitions).fetchall() == [(3,)]
        assert conn.execute("SELECT count(*) FROM whatsapp_keys").fetchall() == [(3 * 721,)]


# The command.


def test_the_command_measures_every_size_and_continues(
    postgres_site: PostgresSite, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.scale.__main__.QUICK", Effort(rounds=5, quiet_s=0.05))
    monkeypatch.setattr("bench.scale.measure.REWRITES_EACH", 10)
    file, document = tmp_path / "figures.json", tmp_path / "scaling.md"
    document.write_text("before\n<!-- scale:begin -->\nold\n<!-- scale:end -->\nafter\n", encoding="utf-8")
    command = ["--url", postgres_site.admin_url, "--companies", "2", "4", "--partitions", "2"]
    again = [*command, "--quick", "--json", str(file), "--docs", str(document)]
    try:
        code = main(again)
        first = json.loads(file.read_text(encoding="utf-8"))
        assert [(size["companies"], size["partitions"]) for size in first["sizes"]] == [(2, 0), (4, 0), (2, 2), (4, 2)]
        assert all(size["keys"] == 721 * size["companies"] for size in first["sizes"])
        text = document.read_text(encoding="utf-8")
        assert text.startswith("before\n<!-- scale:begin -->\nMeasured on")
        assert text.endswith("<!-- scale:end -->\nafter\n")
        assert code == ("**missed**" in text)
        assert main(again) == code
        assert json.loads(file.read_text(encoding="utf-8"))["sizes"] == first["sizes"], "measured again"
    finally:
        assert main([*command, "--drop"]) == 0
    with closing(postgres_site.admin()) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_scale%'").fetchall() == []
    assert capsys.readouterr().out


def test_wrong_options_are_one_line(postgres_site: PostgresSite, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "s3cret-of-nobody"
    assert main(["--url", f"postgresql://nobody:{secret}@127.0.0.1:1/x", "--companies", "2"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert secret not in error
    for wrong in (["--url", "sqlite:///k.db"], ["--companies", "0"], ["--partitions", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "error: argument --" in capsys.readouterr().err


def test_filled_keys_have_the_expiries_of_the_store(new_database: NewPostgres) -> None:
    url, at = new_database(), datetime.now(UTC)
    filled(url, 2)
    with closing(connected(url)) as conn, open_store(url) as store:
        census = store.census()
        assert (census.total, census.expired, census.without_expiry) == (1_442, 0, 0)
        rows = conn.execute("SELECT key_type, value, updated_at, expires_at FROM whatsapp_keys").fetchall()
    assert {bytes(value[:1]) for _, value, _, _ in rows} == {b"\0"}
    for key_type, _, updated_at, expires_at in rows:
        days = 7 if key_type in ("lid-mapping", "pre-key", "session", "sender-key") else 14
        assert timedelta(days=days) <= expires_at - updated_at <= timedelta(days=days + 1)
        assert updated_at - at < timedelta(minutes=1)
