"""The costs of the Postgres schema's choices: the figures in the comments of `migrations/postgres/`.

Each choice is a schema of its own in one throw-away database: the same tables with other indexes or another fill
factor, under the store's own statements. Commits don't wait for the disk, which would hide the differences.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from bench.command import Command, Outcome
from bench.measuring import Connection, timed_ms
from keystore.codec import encode
from keystore.errors import InvalidInput
from keystore.postgres.store import STATEMENTS
from keystore.ttl import DIARY, step_s
from monitor.upkeep.demo import demo_creds, demo_rows
from rig.baileys_state import BURST_KEYS

EPILOG = """
It needs an empty database that may be thrown away, for example:
  docker run --rm -e POSTGRES_PASSWORD=bench -p 127.0.0.1:5433:5432 postgres:18
  python -m bench.schema --url postgresql://postgres:bench@127.0.0.1:5433/postgres
It makes a schema named bench_variant there, drops it again, and takes about two minutes.
"""

SEED = 20251008
NOW = datetime(2025, 10, 8, 9, 41, 27, tzinfo=UTC)
REWRITES = 30_000
REWRITE_EVERY = timedelta(days=1) / REWRITES
"""The interval on a busy day: 30,000 messages, each rewriting one session."""

COMPANIES = 4
"""The number of companies, each with the 665 keys of the demo data, 120 of them sessions."""

BURSTS, PRE_KEY_BYTES = 200, 165
AUTH_COMPANIES = 200
READS, GET_KEYS = 200, 10
EXPIRY_COMPANIES, EXPIRY_KEYS, DUE_SHARE = 1_000, 300, 0.1
SWEPT_AT_ONCE = 50
"""The number of companies in one call of the sweep's statement."""

EXPLAINS = 5
EXACT_STEP_S = 1e-6
"""The step of an expiry that is not rounded, so that each write changes it, as in the original operator's database."""

TABLES = """
CREATE TABLE whatsapp_auth (company_id text PRIMARY KEY, creds bytea NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL) WITH (fillfactor = {auth_fill});
CREATE TABLE whatsapp_keys (company_id text NOT NULL, key_type text NOT NULL, key_id text NOT NULL,
    value bytea NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, expires_at timestamptz,
    PRIMARY KEY (company_id, key_type, key_id)) WITH (fillfactor = {keys_fill});
CREATE TABLE keystore_company_leases (company_id text PRIMARY KEY, holder text, epoch bigint, expires_at timestamptz);
"""

EXPIRY_INDEX = "CREATE INDEX ours_expiry ON whatsapp_keys (expires_at);"
COMPANY_FIRST_INDEX = "CREATE INDEX other_expiry ON whatsapp_keys (company_id, expires_at);"
LEGACY_INDEXES = """
CREATE INDEX d1 ON whatsapp_keys (company_id);
CREATE INDEX d2 ON whatsapp_keys (key_type);
CREATE INDEX d3 ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX d4 ON whatsapp_keys (company_id, key_type, key_id);
CREATE INDEX d5 ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX d6 ON whatsapp_keys (key_type, company_id);
"""
EXPIRY_INDEXES = ("expires_at", "company_id, expires_at", "expires_at, company_id")


Figures = dict[str, float | str | list[str]]
"""Written as JSON and not read back. `*_mb` are decimal; `*_pages` are the 8 kB pages that a statement touches."""


@contextmanager
def variant(conn: Connection, name: str, indexes: str, keys_fill: int = 80, auth_fill: int = 80) -> Iterator[None]:
    """Make the tables with one choice, in a schema of their own for the block."""
    print(f"{name} …", file=sys.stderr)
    conn.execute("CREATE SCHEMA bench_variant")
    try:
        conn.execute("SET search_path = bench_variant")
        conn.execute((TABLES.format(keys_fill=keys_fill, auth_fill=auth_fill) + indexes).encode())
        yield
    finally:
        conn.execute("RESET search_path")
        conn.execute("DROP SCHEMA bench_variant CASCADE")


def run(conn: Connection, name: str, **params: object) -> list[tuple[Any, ...]]:
    """Run one of the store's statements and return its rows."""
    with conn.cursor(binary=True) as cursor:
        cursor.execute(STATEMENTS[name].encode(), params)
        return cursor.fetchall() if cursor.description else []


