"""The command `python -m bench.peers`: measures the store against the state adapters that bots use without it."""

import argparse
import sys
from collections.abc import Sequence

from bench.command import OWN_SERVER, Command, MissingProgramError, Outcome, server_at, with_verdict
from bench.limits import as_text
from bench.peers import measure as measure_module
from bench.peers.measure import BURST_LIMIT, LOAD_LIMIT, MOST_KEYS_PER_INSERT, ROUNDS, Peers, targets
from bench.seat.stores import KEYS_PER_INSERT
from monitor.running.progress import progress_bar

EPILOG = f"""
It needs Node 20 and npm. On the first run, npm installs its packages in the folder bench/seat.
Exit code 0: the store's load is {LOAD_LIMIT} than the legacy adapter's, and each burst is {BURST_LIMIT}.
Exit code 1: one of these targets is missed, or an error ended the measurement.
Exit code 2: Node or npm is not installed.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a target is missed, 2 if Node or npm is not installed."""
    command = Command("bench.peers", measure_module.__doc__, EPILOG, url=OWN_SERVER)
    command.add_number("--rounds", ROUNDS, "rounds to measure")
    keys_help = "keys in one INSERT of the legacy adapter; the default is that of the original operator's bots"
    command.add_number("--keys-per-insert", KEYS_PER_INSERT, keys_help, most=MOST_KEYS_PER_INSERT)
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with server_at(options.url) as url, progress_bar("rounds") as progress:
        peers = measure_module.measure(url, options.rounds, progress, keys_per_insert=options.keys_per_insert)
    if peers is None:
        raise MissingProgramError("node or npm is not installed here, and this measurement needs both")
    met = all(target.met for target in targets(peers))
    return Outcome(_text(peers), with_verdict(peers, met), met)


def _text(peers: Peers) -> str:
    lines = [
        f"Medians of {peers.rounds} rounds. Store, legacy adapter and files hold the same {peers.keys} keys "
        f"(hash {peers.digest[:12]}).",
        f"Node {peers.node}, Baileys {peers.baileys}, pg {peers.pg}, {peers.keys_per_insert:,} keys per INSERT.\n",
        f"{'':<13}{'store':>10}{'legacy adapter':>22}{'files':>22}{'Baileys’ JSON alone':>22}",
    ]
    for name, operation in peers.acts.items():
        legacy = f"{operation.diary_ms:,.2f} ms, {operation.legacy_ratio:4.1f} ×"
        files = f"{operation.files_ms:,.2f} ms, {operation.files_ratio:4.1f} ×"
        lines.append(f"{name:<13}{operation.store_ms:>7,.2f} ms{legacy:>22}{files:>22}{operation.json_ms:>19,.2f} ms")
    return "\n".join([*lines, "", as_text(targets(peers))])


if __name__ == "__main__":
    sys.exit(main())
