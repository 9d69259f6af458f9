"""What an idle `run.py` keeps in memory: the service as an operator starts it, with nothing to do."""

from dataclasses import dataclass
from time import sleep

import psutil

from rig.program import serving

SETTLE_S = 10.0
"""After its start: its first sweep and its first samples are over."""

MB = 1_000_000


@dataclass(frozen=True)
class Idle:
    """Resident memory, in megabytes (decimal), of the largest process and of all together."""

    processes: int
    largest_mb: float
    all_mb: float


def measure(url: str) -> Idle:
    """Serves the database at `url`, with one worker for the API, and weighs it once idle. Raises KeystoreError."""
    with serving(url) as service:
        sleep(SETTLE_S)
        parent = psutil.Process(service.pid)
        sizes = [one.memory_info().rss / MB for one in (parent, *parent.children(recursive=True))]
    return Idle(len(sizes), round(max(sizes), 1), round(sum(sizes), 1))
