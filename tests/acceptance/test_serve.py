"""`serve`: it starts without settings, sweeps at start, survives an outage, and leaves nothing half-done."""

import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from keystore import Store, StoreUnavailable, open_store
from keystore.records import KeyRow
from monitor.sweeper import sweep_and_log
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import PASSWORD, OwnServer
from rig.program import RUN, run, serving
from rig.waiting import eventually
from tests.acceptance.in_process import run_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("serve")]

ENDS_WITHIN_S = 8.0
"""The five seconds that the service has, and some for a loaded machine."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new database, on either backend."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/k.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log file of the service."""
    return tmp_path / "log"


def write_expired(store: Store, companies: int, keys: int) -> None:
    """Device lists that expired yesterday. (A scheduled sweep would hold a company with such sessions back.)"""
    long_ago = datetime.now(UTC) - timedelta(days=20)
    for company in range(companies):
        rows = [
            KeyRow("device-list", f"{n}", b"A", long_ago, long_ago, datetime.now(UTC) - timedelta(days=1))
            for n in range(keys)
        ]
        store.restore_rows(f"c{company}", rows)


def test_without_settings_it_serves_from_a_file_of_its_own(tmp_path: Path, log: Path) -> None:
    with serving(log, cwd=tmp_path) as service:
        service.logged("sweep_finished")
        file = tmp_path / "keystore.db"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        token = tmp_path / "keystore.db.admin-token"
        assert service.logged("admin_token_made")["file"] == str(token)
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert service.end(signal.SIGTERM) == 0
    events = [entry["event"] for entry in service.events]
    events = [event for event in events if event not in ("telegram_not_set_up", "alerting_taken_over")]
    assert (events[0], set(events[1:3]), events[3:]) == (
        "admin_token_made",
        {"serving", "sweep_finished"},
        ["stopping", "stopped"],
    )
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["keystore.db", "keystore.db.admin-token", "log"], "the log of SQLite is folded in"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_migrates_sweeps_at_start_and_ends_on_a_signal(url: str, log: Path, how: signal.Signals) -> None:
    with open_store(url) as store:
        write_expired(store, companies=3, keys=10)
        store.set("live", {"session": {"a": b"A"}})
    with serving(log, url) as service:
        assert service.logged("sweep_finished")["deleted"] == 30
        assert service.end(how) == 0
    checked = run_json("check", url=url)
    assert (checked["total"], checked["last_sweep"]["deleted"], checked["last_sweep"]["error"]) == (1, 30, None)


def test_it_ends_in_the_middle_of_a_sweep_with_nothing_half_done(url: str, log: Path) -> None:
    with open_store(url) as store:
        write_expired(store, companies=300, keys=100)
    with serving(log, url) as service:
        assert service.end(signal.SIGTERM) == 0
    with open_store(url) as store:
        left = store.census().total
        assert left % 100 == 0, "a batch is whole companies"
        (latest,) = store.sweep_runs(10)
        assert latest.deleted == 30_000 - left
        assert latest.finished_at is not None
    assert run_json("sweep", url=url)["deleted"] == left


def test_a_signal_at_any_line_of_the_wait_for_signals_ends_it() -> None:
    # An Event deadlocks here: its lock isn't reentrant, and the handler runs in the thread that holds it.
    waits = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from service.lifetime import EndSignals
ended_by = EndSignals()
def on_line(frame, event, argument):
    os.kill(os.getpid(), signal.SIGTERM)
    return on_line
sys.settrace(on_line)
def wait():
    return ended_by.get()
