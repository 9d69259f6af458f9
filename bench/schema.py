"""The costs of the Postgres schema's choices: the figures in the comments of `migrations/postgres/`.

Each choice is a schema of its own in one throw-away database: the same tables with other indexes or another fill
factor, under the store's own statements. Commits don't wait for the disk, which would hide the differences.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Cost:
    """The seconds and the decimal megabytes of write-ahead log of some writes."""

    took_s: float
    wal_mb: float


@dataclass(frozen=True)
class Explained:
    """The time of a statement, the 8 kB pages that it touches, and its plan."""

    ms: float
    pages: int
    plan: dict[str, Any]


@dataclass(frozen=True)
class KeysFigures:
    """A day of session rewrites, then bursts, then reads, with one choice of indexes and fill factor."""

    choice: str
    rewrites_s: float
    rewrites_wal_mb: float
    heap_only_percent: float
    table_mb: float
    bursts_s: float
    bursts_wal_mb: float
    indexes_mb: float
    load_ms: float
    load_pages: int
    load_reads: list[str]
    get_ms: float
    get_pages: int
    get_reads: list[str]


@dataclass(frozen=True)
class CredsFigures:
    """A day of creds rewrites with one fill factor."""

    fillfactor: int
    rewrites_s: float
    rewrites_wal_mb: float
    heap_only_percent: float
    table_mb: float


@dataclass(frozen=True)
class ExpiryFigures:
    """The sweep's statements with one index on the expiry."""

    index: str
    index_mb: float
    due_companies_ms: float
    due_companies_pages: int
    nothing_due_ms: float
    nothing_due_pages: int
    sweep_ms: float
    sweep_pages: int


@dataclass(frozen=True)
class SchemaFigures:
    """The figures of all choices; `postgres` is the version of the server."""

    postgres: int
    keys: list[KeysFigures]
    creds: list[CredsFigures]
    expiry: list[ExpiryFigures]


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


def explain(conn: Connection, name: str, **params: object) -> Explained:
    """Explain one of the store's statements; its writes are rolled back."""
    with conn.transaction(force_rollback=True):
        statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {STATEMENTS[name]}"
        ((document,),) = conn.execute(statement.encode(), params).fetchall()
    plan = document[0]["Plan"]
    return Explained(document[0]["Execution Time"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], plan)


def explained(conn: Connection, name: str, **params: object) -> tuple[float, int]:
    """The median milliseconds of one of the store's statements, and the pages that its last run touched."""
    runs = [explain(conn, name, **params) for _ in range(EXPLAINS)]
    return round(median(run.ms for run in runs), 2), runs[-1].pages


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


def cost(conn: Connection, write: Callable[[], None]) -> Cost:
    """Write, and return the cost."""
    position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8"
    wal, started = conn.execute(position).fetchall()[0][0], perf_counter()
    write()
    took_s = round(perf_counter() - started, 2)
    return Cost(took_s, round((conn.execute(position).fetchall()[0][0] - wal) / 1e6, 1))


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


def rewrites(conn: Connection, choice: str, indexes: str, keys_fill: int, step: float = 0) -> KeysFigures:
    """Rewrite sessions for a day, write bursts, and read. A `step` of 0 is the store's own rounding."""
    rng = random.Random(SEED)
    rows = [(row.key_type, row.key_id, encode(row.value)) for row in demo_rows(NOW)]
    sessions = [(key_id, len(value)) for key_type, key_id, value in rows if key_type == "session"]

    def rewrite_sessions() -> None:
        for number in range(REWRITES):
            key_id, length = rng.choice(sessions)
            session = ("session", key_id, rng.randbytes(length))
            put(conn, str(rng.randrange(COMPANIES)), [session], NOW + number * REWRITE_EVERY, step)

    def write_bursts() -> None:
        for number in range(BURSTS):
            burst = [("pre-key", str(key_id), rng.randbytes(PRE_KEY_BYTES)) for key_id in range(BURST_KEYS)]
            put(conn, f"burst-{number}", burst, NOW + number * REWRITE_EVERY, step)

    with variant(conn, choice, indexes, keys_fill):
        for company in range(COMPANIES):
            put(conn, str(company), rows, NOW, step)
        rewriting = cost(conn, rewrite_sessions)
        heap_only = heap_only_percent(conn, "whatsapp_keys")
        table_mb = size_mb(conn, "pg_relation_size", "whatsapp_keys")
        bursts = cost(conn, write_bursts)
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        ttl_s = DIARY.ttl_s("session")
        get = {
            "key_type": "session",
            "key_ids": [key_id for key_id, _ in sessions[:GET_KEYS]],
            "now": NOW,
            "ttl_s": ttl_s,
            "step_s": float(step_s(ttl_s)),
        }
        load_plan, get_plan = explain(conn, "load", company_id="0"), explain(conn, "get", company_id="0", **get)
        return KeysFigures(
            choice=choice,
            rewrites_s=rewriting.took_s,
            rewrites_wal_mb=rewriting.wal_mb,
            heap_only_percent=heap_only,
            table_mb=table_mb,
            bursts_s=bursts.took_s,
            bursts_wal_mb=bursts.wal_mb,
            indexes_mb=size_mb(conn, "pg_indexes_size", "whatsapp_keys"),
            load_ms=read_ms(conn, "load", company_id="0"),
            load_pages=load_plan.pages,
            load_reads=sorted(indexes_in(load_plan.plan)),
            get_ms=read_ms(conn, "get", company_id="0", **get),
            get_pages=get_plan.pages,
            get_reads=sorted(indexes_in(get_plan.plan)),
        )


