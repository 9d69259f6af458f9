"""Bots, the service, its workers and the server are killed while twenty accounts write."""

import os
import signal
from pathlib import Path
from time import monotonic

import pytest

from keystore import open_store
from tests.faults.conftest import ACCOUNTS, Site, way_of, workers
from tests.faults.writers import Writers, report

MOST_RECOVERY_S = 5.0
"""Limit of the time in which every account writes again, once the server is back."""

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_bot_is_killed_ten_times(site: Site, baileys: Path) -> None:
    runs = []
    for _ in range(10):
        with Writers(baileys, site.url, site.token, ACCOUNTS, retryForMs=1_000) as writers:
            writers.await_all()
            writers.await_progress()
            writers.kill()
        runs.append(writers)
        with open_store(site.server.url) as store:
            lost = writers.lost(store)
        assert lost == []
    report(f"SIGKILL of a bot ({way_of(site)})", 10, runs, [])


def test_the_service_and_its_worker_are_killed_five_times_each(site: Site, baileys: Path) -> None:
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers:
        writers.await_all()
        for _ in range(5):
            for worker in workers():
                os.kill(worker.pid, signal.SIGKILL)
            writers.await_progress()
            site.service.stop(signal.SIGKILL)
            site.service.start()
            writers.await_progress()
        writers.stop()
        with open_store(site.server.url) as store:
            report(f"SIGKILL of the service and of a worker ({way_of(site)})", 10, [writers], writers.lost(store))


def test_the_server_is_restarted_at_once_ten_times(site: Site, baileys: Path) -> None:
    recoveries = []
    with Writers(baileys, site.url, site.token, ACCOUNTS) as writers:
        writers.await_all()
        for _ in range(10):
            site.server.server.crash()
            site.server.server.start()
            began = monotonic()
            writers.await_progress()
            recoveries.append(monotonic() - began)
        writers.stop()
        with open_store(site.server.url) as store:
            report(f"immediate restart of PostgreSQL ({way_of(site)})", 10, [writers], writers.lost(store))
    assert writers.went_back == 0, "the server lost acknowledged writes, and the bots wrote them again"
    assert max(recoveries) < MOST_RECOVERY_S
