"""`python -m bench.storms`."""

import argparse
import sys
from collections.abc import Sequence

from bench.command import OWN_SERVER, Command, Outcome, server_at
from bench.limits import as_text
from bench.storms import measure as measuring
from bench.storms.companies import MESSAGE_EVERY_S
from bench.storms.measure import Storms, measure
from bench.storms.reconnect import RATIO_LIMIT, ROUNDS
from bench.storms.restart import ACCOUNTS, RESTART_LIMIT
from bench.storms.steady import COMPANIES, CONNECTIONS_LIMIT, STEADY_S, TIMEOUTS_LIMIT
from monitor.running.progress import progress_bar

EPILOG = f"""
Without --url it runs a Postgres of its own. With it, it creates databases on that server and drops them again.
Exits with 1 unless the limits are kept: companies reconnected a second {RATIO_LIMIT}, the restart {RESTART_LIMIT},
steady traffic with {CONNECTIONS_LIMIT} and {TIMEOUTS_LIMIT}.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a limit is missed or the server can't be used."""
    command = Command("bench.storms", measuring.__doc__, EPILOG, url=OWN_SERVER)
    command.add_number("--rounds", ROUNDS, "rounds of the reconnect storm")
    command.add_number("--accounts", ACCOUNTS, "accounts that restart")
    command.add_number("--companies", COMPANIES, "companies with steady traffic")
    command.add_number("--seconds", STEADY_S, "seconds of steady traffic", 2 * MESSAGE_EVERY_S, 3_600.0)
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with progress_bar("storms") as progress, server_at(options.url) as server:
        storms = measure(server, options.rounds, options.accounts, options.companies, options.seconds, progress)
    return Outcome(_text(storms), storms, all(target.met for target in storms.targets))


def _text(storms: Storms) -> str:
    storm, restart, steady = storms.reconnect_storm, storms.restart, storms.steady
    return (
        f"{as_text(storms.targets)}\n\n"
        f"reconnect storm: {storm.store_per_s:,.0f} companies a second, psycopg alone {storm.bare_per_s:,.0f}; "
        f"each {storm.store_p50_ms:.1f} ms (p95 {storm.store_p95_ms:.1f}), psycopg alone {storm.bare_p50_ms:.1f} ms "
        f"(p95 {storm.bare_p95_ms:.1f}); median of {storm.rounds} rounds of {storm.companies} companies\n"
        f"restart: {restart.keys_read:,} keys read, {restart.keys_written:,} written\n"
        f"steady traffic: {steady.messages:,} messages, {steady.per_s:,.0f} a second; "
        f"get p95 {steady.get_p95_ms:.1f} ms, set p95 {steady.set_p95_ms:.1f} ms; "
        f"the first messages, all at the same moment, took {steady.rush_s:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
