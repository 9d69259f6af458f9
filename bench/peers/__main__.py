"""`python -m bench.peers`: how many times as long the peers take, on the same 721 keys in the same run."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.command import errors_in_one_line
from bench.peers import measure as measuring
from bench.peers.measure import (
    BURST_TIMES,
    KEYS_PER_INSERT,
    LOAD_TIMES,
    MOST_KEYS_PER_INSERT,
    ROUNDS,
    Act,
    Peers,
    measure,
)
from monitor.running.progress import progress_bar
from rig.postgres_server import own_postgres

EPILOG = f"""
It needs Node 20 and npm, which installs Baileys and pg beside this module the first time.
Exits with 1 when the diary-shaped adapter's load takes less than {LOAD_TIMES:g} times ours, or a burst of its less than
{BURST_TIMES:g} times; with 2 where there is no Node or npm.
"""


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Measures; 1 when a target is missed or something can't be used, 2 where Node or npm is absent."""
    parser = argparse.ArgumentParser(
        "python -m bench.peers",
        description=measuring.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="a Postgres server's address, of a role that may make databases (one of its own)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of which the median counts ({ROUNDS})")
    parser.add_argument(
        "--keys-per-insert",
        type=int,
        default=KEYS_PER_INSERT,
        metavar="N",
        help=f"of the diary-shaped adapter ({KEYS_PER_INSERT}, as the diary's bots)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(args)
    if given.url is not None and not given.url.startswith(("postgresql://", "postgres://")):
        parser.error("--url is a PostgreSQL address: postgresql://user:password@host:5432/database")
    if given.rounds < 1:
        parser.error("--rounds is 1 or more")
    if not 1 <= given.keys_per_insert <= MOST_KEYS_PER_INSERT:
        parser.error(f"--keys-per-insert is from 1 to {MOST_KEYS_PER_INSERT:,}")
    if given.json:
        given.json.touch()  # Before the work, not after it.
    with ExitStack() as stack:
        url = given.url or stack.enter_context(own_postgres())
        peers = measure(
            url, given.rounds, stack.enter_context(progress_bar("rounds")), keys_per_insert=given.keys_per_insert
        )
    if peers is None:
        print("error: node or npm is not installed here, and the peers run on them", file=sys.stderr)
        return 2
    if given.json:
        given.json.write_text(json.dumps(asdict(peers) | {"met": peers.met}, indent=2) + "\n", encoding="utf-8")
    _print(peers)
    return 0 if peers.met else 1


def _print(peers: Peers) -> None:
    print(f"Medians of {peers.rounds} rounds; {peers.keys} keys, the same in all three ({peers.digest[:12]}).")
    print(f"Node {peers.node}, Baileys {peers.baileys}, pg {peers.pg}, {peers.keys_per_insert:,} keys an INSERT.\n")
    print(f"{'':<11}{'store':>10}{'diary-shaped':>22}{'multi-file':>22}{'Baileys’ JSON alone':>22}   target")
    _print_act("load", peers.load, LOAD_TIMES)
    _print_act("burst 250", peers.burst_250, BURST_TIMES)
    _print_act("burst 812", peers.burst_812, BURST_TIMES)


def _print_act(name: str, act: Act, times: float) -> None:
    diary = f"{act.diary_ms:,.2f} ms, {act.diary_times:4.1f} ×"
    files = f"{act.files_ms:,.2f} ms, {act.files_times:4.1f} ×"
    verdict = "met" if act.diary_times >= times else f"MISSED: {times:g} ×"
    print(f"{name:<11}{act.store_ms:>7,.2f} ms{diary:>22}{files:>22}{act.json_ms:>19,.2f} ms   {verdict}")


if __name__ == "__main__":
    sys.exit(main())
