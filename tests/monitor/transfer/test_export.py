"""Exports to Baileys folders, and rules that hold for both formats: whole or not at all, never over other files."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import InvalidInput, Store, open_store
from keystore.records import AuthState
from monitor.transfer import archive_format, folder_format
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.transfer import StateFormat, export_state, import_state
from rig.baileys_state import real_creds, real_keys
from rig.paths import PROJECT
from tests.monitor.transfer.folders import contents, staging_folders, write_folder

FORMATS: dict[str, Callable[[Path], StateFormat]] = {"folder": BaileysFolder, "archive": ArchiveFile}


def test_the_real_state_is_exported_and_imported_exactly(store: Store, tmp_path: Path, real_folder: Path) -> None:
    store.set("1", real_keys(), real_creds())
    report = export_state(store, "1", BaileysFolder(tmp_path / "out"))
    assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
    assert contents(tmp_path / "out") == contents(real_folder)
    import_state(store, "2", BaileysFolder(tmp_path / "out"))
    assert store.load("2") == store.load("1") == AuthState(real_creds(), real_keys())


def test_only_the_owner_can_read_an_export(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}}, b'{"me":1}')
    umask = os.umask(0)
    try:
        export_state(store, "1", BaileysFolder(tmp_path / "out"))
        export_state(store, "1", ArchiveFile(tmp_path / "out.jsonl"))
    finally:
        os.umask(umask)
    paths = [tmp_path / "out", tmp_path / "out.jsonl", *(tmp_path / "out").iterdir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o700, 0o600, 0o600, 0o600]


def test_stored_buffers_of_any_form_are_exported_as_base64(store: Store, tmp_path: Path) -> None:
    store.set("1", {"identity-key": {"a.0": b'{"type":"Buffer","data":[1,2,3]}'}})
    export_state(store, "1", BaileysFolder(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"identity-key-a.0.json": b'{"type":"Buffer","data":"AQID"}'}


def test_keys_that_a_folder_cannot_hold_are_listed(store: Store, tmp_path: Path) -> None:
    store.set(
        "1",
        {
            "lid": {"mapping-1": b'"hunter2"'},
            "mine": {"1": b'"hunter2"'},
            "session": {"a:1.0": b'"hunter2"', "a-1.0": b"{}", "raw": b"hunter2\xff", "n" * 250: b"{}"},
        },
    )
    report = export_state(store, "1", BaileysFolder(tmp_path / "out"))
    reasons = dict(report.skipped)
    assert "repair" in reasons["lid mapping-1"]
    assert "archive" in reasons["mine 1"]
    assert "archive" in reasons["session a:1.0"]
    assert "UTF-8" in reasons["session raw"]
    assert "too long" in reasons[f"session {'n' * 250}"]
    assert (report.keys, report.verified, len(reasons)) == (1, 1, 5)
    assert contents(tmp_path / "out") == {"session-a-1.0.json": b"{}"}
    assert "hunter2" not in repr(report)


def test_an_export_overwrites_a_former_one_only_when_forced(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}}, b'{"me":1}')
    out = write_folder(tmp_path / "out", {"session": {"b": b'"former"'}}, b'{"me":0}')
    before = contents(out)
    with pytest.raises(InvalidInput, match="isn't empty"):
        export_state(store, "1", BaileysFolder(out))
    (out / "thesis.odt").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"1 entries that aren't Baileys' \('thesis.odt'"):
        export_state(store, "1", BaileysFolder(out), force=True)
    (out / "thesis.odt").unlink()
    assert contents(out) == before
    export_state(store, "1", BaileysFolder(out), force=True)
    assert contents(out) == {"creds.json": b'{"me":1}', "session-a.json": b"{}"}
    assert staging_folders(tmp_path) == []


def test_an_empty_folder_may_be_the_target(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    (tmp_path / "out").mkdir()
    export_state(store, "1", BaileysFolder(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"session-a.json": b"{}"}


def test_a_dry_run_writes_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    before = sorted(tmp_path.iterdir())
    assert export_state(store, "1", BaileysFolder(tmp_path / "out"), dry_run=True).keys == 1
    assert export_state(store, "1", ArchiveFile(tmp_path / "out.jsonl"), dry_run=True).keys == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_needs_a_state_and_a_possible_target(store: Store, tmp_path: Path) -> None:
    for form in FORMATS.values():
        with pytest.raises(InvalidInput, match="neither creds nor keys"):
            export_state(store, "1", form(tmp_path / "out"))
        store.set("2", {"session": {"a": b"{}"}})
        with pytest.raises(InvalidInput, match="doesn't exist"):
            export_state(store, "2", form(tmp_path / "no" / "out"))
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no folder"):
        export_state(store, "2", BaileysFolder(tmp_path / "file"), force=True)
    with pytest.raises(InvalidInput, match="is a folder"):
        export_state(store, "2", ArchiveFile(tmp_path), force=True)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize("form", FORMATS)
def test_a_failed_export_leaves_the_former_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    store.set("1", {"session": {"a": b'{"a":1}', "b": b"{}"}}, b'{"me":1}')
    module = folder_format if form == "folder" else archive_format
    target = tmp_path / "out"
    if form == "folder":
        write_folder(target, {"session": {"b": b'"former"'}}, None)
    else:
        target.write_bytes(b"former")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    def torn(path: Path, content: bytes) -> None:
        path.write_bytes(content[:-1])

    for write, complaint in ((full, "No space left"), (torn, "reads back differently")):
        monkeypatch.setattr(module, "write_private", write)
        with pytest.raises(InvalidInput, match=complaint):
            export_state(store, "1", FORMATS[form](target), force=True)
        assert staging_folders(tmp_path) == []
    assert (
        target.read_bytes() == b"former" if form == "archive" else contents(target) == {"session-b.json": b'"former"'}
    )


KILLED_EXPORT = """
import os, signal, sys
from pathlib import Path
from keystore import open_store
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.transfer import export_state

