"""What the Postgres schema's choices cost: the figures in the comments of `migrations/postgres/`.

Each choice is a schema of its own in one throw-away database: the same tables with other indexes or another fill
factor, and on them the store's own statements. Commits don't wait for the disk, which would hide the difference.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
from psycopg import sql

from keystore.codec import encode
from keystore.postgres.store import STATEMENTS
from keystore.ttl import DIARY, step_s
from monitor.upkeep.demo import demo_creds, demo_rows

HOW_TO_GET_ONE = """
It needs an empty database that may be thrown away, for example:
  docker run --rm -e POSTGRES_PASSWORD=bench -p 127.0.0.1:5433:5432 postgres:18
  python -m bench.schema --url postgresql://postgres:bench@127.0.0.1:5433/postgres
It makes a schema named bench_variant there, drops it again, and takes about two minutes.
"""

SEED = 20251008
NOW = datetime(2025, 10, 8, 9, 41, 27, tzinfo=UTC)
REWRITES = 30_000
REWRITE_EVERY = timedelta(days=1) / REWRITES
"""A busy day: 30,000 messages, each rewriting one session."""

COMPANIES = 4
"""Each with the diary's 665 keys, 120 of them sessions."""

BURSTS, BURST_KEYS, PRE_KEY_BYTES = 200, 250, 165
AUTH_COMPANIES = 200
READS, GET_KEYS = 200, 10
EXPIRY_COMPANIES, EXPIRY_KEYS, DUE_SHARE = 1_000, 300, 0.1
SWEPT_AT_ONCE = 50
"""Companies in one call of the sweep's statement."""

EXPLAINS = 5
EXACT_STEP_S = 1e-6
"""The diary's expiry: not rounded, so that each write changes it."""

TABLES = """
CREATE TABLE whatsapp_auth (company_id text PRIMARY KEY, creds bytea NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL) WITH (fillfactor = {auth_fill});
CREATE TABLE whatsapp_keys (company_id text NOT NULL, key_type text NOT NULL, key_id text NOT NULL,
    value bytea NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, expires_at timestamptz,
    PRIMARY KEY (company_id, key_type, key_id)) WITH (fillfactor = {keys_fill});
CREATE TABLE keystore_company_leases (company_id text PRIMARY KEY, holder text, epoch bigint, expires_at timestamptz);
"""

OURS = "CREATE INDEX ours_expiry ON whatsapp_keys (expires_at);"
OTHER = "CREATE INDEX other_expiry ON whatsapp_keys (company_id, expires_at);"
DIARYS = """
CREATE INDEX d1 ON whatsapp_keys (company_id);
CREATE INDEX d2 ON whatsapp_keys (key_type);
CREATE INDEX d3 ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX d4 ON whatsapp_keys (company_id, key_type, key_id);
CREATE INDEX d5 ON whatsapp_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX d6 ON whatsapp_keys (key_type, company_id);
"""
EXPIRY_INDEXES = ("expires_at", "company_id, expires_at", "expires_at, company_id")

Connection = psycopg.Connection[tuple[Any, ...]]
Figures = dict[str, Any]
"""`*_mb` and `*_kb` are decimal, `*_pages` are the 8 kB pages that a statement touches."""


@contextmanager
def variant(conn: Connection, name: str, indexes: str, keys_fill: int = 80, auth_fill: int = 80) -> Iterator[None]:
    """The tables, made one way, in a schema of their own for the block."""
    print(f"{name} …", file=sys.stderr)
    conn.execute("CREATE SCHEMA bench_variant")
    try:
        conn.execute("SET search_path = bench_variant")
        conn.execute((TABLES.format(keys_fill=keys_fill, auth_fill=auth_fill) + indexes).encode())
        yield
    finally:
        conn.execute("RESET search_path")
        conn.execute("DROP SCHEMA bench_variant CASCADE")


def run(conn: Connection, name: str, **params: Any) -> list[tuple[Any, ...]]:
    """One of the store's statements."""
    with conn.cursor(binary=True) as cursor:
        cursor.execute(STATEMENTS[name].encode(), params)
        return cursor.fetchall() if cursor.description else []


