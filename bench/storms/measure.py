"""Storms: many companies at the same time on one store, against psycopg alone, the clock and the pool.

There are three, each on a database of its own. 8 threads reconnect companies one after another, in turn through the
store and through psycopg alone; 90 accounts restart at the same moment; 1,000 companies send messages. A reconnect
reads the creds and the 721 real keys, and writes a burst of 250 pre-keys.
"""

from msgspec import Struct

from bench.limits import Target
from bench.measuring import Progress, no_progress
from bench.storms.reconnect import ROUNDS, ReconnectStorm, reconnect_storm
from bench.storms.restart import ACCOUNTS, Restart, restart
from bench.storms.steady import COMPANIES, STEADY_S, Steady, steady
from rig.postgres_server import database_on


class Storms(Struct, frozen=True):
    """The figures of all three storms."""

    reconnect_storm: ReconnectStorm
    restart: Restart
    steady: Steady

    @property
    def targets(self) -> tuple[Target, ...]:
        """The limits of all three."""
        return self.reconnect_storm.target, self.restart.target, self.steady.target


def measure(
    server_url: str,
    rounds: int = ROUNDS,
    accounts: int = ACCOUNTS,
    companies: int = COMPANIES,
    seconds: float = STEADY_S,
    progress: Progress = no_progress,
) -> Storms:
    """The three storms on the server at this address, each in a database made for it. Raises KeystoreError."""
    progress(0, 3)
    with database_on(server_url, "bench_storms") as url:
        storm = reconnect_storm(url, rounds=rounds)
    progress(1, 3)
    with database_on(server_url, "bench_storms") as url:
        restarted = restart(url, accounts)
    progress(2, 3)
    with database_on(server_url, "bench_storms") as url:
        return Storms(storm, restarted, steady(url, companies, seconds))
