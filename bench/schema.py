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
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import psycopg

from bench.command import Command, Outcome
from bench.measuring import Connection, timed_ms
from keystore.errors import InvalidInput
from keystore.postgres.function_files import function_text
from keystore.postgres.statements import STATEMENTS
from keystore.sql.policy_table import policy_rows
from keystore.ttl import DIARY
from keystore.values.codec import encode
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
BUSY_DAY = [NOW + rewrite * timedelta(days=1) / REWRITES for rewrite in range(REWRITES)]
"""The times of a busy day's messages, each rewriting one session."""

COMPANIES, AUTH_COMPANIES = 4, 200
"""The number of companies, each with the 665 keys of the demo data, 120 of them sessions; and those with creds only."""

BURSTS, PRE_KEY_BYTES, READS, GET_KEYS, EXPLAINS = 200, 165, 200, 10, 5
EXPIRY_COMPANIES, EXPIRY_KEYS, DUE_SHARE = 1_000, 300, 0.1
SWEPT_COMPANIES = 50
"""The number of companies that are swept."""

EXACT_STEP_S = 1e-6
"""The step of an expiry that is not rounded, so that each write changes it, as in the original operator's database."""

TABLES = """
CREATE TABLE whatsapp_auth (company_id text PRIMARY KEY, creds bytea NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL) WITH (fillfactor = {auth_fill});
CREATE TABLE whatsapp_keys (company_id text NOT NULL, key_type text NOT NULL, key_id text NOT NULL,
    value bytea NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, expires_at timestamptz,
    PRIMARY KEY (company_id, key_type, key_id)) WITH (fillfactor = {keys_fill});
CREATE TABLE keystore_company_leases (company_id text PRIMARY KEY, holder text, epoch bigint, expires_at timestamptz,
    seq bigint);
CREATE TABLE keystore_policy (place integer PRIMARY KEY, key_type text, matches text, ttl_s float8, step_s float8,
    lengthened_at timestamptz);
"""

PRIMARY_KEY, BY_EXPIRY = "(company_id, key_type, key_id)", "(expires_at) WHERE expires_at IS NOT NULL"
LEGACY_INDEXES = ["(company_id)", "(key_type)", "(key_type, company_id)", PRIMARY_KEY, BY_EXPIRY, BY_EXPIRY]

KEY_CHOICES: dict[str, tuple[Sequence[str], int, float]] = {
    "as it is": (["(expires_at)"], 80, 0),
    "expiry index led by the company": (["(company_id, expires_at)"], 80, 0),
    "fill factor 100": (["(expires_at)"], 100, 0),
    "legacy indexes": (LEGACY_INDEXES, 80, 0),
    "legacy schema, exact expiry": (LEGACY_INDEXES, 100, EXACT_STEP_S),
}
"""The choices for the keys: indexes, fill factor, and step of an expiry (0 is the store's own rounding)."""

CREDS_FILL_FACTORS = (50, 80, 100)
EXPIRY_INDEXES = ("expires_at", "company_id, expires_at", "expires_at, company_id")

Params = dict[str, object]
Figures = dict[str, float | str | list[str]]
"""Written as JSON and not read back. `*_mb` are decimal; `*_pages` are the 8 kB pages that a statement touches."""


@contextmanager
def variant(
    conn: Connection,
    name: str,
    indexes: Sequence[str] = ("(expires_at)",),
    keys_fill: int = 80,
    auth_fill: int = 80,
    step_s: float = 0,
) -> Iterator[None]:
    """Make the tables with one choice, and the store's functions, in a schema of their own for the block."""
    print(f"{name} …", file=sys.stderr)
    tables = TABLES.format(keys_fill=keys_fill, auth_fill=auth_fill)
    conn.execute("CREATE SCHEMA bench_variant")
    try:
        conn.execute("SET search_path = bench_variant")
        conn.execute((tables + "".join(f"CREATE INDEX ON whatsapp_keys {index};" for index in indexes)).encode())
        conn.execute(function_text(attached=False).encode())
        for row in policy_rows(DIARY):
            conn.execute(STATEMENTS["add_lifetime"].encode(), row | ({"step_s": step_s} if step_s else {}))
        yield
    finally:
        conn.execute("RESET search_path")
        conn.execute("DROP SCHEMA bench_variant CASCADE")