def explain(conn: Connection, name: str, **params: Any) -> tuple[float, int, dict[str, Any]]:
    """Milliseconds, pages touched and the plan of one of the store's statements; what it writes is taken back."""
    with conn.transaction(force_rollback=True):
        statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {STATEMENTS[name]}"
        ((document,),) = conn.execute(statement.encode(), params).fetchall()
    plan = document[0]["Plan"]
    return document[0]["Execution Time"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan


def indexes_in(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads."""
    here = {plan["Index Name"]} if "Index Name" in plan else set()
    return here.union(*(indexes_in(part) for part in plan.get("Plans", [])))


def size_mb(conn: Connection, what: str, relation: str) -> float:
    """Of a table or an index (`pg_relation_size`), or of a table's indexes (`pg_indexes_size`)."""
    query = sql.SQL("SELECT {}(%s::regclass)").format(sql.Identifier(what))
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
    """Seconds and megabytes of write-ahead log of a block, once it ends."""
    position, figures = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", Figures()
    wal, started = conn.execute(position).fetchall()[0][0], perf_counter()
    yield figures
    figures[f"{what}_s"] = round(perf_counter() - started, 2)
    figures[f"{what}_wal_mb"] = round((conn.execute(position).fetchall()[0][0] - wal) / 1e6, 1)


def put(conn: Connection, company: str, rows: list[tuple[str, str, bytes]], now: datetime, step: float) -> None:
    """Writes keys as the store does."""
    types = sorted({key_type for key_type, _, _ in rows})
    ttls = [DIARY.ttl_s(key_type) for key_type in types]
    steps = [step or float(step_s(ttl_s)) for ttl_s in ttls]
    key_types, key_ids, values = map(list, zip(*rows, strict=True))
    policy = {"types": types, "ttls_s": ttls, "steps_s": steps, "epoch": None}
    run(conn, "put", now=now, company_id=company, key_types=key_types, key_ids=key_ids, values=values, **policy)


def read_ms(conn: Connection, name: str, **params: Any) -> float:
    """The median time of a statement that reads, rows fetched."""
    took = []
    for _ in range(READS):
        started = perf_counter()
        run(conn, name, **params)
        took.append(perf_counter() - started)
    return round(median(took) * 1000, 2)


def rewrites(conn: Connection, choice: str, indexes: str, keys_fill: int, step: float = 0) -> Figures:
    """A day of session rewrites, then bursts, then reads. A `step` of 0 is the store's own rounding."""
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
        get = {"key_type": "session", "key_ids": [key_id for key_id, _ in sessions[:GET_KEYS]]}
        life = {"now": NOW, "ttl_s": DIARY.ttl_s("session"), "step_s": float(step_s(DIARY.ttl_s("session")))}
        params: dict[str, Figures] = {"load": {}, "get": get | life}
        for name in params:
            figures[f"{name}_ms"] = read_ms(conn, name, company_id="0", **params[name])
            _, figures[f"{name}_pages"], plan = explain(conn, name, company_id="0", **params[name])
            figures[f"{name}_reads"] = sorted(indexes_in(plan))
    return {"choice": choice} | figures


def creds_rewrites(conn: Connection, fillfactor: int) -> Figures:
    """A day of creds rewrites."""
    rng, length = random.Random(SEED), len(encode(demo_creds()))
    with variant(conn, f"creds, fill factor {fillfactor}", OURS, auth_fill=fillfactor):
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
    """The sweep's statements over 1,000 companies, of whose keys every tenth is due."""
    with variant(conn, f"index on ({columns})", f"CREATE INDEX ours_expiry ON whatsapp_keys ({columns});"):
        conn.execute(
            "INSERT INTO whatsapp_keys SELECT 'c' || c, 'session', k::text, %s, %s, %s, "
            "%s + (k %% %s - 0.5) * interval '1 day' FROM generate_series(1, %s) AS c, generate_series(1, %s) AS k",
            [bytes(PRE_KEY_BYTES), NOW, NOW, NOW, round(1 / DUE_SHARE), EXPIRY_COMPANIES, EXPIRY_KEYS],
        )
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        swept = [f"c{company}" for company in range(1, SWEPT_AT_ONCE + 1)]
        before = NOW - timedelta(days=1)
        due = [explain(conn, "due_companies", now=NOW) for _ in range(EXPLAINS)]
        none = [explain(conn, "due_companies", now=before) for _ in range(EXPLAINS)]
        sweep = [
            explain(conn, "sweep_around_locks", now=NOW, guard=True, attached=False, company_ids=swept)
            for _ in range(EXPLAINS)
        ]
        figures = {"index": columns, "index_mb": size_mb(conn, "pg_relation_size", "ours_expiry")}
        for what, runs in (("due_companies", due), ("nothing_due", none), ("sweep", sweep)):
            figures[f"{what}_ms"] = round(median(ms for ms, _, _ in runs), 2)
            figures[f"{what}_pages"] = runs[-1][1]
    return figures


def main() -> int:
    """Measures all choices and prints them as JSON."""
    parser = argparse.ArgumentParser(
        "python -m bench.schema",
        description=__doc__,
        epilog=HOW_TO_GET_ONE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", required=True, help="an empty, throw-away Postgres database")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    with psycopg.connect(args.url, autocommit=True, connect_timeout=5, prepare_threshold=None) as conn:
        if conn.execute("SELECT 1 FROM pg_stat_user_tables LIMIT 1").fetchall():
            print("there are tables in this database; give an empty one (see --help)", file=sys.stderr)
            return 1
        conn.execute("SET synchronous_commit = off")
        figures: dict[str, Any] = {
            "postgres": conn.info.server_version,
            "keys": [
                rewrites(conn, "as it is", OURS, 80),
                rewrites(conn, "expiry index led by the company", OTHER, 80),
                rewrites(conn, "fill factor 100", OURS, 100),
                rewrites(conn, "the diary's indexes", DIARYS, 80),
                rewrites(conn, "the diary's schema, exact expiry", DIARYS, 100, EXACT_STEP_S),
            ],
            "creds": [creds_rewrites(conn, fillfactor) for fillfactor in (50, 80, 100)],
            "expiry": [expiry(conn, columns) for columns in EXPIRY_INDEXES],
        }
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
