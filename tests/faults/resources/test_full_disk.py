"""The disk under an SQLite file is full while bots write: an error to the caller, and nothing is lost or damaged."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from keystore import open_store
from keystore.records import Keys
from rig.relay import free_port
from rig.waiting import eventually
from tests.acceptance.in_process import run_json
from tests.clients.restartable_service import RestartableService
from tests.faults.calls import Calls, http_get
from tests.faults.conftest import ACCOUNTS
from tests.faults.writers import Writers, report, token_for

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

DISK_MB = 12
SIZE = 8_000
"""Bytes of a value of which a write has a hundred."""

TIMES_FULL = 3
MOST_RECOVERY_S = 20.0
"""Limit of the time in which every account writes again, once there is room."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk of its own, in memory. Mounting one needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk for the block, to the last byte."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (2**16, 2**10, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"\1" * size)
            yield
    finally:
        ballast.unlink()


class Values:
    """Keys for one write after the other. While they grow, each write has larger values.

    The write-ahead log keeps its size on the disk, so a write that fitted once fits into it again.
    """

    def __init__(self) -> None:
        self._size = SIZE
        self._grows = False

    def next(self) -> Keys:
        """Return the keys of the next write."""
        self._size = self._size + SIZE if self._grows else SIZE
        return {"session": {str(number): b"x" * self._size for number in range(100)}}

    @contextmanager
    def growing(self) -> Iterator[None]:
        """Let the values grow for the block."""
        self._grows = True
        try:
            yield
        finally:
            self._grows = False


def test_the_disk_is_full_three_times(small_disk: Path, tmp_path: Path, baileys: Path) -> None:
    file = small_disk / "k.db"
    url = f"sqlite:///{file}"
    run_json("migrate", url=url)
    token, probe_token = token_for(url, ACCOUNTS), token_for(url, ["probe"])
    with (
        RestartableService(url, tmp_path, free_port()) as service,
        open_store(url) as store,
        Writers(baileys, service.address, token, ACCOUNTS) as writers,
    ):
        writers.await_all()
        values = Values()
        read = Calls(lambda: http_get(f"{service.address}/v1/companies/probe/state", probe_token))
        write = Calls(lambda: store.set("probe", values.next()))
        with read, write:
            for _ in range(TIMES_FULL):
                writers.await_progress(MOST_RECOVERY_S)
                with filled(small_disk), values.growing():
                    failed = write.failed
                    eventually(lambda failed=failed: write.failed > failed + 2, "a write fails", 60)  # type: ignore[misc]
            writers.await_progress(MOST_RECOVERY_S)
        writers.stop()
        store.set("probe", values.next())
        assert store.load("probe").keys == values.next()
        lost = writers.lost(store)
        figures = f"{write.failed} writes of Python refused", f"longest read {read.longest_s:.1f} s"
        report("disk full on SQLite (HTTP)", TIMES_FULL, [writers], lost, *figures)
        assert write.errors
        assert all("the disk is full" in error for error in write.errors), write.errors
        assert writers.retries
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    unavailable = [json.loads(line) for line in service.logs.splitlines() if '"unavailable"' in line]
    assert any("the disk is full" in line["reason"] for line in unavailable), unavailable