def creds_rewrites(conn: Connection, fillfactor: int) -> CredsFigures:
    """Rewrite creds for a day."""
    rng, length = random.Random(SEED), len(encode(demo_creds()))

    def rewrite_creds() -> None:
        for number in range(REWRITES):
            company, creds = str(rng.randrange(AUTH_COMPANIES)), rng.randbytes(length)
            now = NOW + number * REWRITE_EVERY
            run(conn, "set_creds", now=now, epoch=None, company_id=company, creds=creds)

    with variant(conn, f"creds, fill factor {fillfactor}", EXPIRY_INDEX, auth_fill=fillfactor):
        for company in range(AUTH_COMPANIES):
            run(conn, "set_creds", company_id=str(company), creds=rng.randbytes(length), now=NOW, epoch=None)
        rewriting = cost(conn, rewrite_creds)
        return CredsFigures(
            fillfactor,
            rewriting.took_s,
            rewriting.wal_mb,
            heap_only_percent(conn, "whatsapp_auth"),
            size_mb(conn, "pg_relation_size", "whatsapp_auth"),
        )


def expiry(conn: Connection, columns: str) -> ExpiryFigures:
    """Explain the sweep's statements over 1,000 companies, of whose keys a tenth are due."""
    with variant(conn, f"index on ({columns})", f"CREATE INDEX ours_expiry ON whatsapp_keys ({columns});"):
        conn.execute(
            "INSERT INTO whatsapp_keys SELECT 'c' || c, 'session', k::text, %s, %s, %s, "
            "%s + (k %% %s - 0.5) * interval '1 day' FROM generate_series(1, %s) AS c, generate_series(1, %s) AS k",
            [bytes(PRE_KEY_BYTES), NOW, NOW, NOW, round(1 / DUE_SHARE), EXPIRY_COMPANIES, EXPIRY_KEYS],
        )
        conn.execute("VACUUM ANALYZE whatsapp_keys")
        swept = [f"c{company}" for company in range(1, SWEPT_AT_ONCE + 1)]
        index_mb = size_mb(conn, "pg_relation_size", "ours_expiry")
        due_ms, due_pages = explained(conn, "due_companies", now=NOW)
        nothing_ms, nothing_pages = explained(conn, "due_companies", now=NOW - timedelta(days=1))
        sweep_ms, sweep_pages = explained(
            conn, "sweep_around_locks", now=NOW, guard=True, attached=False, company_ids=swept
        )
        return ExpiryFigures(columns, index_mb, due_ms, due_pages, nothing_ms, nothing_pages, sweep_ms, sweep_pages)


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
        figures = SchemaFigures(
            postgres=conn.info.server_version,
            keys=[
                rewrites(conn, "as it is", EXPIRY_INDEX, 80),
                rewrites(conn, "expiry index led by the company", COMPANY_FIRST_INDEX, 80),
                rewrites(conn, "fill factor 100", EXPIRY_INDEX, 100),
                rewrites(conn, "legacy indexes", LEGACY_INDEXES, 80),
                rewrites(conn, "legacy schema, exact expiry", LEGACY_INDEXES, 100, EXACT_STEP_S),
            ],
            creds=[creds_rewrites(conn, fillfactor) for fillfactor in (50, 80, 100)],
            expiry=[expiry(conn, columns) for columns in EXPIRY_INDEXES],
        )
    return Outcome(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode(), figures)


if __name__ == "__main__":
    sys.exit(main())
