"""Where the time of one message's durable write goes: each part of its way is measured by itself, from Node.

The parts take turns in one process. `query` is a statement without a commit, and `upsert` the limit's write with its
commit. `straight` and `http` are writes of our client. `alive` is a request to the service that needs no database, and
`request` a write over HTTP without our client, a lease and a number.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import msgspec

from bench.command import Command, MissingProgramError, Outcome
from bench.seat.program import HERE, as_texts, node_with_packages
from bench.seat.stores import served, with_login
from keystore.errors import KeystoreError
from rig.baileys_state import real_keys
from rig.postgres_server import own_postgres

PROGRAM = HERE / "hops.mjs"
ROUNDS, CALLS = 9, 41
SESSIONS = 20
COMPANY = "7999004"
TIMEOUT_S = 300.0


def measure(server: str, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median milliseconds of each part. Raises KeystoreError."""
    node = node_with_packages()
    if node is None:
        raise MissingProgramError("node or npm is not installed here, and this measurement needs both")
    sessions = dict(list(real_keys()["session"].items())[:SESSIONS])
    with ExitStack() as stack:
        url, login = with_login(stack, server, [f"{COMPANY}1"], "hops")
        address = served(stack, url, None).address
        request = {
            "database": url,
            "login": login,
            "service": address["url"],
            "token": address["token"],
            "company": COMPANY,
            "sessions": as_texts({"session": sessions})["session"],
            "rounds": rounds,
            "calls": CALLS,
        }
        done = subprocess.run(
            [node, PROGRAM], input=json.dumps(request), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    if done.returncode:
        raise KeystoreError(f"the program ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    times: Mapping[str, list[float]] = msgspec.json.decode(done.stdout, type=dict[str, dict[str, list[float]]])["ms"]
    return {name: round(median(ms), 3) for name, ms in times.items()}


def as_text(parts: Mapping[str, float]) -> str:
    """The way of a message over HTTP and straight, as a sum of differences."""
    rows = (
        ("straight", parts["straight"]),
        ("  a statement and its answer", parts["query"]),
        ("  the commit of an upsert", parts["upsert"] - parts["query"]),
        ("  our client, the lease and the number", parts["straight"] - parts["upsert"]),
        ("over HTTP", parts["http"]),
        ("  a request and its answer, without the database", parts["alive"]),
        ("  the service and the database", parts["request"] - parts["alive"]),
        ("  our client, the lease and the number", parts["http"] - parts["request"]),
    )
    return "\n".join(f"{name:<50}{ms:6.2f} ms" for name, ms in rows)


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print the parts."""
    command = Command("bench.seat.hops", __doc__)
    command.add_number("--rounds", ROUNDS, "rounds to measure")
    return command.run(args, _measure)


def _measure(options: argparse.Namespace) -> Outcome:
    with own_postgres() as server:
        parts = measure(server, options.rounds)
    return Outcome(as_text(parts), parts)


if __name__ == "__main__":
    sys.exit(main())
