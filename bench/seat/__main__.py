"""The command `python -m bench.seat`: measures our client and the stores that bots use without it, from Node."""

import argparse
import sys
from collections.abc import Sequence

from bench.command import Command, MissingProgramError, Outcome
from bench.limits import as_text, missed
from bench.seat import measure as measure_module
from bench.seat.figures import targets
from bench.seat.measure import ROUNDS
from bench.seat.tables import tables
from monitor.running.progress import progress_bar
from rig.postgres_server import own_postgres

EPILOG = """
It starts a PostgreSQL of its own, and needs Node 20 and npm. On the first run, npm installs its packages in the folder
bench/seat. Without redis-server the rows of Redis are left out. It takes about four minutes.
Exits with 1 when a target is missed, and with 2 when Node or npm is not installed. README.md and docs/performance.md
show the figures of its JSON:
  python -m bench.seat --json docs/figures/seat.json && python -m bench.report.tables
"""


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a target is missed, 2 if Node or npm is not installed."""
    command = Command("bench.seat", measure_module.__doc__, EPILOG)
    command.add_number("--rounds", ROUNDS, "rounds to measure")
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with own_postgres() as server, progress_bar("rounds") as progress:
        seat = measure_module.measure(server, options.rounds, progress)
    if seat is None:
        raise MissingProgramError("node or npm is not installed here, and this measurement needs both")
    rows = list(targets(seat))
    text = f"Medians of {seat.rounds} rounds; all stores hold the same {seat.keys} keys (hash {seat.digest[:12]}).\n"
    return Outcome("\n\n".join([text, *tables(seat).values(), as_text(rows)]), seat, not missed(rows))


if __name__ == "__main__":
    sys.exit(main())
