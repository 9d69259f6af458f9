"""The first start: one admin token however many services start at once, a banner, and an end within 5 seconds."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from api.access.authentication import Authenticator
from api.access.tokens import FIRST_ID, announce_first_admin_token, hash_of
from keystore import open_store
from rig.program import RUN, environment
from rig.waiting import eventually
from service.banner import start_banner

STARTS = 6


def test_of_several_first_starts_one_token_is_made_and_its_file_is_valid(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    url = f"sqlite:///{database}"
    open_store(url).close()
    together = Barrier(STARTS)

    def start(_: int) -> Path | None:
        with open_store(url) as store:
            together.wait(20)
            return announce_first_admin_token(store, database)

    with ThreadPoolExecutor(STARTS) as starts:
        files = set(starts.map(start, range(STARTS)))
    file = tmp_path / "k.db.admin-token"
    assert files == {file}
    with open_store(url) as store:
        (record,) = store.tokens()
        caller = Authenticator(lambda: store).caller(file.read_text(encoding="ascii").strip(), "127.0.0.1")
    assert (caller, caller.company_id) == (record, None)
    assert list(tmp_path.glob("k.db.admin-token*")) == [file], "the other starts' files are gone"


def test_a_start_that_died_before_the_rename_is_completed(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    with open_store(f"sqlite:///{database}") as store:
        file = announce_first_admin_token(store, database)
        assert file is not None
        token = file.read_text(encoding="ascii")
        file.rename(file.with_name(f"{file.name}.{hash_of(token.strip().split('_', 2)[2]).hex()[:16]}"))
        assert announce_first_admin_token(store, database) == file
        assert file.read_text(encoding="ascii") == token
        assert [record.token_id for record in store.tokens()] == [FIRST_ID]


def test_the_banner_names_address_token_next_step_and_end() -> None:
    banner = start_banner("bots", "1.2", "sqlite:////srv/k.db", "http://127.0.0.1:8080", Path("/srv/k.db.admin-token"))
    for part in (
        "bots",
        "1.2",
        "/srv/k.db",
        "http://127.0.0.1:8080",
        "/srv/k.db.admin-token",
        "token create",
        "Ctrl-C",
    ):
        assert part in banner
    assert "token create --admin" in start_banner("bots", "1.2", "postgresql://db/bots", "http://[::1]:80", None)
    assert "off" in start_banner("bots", "1.2", "postgresql://db/bots", None, None)


@contextmanager
def starting(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """`serve` on `k.db`, with its log as text, which isn't waited for."""
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, RUN],
            env=environment(f"sqlite:///{tmp_path}/k.db", {}),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.slow
def test_the_first_start_shows_the_banner_and_the_second_none(tmp_path: Path) -> None:
    for shown in (True, False):
        with starting(tmp_path) as (process, log):
            eventually(lambda: "serving" in log.read_text(encoding="utf-8"), "it serves", 30)
            eventually(lambda: "sweep_finished" in log.read_text(encoding="utf-8"), "it has swept", 30)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert ("stop         Ctrl-C" in log.read_text(encoding="utf-8")) is shown


@pytest.mark.slow
def test_a_signal_during_the_start_ends_it_within_5_seconds(tmp_path: Path) -> None:
    """Another process holds the write lock, so that the migration of a new file waits for it inside of SQLite."""
    database = tmp_path / "k.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("BEGIN IMMEDIATE")
        with starting(tmp_path) as (process, log):
            descriptors = Path(f"/proc/{process.pid}/fd")
            eventually(
                lambda: any(path.resolve() == database for path in descriptors.iterdir()), "it has the file open", 30
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert "stopped_during_start" in log.read_text(encoding="utf-8")
