"""A watch as a process of its own, for a test to kill: `python -m tests.monitor.alerts.watch_worker URL`.

Its clock stands at the diary's Day 0; each line on its standard input is a look a minute later, and each look a line on
its standard output: whether it holds the lease, how many notices it tells, and how many wait.
"""

import sys

from keystore import open_store
from monitor.alerts.outbox import NotDelivered
from rig.fixtures.clock import Clock
from tests.monitor.alerts.watches import Watched


def main(url: str) -> None:
    """Looks as often as it is told, with Telegram out of reach and its memory nearly full."""
    clock = Clock()
    with open_store(url, clock=clock) as store:
        watched = Watched(store, clock)
        watched.used_share = 0.93
        for line in sys.stdin:
            watched.failing = NotDelivered(0) if line.strip() == "out of reach" else None
            told = watched.look()
            sys.stdout.write(f"{watched.watch.is_holder} {len(told)} {watched.outbox.pending}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