def kill(done, total):
    if done == total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

form, url, path = sys.argv[1:]
with open_store(url) as store:
    target = BaileysFolder(Path(path)) if form == "folder" else ArchiveFile(Path(path))
    export_state(store, "1", target, progress=kill)
"""


@pytest.mark.parametrize("form", FORMATS)
def test_the_next_export_clears_up_after_a_killed_one(tmp_path: Path, form: str) -> None:
    url, out = f"sqlite:///{tmp_path}/k.db", tmp_path / "out"
    with open_store(url) as store:
        store.set("1", real_keys(), real_creds())
        command = [sys.executable, "-c", KILLED_EXPORT, form, url, str(out)]
        assert subprocess.run(command, cwd=PROJECT, check=False, timeout=60).returncode == -signal.SIGKILL
        assert not out.exists()
        assert len(staging_folders(tmp_path)) == 1
        assert export_state(store, "1", FORMATS[form](out)).verified == 721
    assert staging_folders(tmp_path) == []


def test_a_named_pipe_of_a_stranger_does_not_hold_up_an_export(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'{"a":1}'}})
    pipe = tmp_path / ".auth.partial-x"
    os.mkfifo(pipe)
    assert export_state(store, "1", BaileysFolder(tmp_path / "auth")).verified == 1
    assert pipe.exists()


def test_an_export_at_work_is_not_cleared_away_by_another(store: Store, tmp_path: Path) -> None:
    store.set("1", real_keys(), real_creds())
    file_counts: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if done == total // 2:
            thread = threading.Thread(target=export_state, args=(store, "1", BaileysFolder(tmp_path / "out")))
            thread.start()
            thread.join()
            file_counts.append(len(contents(tmp_path / "out")))

    with pytest.raises(InvalidInput, match="can't be written"):
        export_state(store, "1", BaileysFolder(tmp_path / "out"), progress=meanwhile)
    assert file_counts == [722]
    assert len(contents(tmp_path / "out")) == 722
    assert staging_folders(tmp_path) == []
