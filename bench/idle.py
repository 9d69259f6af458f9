"""What an idle `run.py` keeps in memory: the service as an operator starts it, with nothing to do."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psutil

from keystore.errors import KeystoreError

RUN = Path(__file__).parent.parent / "run.py"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
SETTLE_S = 10.0
"""After its start: its first sweep and its first samples are over."""

POLL_S = 0.1
MB = 1_000_000


@dataclass(frozen=True)
class Idle:
    """Resident memory, in megabytes (decimal), of the largest process and of all together."""

    processes: int
    largest_mb: float
    all_mb: float


def measure(url: str) -> Idle:
    """Starts `run.py` on the database at `url`, waits until it is idle, and ends it. Raises KeystoreError."""
    with tempfile.TemporaryDirectory(prefix="keystore-idle-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, RUN],
                env={"PATH": os.defpath, "KEYSTORE_URL": url},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_until_serving(process, log)
            sleep(SETTLE_S)
            service = psutil.Process(process.pid)
            sizes = [one.memory_info().rss / MB for one in (service, *service.children(recursive=True))]
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
    return Idle(len(sizes), round(max(sizes), 1), round(sum(sizes), 1))


def _wait_until_serving(process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = monotonic() + START_TIMEOUT_S
    while "serving" not in log.read_text(encoding="utf-8"):
        if process.poll() is not None or monotonic() > give_up_at:
            raise KeystoreError(f"run.py didn't start; try it: {RUN}")
        sleep(POLL_S)
