"""`python -m bench.http_api`."""

import argparse
import sys
from collections.abc import Sequence

from bench.command import OWN_SERVER, Command, Outcome, in_range, server_at
from bench.http_api import measure
from bench.http_api.measure import ROUND_S, ROUNDS, compare
from rig.postgres_server import database_on


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a ratio is missed."""
    command = Command("bench.http_api", measure.__doc__, url=OWN_SERVER)
    command.add_argument("--rounds", type=in_range(int, 1), default=ROUNDS, help=f"rounds per operation ({ROUNDS})")
    command.add_argument("--seconds", type=float, default=ROUND_S, help=f"length of a round ({ROUND_S:g})")
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with server_at(options.url) as server, database_on(server, "bench_http") as url:
        comparisons = compare(url, options.rounds, options.seconds)
    lines = []
    for result in comparisons:
        verdict = f", wanted {result.wanted:.2f}: {'met' if result.met else 'MISSED'}" if result.wanted else ""
        lines.append(
            f"{result.operation:9} api {result.api_per_s:7,.0f}/s  bare ({result.handler}) "
            f"{result.bare_per_s:7,.0f}/s  ratio {result.ratio:.2f}{verdict}"
        )
    return Outcome("\n".join(lines), comparisons, all(result.met for result in comparisons))


if __name__ == "__main__":
    sys.exit(main())
