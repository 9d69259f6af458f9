"""The store against psycopg alone, with the server itself and with both behind PgBouncer, in one run.

Each side makes the same calls in turn on the same server. Behind the pooler neither prepares a statement.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from bench.command import Command, MissingProgramError, Outcome
from bench.gates.operations import BOT_LIMITS, BURSTS, Compared
from bench.limits import Target, as_text, missed
from bench.measuring import Progress, no_progress
from keystore.opening import open_store
from monitor.running.progress import progress_bar
from rig.pgbouncer import pgbouncer, pgbouncer_program
from rig.postgres_server import database_on, own_postgres
from rig.relay import address_at

EPILOG = """
Exits with 1 when a limit is missed, and with 2 where `pgbouncer` isn't installed.
"""

MOST_ROUNDS = 100
"""With more rounds the bursts would exceed a company's quota."""

SHORT_ROUNDS = 10
"""Rounds of a short operation for each of a burst: it takes less than a millisecond, as long as the machine's noise."""

PLACES = {"postgresql": "", "pgbouncer": ", PgBouncer"}


def measure(rounds: int = MOST_ROUNDS, progress: Progress = no_progress) -> list[Compared]:
    """Compare each operation on a server of its own, without and with the pooler. Raises KeystoreError."""
    program = pgbouncer_program()
    if program is None:
        raise MissingProgramError("no pgbouncer program on this machine (Debian: apt-get install pgbouncer)")
    with own_postgres() as server:
        parts = urlsplit(server)
        users = {str(parts.username): str(parts.password)}
        with pgbouncer(program, str(parts.hostname), parts.port or 5432, users) as port:
            return list(_compared(server, port, rounds, progress))


def _compared(server: str, pooler_port: int, bursts: int, progress: Progress) -> Iterator[Compared]:
    for done, (operation, _) in enumerate(BOT_LIMITS):
        progress(done, len(BOT_LIMITS))
        rounds = bursts if operation in BURSTS else bursts * SHORT_ROUNDS
        with database_on(server, "bench_pooled") as url:
            yield operation.compare(url, rounds)
        with database_on(server, "bench_pooled") as url:
            open_store(url).close()
            if not operation.durable:
                _never_wait_for_the_disk(url)
            yield operation.compare(url, rounds, address_at(url, "127.0.0.1", pooler_port))


def _never_wait_for_the_disk(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))


def targets(results: Sequence[Compared]) -> list[Target]:
    """Hold each result to the limit of its operation."""
    limits = {operation.name: limit for operation, limit in BOT_LIMITS}
    return [
        result.target(
            f"{result.backend}_{result.operation}",
            f"{result.operation}{PLACES[result.backend]}",
            limits[result.operation],
        )
        for result in results
    ]


def main(args: Sequence[str] | None = None) -> int:
    """Measure with the rounds of the command line; return 1 if a limit is missed."""
    command = Command("bench.pooled", __doc__, EPILOG)
    command.add_number("--rounds", MOST_ROUNDS, "rounds of a burst; others have ten times as many", most=MOST_ROUNDS)
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with progress_bar("operations") as progress:
        results = measure(options.rounds, progress)
    judged = targets(results)
    return Outcome(as_text(judged), results, not missed(judged))


if __name__ == "__main__":
    sys.exit(main())
