"""A watch as a process of its own, for a test to kill: `python -m tests.monitor.alerts.watch_worker URL`.

Its clock stands at the fixtures' START. Each line on its standard input is a look a minute later, and each look a line
on its standard output: True when it alerts, the number of messages it sent, and the number of notices that wait.
"""

import sys

from keystore import open_store
from monitor.alerts.outbox import NotDelivered
from rig.fixtures.clock import Clock
from tests.monitor.alerts.watches import Watched


def main(url: str) -> None:
    """Look once for each line, with nearly full memory, and without Telegram where the line says so."""
    clock = Clock()
    with open_store(url, clock=clock) as store:
        watched = Watched(store, clock)
        watched.used_share = 0.93
        for line in sys.stdin:
            watched.failing = NotDelivered(0) if line.strip() == "out of reach" else None
            messages = watched.look()
            sys.stdout.write(f"{watched.watch.is_alerting} {len(messages)} {watched.outbox.pending}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
