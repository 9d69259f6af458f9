"""The memory of an idle `run.py`: the service as an operator starts it, with nothing to do."""

from time import sleep

import psutil
from msgspec import Struct

from bench.limits import Limit, Target
from rig.program import serving_database

SETTLE_S = 10.0
"""The time from its start until its first sweep and its first samples are over."""

MB = 1_000_000

LARGEST_LIMIT, ALL_LIMIT = Limit(90, "MB in the largest process"), Limit(160, "MB in all")


class Idle(Struct, frozen=True):
    """Resident memory in decimal megabytes, of the largest process and of all together."""

    processes: int
    largest_mb: float
    all_mb: float

    @property
    def targets(self) -> tuple[Target, ...]:
        """The limits for both sizes, as one target."""
        shown = f"{self.largest_mb:.0f} MB, {self.all_mb:.0f} MB in all"
        checks = (self.largest_mb, LARGEST_LIMIT), (self.all_mb, ALL_LIMIT)
        return (Target.judged("memory", "memory of an idle run.py, API on, one worker", shown, *checks),)


def measure(url: str) -> Idle:
    """Serve the database at `url` with one worker for the API, and weigh the idle service. Raises KeystoreError."""
    with serving_database(url) as service:
        sleep(SETTLE_S)
        parent = psutil.Process(service.process.pid)
        sizes = [process.memory_info().rss / MB for process in (parent, *parent.children(recursive=True))]
    return Idle(len(sizes), round(max(sizes), 1), round(sum(sizes), 1))