def explain(conn: Connection, name: str, **params: object) -> tuple[float, int, dict[str, Any]]:
    """Explain one of the store's statements: milliseconds, pages touched, and the plan. Its writes are rolled back."""
    with conn.transaction(force_rollback=True):
        statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {STATEMENTS[name]}"
        ((document,),) = conn.execute(statement.encode(), params).fetchall()
    plan = document[0]["Plan"]
    return document[0]["Execution Time"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan


def indexes_in(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads."""
    here = {plan["Index Name"]} if "Index Name" in plan else set()
    return here.union(*(indexes_in(part) for part in plan.get("Plans", [])))


def size_mb(conn: Connection, function: str, relation: str) -> float:
    """The size of a table or an index (`pg_relation_size`), or of a table's indexes (`pg_indexes_size`)."""
    query = sql.SQL("SELECT {}(%s::regclass)").format(sql.Identifier(function))
    return round(int(conn.execute(query, [relation]).fetchall()[0][0]) / 1e6, 2)


def heap_only_percent(conn: Connection, relation: str) -> float:
    """The share of the updates of a table that touched no index."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    ((hot, all_updates),) = conn.execute(
        "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relid = %s::regclass", [relation]
    ).fetchall()
    return round(float(100 * hot / all_updates), 1)


@contextmanager
def measured(conn: Connection, what: str) -> Iterator[Figures]:
    """The seconds and megabytes of write-ahead log of a block, once it ends."""
    position, figures = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", Figures()
    wal, started = conn.execute(position).fetchall()[0][0], perf_counter()
    yield figures
    figures[f"{what}_s"] = round(perf_counter() - started, 2)
    figures[f"{what}_wal_mb"] = round((conn.execute(position).fetchall()[0][0] - wal) / 1e6, 1)


def put(conn: Connection, company: str, rows: list[tuple[str, str, bytes]], now: datetime, step: float) -> None:
    """Write keys as the store does."""
    types = sorted({key_type for key_type, _, _ in rows})
    ttls = [DIARY.ttl_s(key_type) for key_type in types]
    steps = [step or float(step_s(ttl_s)) for ttl_s in ttls]
    key_types, key_ids, values = map(list, zip(*rows, strict=True))
    policy = {"types": types, "ttls_s": ttls, "steps_s": steps, "epoch": None}
    run(conn, "put", now=now, company_id=company, key_types=key_types, key_ids=key_ids, values=values, **policy)


def read_ms(conn: Connection, name: str, **params: object) -> float:
    """The median time of a statement that reads, with its rows fetched."""
    return round(median(timed_ms(lambda: run(conn, name, **params)) for _ in range(READS)), 2)


def rewrites(conn: Connection, choice: str, indexes: str, keys_fill: int, step: float = 0) -> Figures:
    """Rewrite sessions for a day, write bursts, and read. A `step` of 0 is the store's own rounding."""
    rng = random.Random(SEED)
    rows = [(row.key_type, row.key_id, encode(row.value)) for row in demo_rows(NOW)]
    sessions = [(key_id, len(value)) for key_type, key_id, value in rows if key_type == "session"]
    with variant(conn, choice, indexes, keys_fill):
        for company in range(COMPANIES):
            put(conn, str(company), rows, NOW, step)
        with measured(conn, "rewrites") as figures:
            for number in range(REWRITES):
                key_id, length = rng.choice(sessions)
                session = ("session", key_id, rng.randbytes(length))
                put(conn, str(rng.randrange(COMPANIES)), [session], NOW + number * REWRITE_EVERY, step)
        figures["heap_only_percent"] = heap_only_percent(conn, "whatsapp_keys")
        figures["table_mb"] = size_mb(conn, "pg_relation_size", "whatsapp_keys")
        with measured(conn, "bursts") as bursts:
            for number in range(BURSTS):
                burst = [("pre-key", str(key_id), rng.randbytes(PRE_KEY_BYTES)) for key_id in range(BURST_KEYS)]
                put(conn, f"burst-{number}", burst, NOW + number * REWRITE_EVERY, step)
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        figures |= bursts | {"indexes_mb": size_mb(conn, "pg_indexes_size", "whatsapp_keys")}
        ttl_s = DIARY.ttl_s("session")
        ids = [key_id for key_id, _ in sessions[:GET_KEYS]]
        get = {"key_type": "session", "key_ids": ids, "now": NOW, "ttl_s": ttl_s, "step_s": float(step_s(ttl_s))}
        params: dict[str, dict[str, object]] = {"load": {}, "get": get}
        for name in params:
            figures[f"{name}_ms"] = read_ms(conn, name, company_id="0", **params[name])
            _, figures[f"{name}_pages"], plan = explain(conn, name, company_id="0", **params[name])
            figures[f"{name}_reads"] = sorted(indexes_in(plan))
    return {"choice": choice} | figures


def creds_rewrites(conn: Connection, fillfactor: int) -> Figures:
    """Rewrite creds for a day."""
    rng, length = random.Random(SEED), len(encode(demo_creds()))
    with variant(conn, f"creds, fill factor {fillfactor}", EXPIRY_INDEX, auth_fill=fillfactor):
        for company in range(AUTH_COMPANIES):
            run(conn, "set_creds", company_id=str(company), creds=rng.randbytes(length), now=NOW, epoch=None)
        with measured(conn, "rewrites") as figures:
            for number in range(REWRITES):
                params = {"company_id": str(rng.randrange(AUTH_COMPANIES)), "creds": rng.randbytes(length)}
                run(conn, "set_creds", now=NOW + number * REWRITE_EVERY, epoch=None, **params)
        figures["heap_only_percent"] = heap_only_percent(conn, "whatsapp_auth")
        figures["table_mb"] = size_mb(conn, "pg_relation_size", "whatsapp_auth")
    return {"fillfactor": fillfactor} | figures


def expiry(conn: Connection, columns: str) -> Figures:
    """Explain the sweep's statements over 1,000 companies, of whose keys a tenth are due."""
    with variant(conn, f"index on ({columns})", f"CREATE INDEX ours_expiry ON whatsapp_keys ({columns});"):
        conn.execute(
            "INSERT INTO whatsapp_keys SELECT 'c' || c, 'session', k::text, %s, %s, %s, "
            "%s + (k %% %s - 0.5) * interval '1 day' FROM generate_series(1, %s) AS c, generate_series(1, %s) AS k",
            [bytes(PRE_KEY_BYTES), NOW, NOW, NOW, round(1 / DUE_SHARE), EXPIRY_COMPANIES, EXPIRY_KEYS],
        )
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        swept = [f"c{company}" for company in range(1, SWEPT_AT_ONCE + 1)]
        figures: Figures = {"index": columns, "index_mb": size_mb(conn, "pg_relation_size", "ours_expiry")}
        statements: dict[str, tuple[str, dict[str, object]]] = {
            "due_companies": ("due_companies", {"now": NOW}),
            "nothing_due": ("due_companies", {"now": NOW - timedelta(days=1)}),
            "sweep": ("sweep_around_locks", {"now": NOW, "guard": True, "attached": False, "company_ids": swept}),
        }
        for what, (name, params) in statements.items():
            runs = [explain(conn, name, **params) for _ in range(EXPLAINS)]
            figures[f"{what}_ms"] = round(median(ms for ms, _, _ in runs), 2)
            figures[f"{what}_pages"] = runs[-1][1]
    return figures


def main(args: Sequence[str] | None = None) -> int:
    """Measure all choices and print them as JSON."""
    return Command(
        "bench.schema", __doc__, EPILOG, url="an empty, throw-away Postgres database", url_required=True
    ).run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with psycopg.connect(options.url, autocommit=True, connect_timeout=5, prepare_threshold=None) as conn:
        if conn.execute("SELECT 1 FROM pg_stat_user_tables LIMIT 1").fetchall():
            raise InvalidInput("there are tables in this database; name an empty one (see --help)")
        conn.execute("SET synchronous_commit = off")
        figures = {
            "postgres": conn.info.server_version,
            "keys": [
                rewrites(conn, "as it is", EXPIRY_INDEX, 80),
                rewrites(conn, "expiry index led by the company", COMPANY_FIRST_INDEX, 80),
                rewrites(conn, "fill factor 100", EXPIRY_INDEX, 100),
                rewrites(conn, "legacy indexes", LEGACY_INDEXES, 80),
                rewrites(conn, "legacy schema, exact expiry", LEGACY_INDEXES, 100, EXACT_STEP_S),
            ],
            "creds": [creds_rewrites(conn, fillfactor) for fillfactor in (50, 80, 100)],
            "expiry": [expiry(conn, columns) for columns in EXPIRY_INDEXES],
        }
    return Outcome(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode(), figures)


if __name__ == "__main__":
    sys.exit(main())
