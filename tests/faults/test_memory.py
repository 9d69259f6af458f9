"""The memory of the service, its worker and a bot stays flat over the writes of a day."""

import sys
from pathlib import Path

import psutil
import pytest

from keystore import open_store
from rig.waiting import eventually
from tests.faults.conftest import ACCOUNTS, Site, way_of, workers
from tests.faults.writers import Writers, report

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1_800)]

WARM_UP, WRITES = 10_000, 50_000
"""Writes before memory is measured first, and until it is measured again: a day of 20 accounts with 2,000 messages."""

MOST_GROWTH_MB = {"service": 1.0, "worker": 1.7, "bot": 40.0}
"""A bot's garbage comes and goes. If a kilobyte of each write stayed, it would take 50 MB."""


def test_memory_is_flat(site: Site, baileys: Path) -> None:
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers:
        (worker,) = workers()
        service = worker.parent()
        assert service is not None
        processes = {"service": service, "worker": worker, "bot": psutil.Process(writers.pid)}
        eventually(lambda: writers.operations > WARM_UP, "the caches are filled", 600)
        before = {name: megabytes(process) for name, process in processes.items()}
        eventually(lambda: writers.operations > WARM_UP + WRITES, "a day's writes", 1_200)
        after = {name: megabytes(process) for name, process in processes.items()}
        writers.stop()
        with open_store(site.server.url) as store:
            report(f"memory over a day's writes ({way_of(site)})", 0, [writers], writers.lost(store))
    grown = {name: round(after[name] - before[name], 1) for name in processes}
    sys.stdout.write(f"memory in MB: {after}, grown by {grown}\n")
    assert [name for name, limit in MOST_GROWTH_MB.items() if grown[name] > limit] == []


def megabytes(process: psutil.Process) -> float:
    """The resident memory of a process."""
    return round(process.memory_info().rss / 1e6, 1)