ended_by_name = wait()
sys.settrace(None)
assert ended_by_name == "SIGTERM"
"""
    done = subprocess.run([sys.executable, "-c", waits, str(RUN.parent)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_signal_that_another_thread_takes_ends_the_wait() -> None:
    # The system gives a process's signal to any thread; one that waits for a lock isn't woken by another's signal.
    waits = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from service.lifetime import EndSignals
ended_by = EndSignals()
def main_thread_waits():
    with open(f"/proc/self/task/{os.getpid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
def take():
    while not all(main_thread_waits() for _ in range(1000)):
        pass
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=take, daemon=True).start()
assert ended_by.get() == "SIGTERM"
"""
    done = subprocess.run([sys.executable, "-c", waits, str(RUN.parent)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_two_services_share_a_database_and_one_of_them_sweeps(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        write_expired(store, companies=200, keys=100)
    with serving(tmp_path / "one", url) as first, serving(tmp_path / "two", url) as second:
        eventually(lambda: _swept(first.events) and _swept(second.events), "both have tried to sweep", 30)
        assert first.end(signal.SIGTERM) == second.end(signal.SIGTERM) == 0
    done = [entry for entry in first.events + second.events if entry["event"] == "sweep_finished"]
    assert sum(entry["deleted"] for entry in done) == 20_000
    assert run_json("check", url=url)["total"] == 0


def _swept(events: list[dict[str, object]]) -> bool:
    return any(entry["event"] in ("sweep_finished", "sweep_skipped") for entry in events)


def test_a_failing_sweep_is_reported_with_its_retry_and_ends_nothing(own_server: OwnServer, log: Path) -> None:
    with open_store(own_server.url) as store:
        write_expired(store, companies=2, keys=5)
    with closing(psycopg.connect(own_server.url)) as blocker:
        # A lock on the table keeps the first sweep waiting until the server goes away under it.
        blocker.execute("LOCK TABLE whatsapp_keys")
        with serving(log, own_server.url) as service:
            eventually(lambda: _waiting(own_server), "the sweep waits for the table")
            own_server.server.crash()
            failed = service.logged("job_failed")
            assert (failed["job"], failed["level"]) == ("sweep", "error")
            assert failed["retry_s"] <= 30
            assert PASSWORD not in log.read_text(encoding="utf-8")
            assert service.end(signal.SIGTERM) == 0


def test_a_sweep_that_died_with_the_server_is_made_up_for(own_server: OwnServer) -> None:
    clock = Clock(datetime.now(UTC))
    with open_store(own_server.url, clock=clock) as store:
        write_expired(store, companies=2, keys=5)
        stopping = threading.Event()
        with closing(psycopg.connect(own_server.url)) as blocker, ThreadPoolExecutor(1) as sweeper:
            blocker.execute("LOCK TABLE whatsapp_keys")
            first = sweeper.submit(sweep_and_log, store, stopping)
            eventually(lambda: _waiting(own_server), "the sweep waits for the table")
            own_server.server.crash()
            with pytest.raises(StoreUnavailable):
                first.result(30)
        own_server.server.start()
        # The lease of the sweep that died has to run out first; the loop asks again after that long.
        again_s = sweep_and_log(store, stopping)
        assert again_s is not None
        clock.advance(timedelta(seconds=again_s))
        assert sweep_and_log(store, stopping) is None
        assert store.sweep_runs(1)[0].deleted == 10


def _waiting(own: OwnServer) -> bool:
    with own.site.admin("bots") as conn:
        (count,) = conn.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone() or (
            0,
        )
    return bool(count)


def test_a_signal_during_a_blocked_batch_still_ends_within_5_seconds(own_server: OwnServer, log: Path) -> None:
    with open_store(own_server.url) as store:
        write_expired(store, companies=2, keys=5)
    with psycopg.connect(own_server.url) as blocker:
        blocker.execute("LOCK TABLE whatsapp_keys")
        with serving(log, own_server.url) as service:
            eventually(lambda: _waiting(own_server), "the sweep waits for the table")
            assert service.end(signal.SIGTERM, within_s=ENDS_WITHIN_S) == 0
        assert service.events[-1]["event"] == "stopped_during_a_batch"
    with open_store(own_server.url) as store:
        assert store.census().expired == 10


def test_logs_are_lines_of_text_by_default(tmp_path: Path) -> None:
    done = run("serve", cwd=tmp_path, url="nonsense")
    assert done.returncode == 1
    with serving(tmp_path / "log", cwd=tmp_path, KEYSTORE_LOG="json") as service:
        assert {"event", "level", "timestamp", "database"} <= service.logged("serving").keys()
        service.end(signal.SIGTERM)


@pytest.fixture(autouse=True)
def _no_test_leaves_a_service(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob("*.db-wal")), "a service still has a database open"
