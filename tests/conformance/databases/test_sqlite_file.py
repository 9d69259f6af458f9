"""SQLite only: several stores and processes on one file lose none of each other's writes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keystore import KeystoreError, StoreUnavailable, open_store
from rig.paths import PROJECT
from tests.conformance.links import sqlite_link
from tests.conformance.sealing.stored import OLD_KEY
from tests.conformance.worker_process import Worker, workers, write_one_by_one

pytestmark = pytest.mark.slow

OPEN_AND_CLOSE = "import sys; from keystore import StoreUnavailable, open_store; open_store(sys.argv[1]).close()"


def in_another_process(url: str) -> None:
    """Open and close the file in another process."""
    subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, url], cwd=PROJECT, check=True)


def test_an_acknowledged_write_waits_for_the_disk(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'keystore.db'}") as store:
        assert sqlite_link(store).rows("SELECT synchronous FROM pragma_synchronous", {}) == [(2,)], "2 is FULL"
        assert sqlite_link(store).rows("SELECT journal_mode FROM pragma_journal_mode", {}) == [("wal",)]


def test_processes_that_read_before_they_write_lose_nothing_to_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keystore.db'}"
    open_store(url).close()
    # A set of pre-keys first looks for rewritten ones. A transaction begun as a reader could not become a writer.
    writers = [
        Worker(write_one_by_one, url, None, company="bot", prefix=f"{n}", count=100, key_type="pre-key")
        for n in range(4)
    ]
    with workers(*writers):
        for writer in writers:
            writer.go()
        assert [writer.result() for writer in writers] == [100] * 4
    with open_store(url) as store:
        assert len(store.load("bot").keys["pre-key"]) == 400


def test_a_second_store_in_the_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keystore.db'}"
    with open_store(url) as first, open_store(url):
        first.set("1", {"session": {"before": b"1"}})
        in_another_process(url)
        first.set("1", {"session": {"after": b"2"}})
        with open_store(url) as fresh:
            assert fresh.load("1").keys == {"session": {"before": b"1", "after": b"2"}}


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_backup(path: Path) -> None:
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("VACUUM INTO ?", (str(backup),))
    backup.rename(path)


def delete_the_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


@pytest.mark.parametrize("harm", [delete, replace_by_a_backup, delete_the_log])
def test_no_write_to_a_file_that_is_gone_is_acknowledged(harm: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "keystore.db"
    with open_store(f"sqlite:///{path}") as store:
        store.set("1", {"session": {"a": b"A"}})
        harm(path)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                store.set("1", {"session": {"b": b"B"}})
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                store.probe_write()


def test_a_file_that_is_put_back_is_used_again(tmp_path: Path) -> None:
    path, aside = tmp_path / "keystore.db", tmp_path / "aside.db"
    with open_store(f"sqlite:///{path}") as store:
        path.rename(aside)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            store.load("1")
        aside.rename(path)
        store.set("1", {"session": {"a": b"A"}})


@pytest.mark.parametrize("backup", ["VACUUM INTO '{}'", ".backup {}"])
def test_a_backup_of_an_open_store_holds_every_acknowledged_write(backup: str, tmp_path: Path) -> None:
    path, copy = tmp_path / "keystore.db", tmp_path / "copy.db"
    with open_store(f"sqlite:///{path}") as store:
        store.set("1", {"session": {"a": b"A"}})
        with closing(sqlite3.connect(path)) as conn, closing(sqlite3.connect(copy)) as target:
            if backup.startswith("."):
                conn.backup(target)
            else:
                conn.execute(backup.format(copy))
        with open_store(f"sqlite:///{copy}") as restored:
            assert restored.load("1").keys == {"session": {"a": b"A"}}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handling of SIGINT, even if the tests were started with it ignored (`… &` in a script)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_a_write_waits_blocks_no_later_write(tmp_path: Path) -> None:
    path = tmp_path / "keystore.db"
    with open_store(f"sqlite:///{path}") as store:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            timers = [
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)),
                threading.Timer(0.6, other.execute, ("COMMIT",)),
            ]
            for timer in timers:
                timer.start()
            with pytest.raises(KeyboardInterrupt):
                store.set("1", {"session": {"interrupted": b"A"}})
            for timer in timers:
                timer.join()
        store.set("1", {"session": {"after": b"A"}})
        in_another_process(f"sqlite:///{path}")
        assert store.load("1").keys["session"]["after"] == b"A"


def test_what_was_deleted_or_replaced_is_no_longer_in_the_file(tmp_path: Path) -> None:
    old, used, new = (f"{word}-private-key".encode() * 20 for word in ("old", "used", "new"))
    with open_store(f"sqlite:///{tmp_path}/k.db") as store:
        store.set("1", {"session": {"a": old}, "pre-key": {str(n): used for n in range(40)}})
        store.set("1", {"session": {"a": new}, "pre-key": {str(n): None for n in range(40)}})
    stored = (tmp_path / "k.db").read_bytes()
    assert new in stored
    assert old not in stored
    assert used not in stored


@pytest.mark.parametrize("value", ["'text'", "7"])
@pytest.mark.parametrize("secret_keys", ["", OLD_KEY], ids=["plain", "sealed"])
def test_a_column_with_another_type_is_damage(tmp_path: Path, value: str, secret_keys: str) -> None:
    file = tmp_path / "keystore.db"
    with open_store(f"sqlite:///{file}", secret_keys=secret_keys) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"{}")
        with closing(sqlite3.connect(file)) as damaged, damaged:
            damaged.execute(f"UPDATE whatsapp_keys SET value = {value}")
        for read in (
            lambda: store.load("1"),
            lambda: store.get("1", "session", ["a"]),
            lambda: store.export_rows("1"),
            lambda: store.snapshot(lambda snapshot: snapshot.company("1")),
        ):
            with pytest.raises(KeystoreError, match="the file is damaged"):
                read()
        assert store.get_creds("1") == b"{}"
        store.set("1", {"session": {"a": b"A2"}})
        assert store.load("1").keys == {"session": {"a": b"A2"}}