def run(conn: Connection, name: str, params: Params) -> None:
    """Run one of the store's statements, and fetch its rows."""
    with conn.cursor(binary=True) as cursor:
        cursor.execute(STATEMENTS[name].encode(), params)
        if cursor.description:
            cursor.fetchall()


def explain(conn: Connection, name: str, params: Params) -> tuple[float, int, dict[str, Any]]:
    """Explain one of the store's statements: milliseconds, pages touched, and the plan. Its writes are rolled back."""
    statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {STATEMENTS[name]}"
    with conn.transaction(force_rollback=True):
        ((((document,)),),) = conn.execute(statement.encode(), params).fetchall()
    plan = document["Plan"]
    return document["Execution Time"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan


def indexes_in(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan reads."""
    here = {plan["Index Name"]} if "Index Name" in plan else set()
    return here.union(*(indexes_in(part) for part in plan.get("Plans", [])))


def number(conn: Connection, expression: str, digits: int) -> float:
    """The value of an SQL expression, rounded."""
    ((value,),) = conn.execute(f"SELECT ({expression})::float8".encode()).fetchall()
    return round(float(value), digits)


def updated(conn: Connection, table: str) -> Figures:
    """The share of a table's updates that touched no index, and the table's size."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    share = f"SELECT 100.0 * n_tup_hot_upd / n_tup_upd FROM pg_stat_user_tables WHERE relid = '{table}'::regclass"
    size_mb = f"pg_relation_size('{table}') / 1e6"
    return {"heap_only_percent": number(conn, share, 1), "table_mb": number(conn, size_mb, 2)}


@contextmanager
def measured(conn: Connection, what: str) -> Iterator[Figures]:
    """The seconds and megabytes of write-ahead log of a block, once it ends."""
    ((position,),) = conn.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    figures, began = Figures(), perf_counter()
    yield figures
    figures[f"{what}_s"] = round(perf_counter() - began, 2)
    figures[f"{what}_wal_mb"] = number(conn, f"(pg_current_wal_insert_lsn() - '{position}') / 1e6", 1)


def write(
    conn: Connection, company: str, rows: list[tuple[str, str, bytes]], now: datetime, creds: bytes | None = None
) -> None:
    """Write keys and creds as the store does."""
    params: Params = dict.fromkeys(("epoch", "seq", "most_keys", "most_bytes"))
    params |= {"key_types": [row[0] for row in rows], "key_ids": [row[1] for row in rows]}
    params |= {"values": [row[2] for row in rows], "gone_types": [], "gone_ids": [], "creds": creds}
    run(conn, "set", {"now": now, "company_id": company, **params})


def rewrites(conn: Connection, choice: str, indexes: Sequence[str], keys_fill: int, step: float) -> Figures:
    """Rewrite sessions for a day, write bursts, and read."""
    rng = random.Random(SEED)
    rows = [(row.key_type, row.key_id, encode(row.value)) for row in demo_rows(NOW)]
    sessions = [(key_id, len(value)) for key_type, key_id, value in rows if key_type == "session"]
    with variant(conn, choice, indexes, keys_fill, step_s=step):
        for company in range(COMPANIES):
            write(conn, str(company), rows, NOW)
        with measured(conn, "rewrites") as figures:
            for now in BUSY_DAY:
                key_id, length = rng.choice(sessions)
                session = ("session", key_id, rng.randbytes(length))
                write(conn, str(rng.randrange(COMPANIES)), [session], now)
        figures |= updated(conn, "whatsapp_keys")
        with measured(conn, "bursts") as bursts:
            for company, now in enumerate(BUSY_DAY[:BURSTS]):
                burst = [("pre-key", str(key_id), rng.randbytes(PRE_KEY_BYTES)) for key_id in range(BURST_KEYS)]
                write(conn, f"burst-{company}", burst, now)
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        figures |= bursts | {"indexes_mb": number(conn, "pg_indexes_size('whatsapp_keys') / 1e6", 2)}
        get = {"key_type": "session", "key_ids": [key_id for key_id, _ in sessions[:GET_KEYS]], "now": NOW}
        reads: dict[str, Params] = {"load": {"company_id": "0"}, "get": {"company_id": "0", **get}}
        for name, params in reads.items():
            read = partial(run, conn, name, params)
            figures[f"{name}_ms"] = round(median(timed_ms(read) for _ in range(READS)), 2)
            _, figures[f"{name}_pages"], plan = explain(conn, name, params)
            if read_by := sorted(indexes_in(plan)):  # A plan doesn't show those that a function reads.
                figures[f"{name}_reads"] = read_by
    return {"choice": choice} | figures


def creds_rewrites(conn: Connection, fillfactor: int) -> Figures:
    """Rewrite creds for a day."""
    rng, length = random.Random(SEED), len(encode(demo_creds()))

    def set_creds(company: int, now: datetime) -> None:
        write(conn, str(company), [], now, rng.randbytes(length))

    with variant(conn, f"creds, fill factor {fillfactor}", auth_fill=fillfactor):
        for company in range(AUTH_COMPANIES):
            set_creds(company, NOW)
        with measured(conn, "rewrites") as figures:
            for now in BUSY_DAY:
                set_creds(rng.randrange(AUTH_COMPANIES), now)
        return {"fillfactor": fillfactor} | figures | updated(conn, "whatsapp_auth")


def expiry(conn: Connection, columns: str) -> Figures:
    """Explain the sweep's statements over 1,000 companies, of whose keys a tenth are due."""
    with variant(conn, f"index on ({columns})", [f"({columns})"]):
        conn.execute(
            "INSERT INTO whatsapp_keys SELECT 'c' || c, 'session', k::text, %s, %s, %s, "
            "%s + (k %% %s - 0.5) * interval '1 day' FROM generate_series(1, %s) AS c, generate_series(1, %s) AS k",
            [bytes(PRE_KEY_BYTES), NOW, NOW, NOW, round(1 / DUE_SHARE), EXPIRY_COMPANIES, EXPIRY_KEYS],
        )
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        size_mb = f"pg_relation_size('whatsapp_keys_{columns.replace(', ', '_')}_idx') / 1e6"
        figures: Figures = {"index": columns, "index_mb": number(conn, size_mb, 2)}
        statements: dict[str, tuple[str, Params]] = {
            "due_companies": ("due_companies", {"now": NOW}),
            "nothing_due": ("due_companies", {"now": NOW - timedelta(days=1)}),
        }
        for what, (name, params) in statements.items():
            runs = [explain(conn, name, params) for _ in range(EXPLAINS)]
            figures |= {f"{what}_ms": round(median(ms for ms, _, _ in runs), 2), f"{what}_pages": runs[-1][1]}
        with conn.transaction(force_rollback=True), measured(conn, "sweep") as sweep:
            for company in range(1, SWEPT_COMPANIES + 1):
                conn.execute("SELECT keystore_sweep(%s, true, false, %s)", [f"c{company}", NOW]).fetchall()
    return figures | sweep


def main(args: Sequence[str] | None = None) -> int:
    """Measure all choices and print them as JSON."""
    database = "an empty, throw-away Postgres database"
    return Command("bench.schema", __doc__, EPILOG, url=database, url_required=True).run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with psycopg.connect(options.url, autocommit=True, connect_timeout=5, prepare_threshold=None) as conn:
        if conn.execute("SELECT 1 FROM pg_stat_user_tables LIMIT 1").fetchall():
            raise InvalidInput("there are tables in this database; name an empty one (see --help)")
        conn.execute("SET synchronous_commit = off")
        figures = {
            "postgres": conn.info.server_version,
            "keys": [rewrites(conn, name, *choice) for name, choice in KEY_CHOICES.items()],
            "creds": [creds_rewrites(conn, fillfactor) for fillfactor in CREDS_FILL_FACTORS],
            "expiry": [expiry(conn, columns) for columns in EXPIRY_INDEXES],
        }
    return Outcome(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode(), figures)


if __name__ == "__main__":
    sys.exit(main())
