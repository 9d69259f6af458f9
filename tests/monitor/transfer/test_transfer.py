"""Baileys folders and archives in and out of a real store: verified, whole or not at all, nothing newer overwritten."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import InvalidInput, Store, StoreUnavailable, open_store
from keystore.baileys import file_name
from keystore.ids import MAX_VALUE_BYTES
from keystore.records import AuthState, KeyRow, Keys
from keystore.ttl import DIARY, NEVER, Policy
from monitor.transfer import archive as archives
from monitor.transfer import folder as folders
from monitor.transfer.archive import export_archive, import_archive
from monitor.transfer.folder import export_folder, import_folder
from rig.fixtures.clock import START, Clock
from rig.paths import PROJECT
from rig.real_state import real_creds, real_keys

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty SQLite store at the diary's Day 0."""
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock) as opened:
        yield opened


@pytest.fixture
def real_folder(tmp_path: Path) -> Path:
    """The real state as `useMultiFileAuthState` leaves it."""
    return write_folder(tmp_path / "auth", real_keys(), real_creds())


def write_folder(folder: Path, keys: Mapping[str, Mapping[str, bytes]], creds: bytes | None) -> Path:
    folder.mkdir()
    if creds is not None:
        (folder / "creds.json").write_bytes(creds)
    for key_type, by_id in keys.items():
        for key_id, value in by_id.items():
            (folder / file_name(key_type, key_id)).write_bytes(value)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def hidden(folder: Path) -> list[str]:
    """What an export has left beside its target."""
    return [entry.name for entry in folder.iterdir() if ".partial-" in entry.name]


# Folders in.


def test_every_real_key_comes_in_exactly_and_is_verified(store: Store, real_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    report = import_folder(store, "company_1", real_folder, progress=lambda done, total: told.append((done, total)))
    assert store.load("1") == AuthState(real_creds(), real_keys())
    assert (report.company, report.database, report.source) == ("1", store.database, str(real_folder))
    assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
    assert report.by_type == {key_type: len(by_id) for key_type, by_id in sorted(real_keys().items())}
    assert (report.deleted_files, report.dry_run) == (0, False)
    assert told[-1] == (722, 722)
    assert len(contents(real_folder)) == 722


def test_imported_keys_get_the_policy_s_expiry(store: Store, real_folder: Path) -> None:
    import_folder(store, "1", real_folder)
    assert all(row.created_at == START and row.expires_at for row in store.export_rows("1"))


def test_buffers_written_without_the_replacer_come_in_as_base64(store: Store, tmp_path: Path) -> None:
    spoiled = b'{"private": {"type":"Buffer","data":[1,2,3]}, "public": {"buffer":true,"data":"BAU="}}'
    import_folder(store, "1", write_folder(tmp_path / "auth", {"pre-key": {"1": spoiled}}, b'{"me":1}'))
    assert store.get("1", "pre-key", ["1"]) == {
        "1": b'{"private":{"type":"Buffer","data":"AQID"},"public":{"type":"Buffer","data":"BAU="}}'
    }


def test_what_cannot_be_read_is_listed_and_the_rest_comes_in(store: Store, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "auth", {"pre-key": {"1": b'{"a":1}'}}, b'{"me":1}')
    (folder / "pre-key-2.json").write_bytes(b"")
    (folder / "pre-key-3.json").write_bytes(b'{"private":"hunter2')
    (folder / "pre-key-4.json").write_bytes(b'{"hunter2":"\xff"}')
    with (folder / "pre-key-5.json").open("wb") as file:
        file.truncate(MAX_VALUE_BYTES + 1)
    (folder / "pre-key-6\n.json").write_bytes(b"{}")
    (folder / "pre-key-7.json").mkdir()
    (folder / "pre-key-8.json").symlink_to(folder / "pre-key-1.json")
    (folder / "pre-key-9.json").write_bytes(b"null")
    os.mkfifo(folder / "session-1.0.json")
    (folder / "lid-123.json").write_bytes(b'"hunter2"')
    (folder / "notes.txt").write_bytes(b"hunter2")
    (folder / os.fsdecode(b"session-\xff.json")).write_bytes(b"{}")
    report = import_folder(store, "1", folder, delete_source=True)
    assert store.load("1") == AuthState(b'{"me":1}', {"pre-key": {"1": b'{"a":1}'}})
    assert (report.keys, report.verified, report.creds, report.deleted_files) == (1, 1, True, 2)
    reasons = dict(report.skipped)
    assert reasons["pre-key-2.json"] == "empty"
    assert "cut off" in reasons["pre-key-3.json"]
    assert "UTF-8" in reasons["pre-key-4.json"]
    assert "16 MiB" in reasons["pre-key-5.json"]
    assert "printable" in reasons["pre-key-6\\n.json"]
    assert "regular" in reasons["pre-key-7.json"]
    assert "regular" in reasons["pre-key-8.json"]
    assert "null" in reasons["pre-key-9.json"]
    assert "regular" in reasons["session-1.0.json"]
    assert "name" in reasons["lid-123.json"]
    assert "name" in reasons["notes.txt"]
    assert "printable" in reasons["session-\\udcff.json"]
    assert len(report.skipped) == len(list(folder.iterdir())) == 12
    assert "hunter2" not in repr(report)


@pytest.mark.parametrize("creds", [b"", b"{}", b"[]", b'{"noise', b"null"])
def test_creds_that_cannot_be_read_are_listed(store: Store, tmp_path: Path, creds: bytes) -> None:
    report = import_folder(store, "1", write_folder(tmp_path / "auth", {"pre-key": {"1": b"{}"}}, creds))
    assert (report.keys, report.creds, [name for name, _ in report.skipped]) == (1, False, ["creds.json"])
    assert store.load("1") == AuthState(None, {"pre-key": {"1": b"{}"}})


def test_source_files_go_once_they_are_safely_in_the_store(store: Store, real_folder: Path) -> None:
    report = import_folder(store, "1", real_folder, delete_source=True)
    assert report.deleted_files == 722
    assert contents(real_folder) == {}
    assert store.load("1") == AuthState(real_creds(), real_keys())


def test_no_file_goes_that_does_not_read_back(store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.set

    def write_wrong(company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        pre_keys = {**keys["pre-key"], "121": b"{}"}
        write(company_id, {**keys, "pre-key": pre_keys, "session": {}}, creds)

    monkeypatch.setattr(store, "set", write_wrong)
    report = import_folder(store, "1", real_folder, delete_source=True)
    assert (report.keys, report.verified, report.deleted_files) == (600, 600, 601)
    assert len(report.skipped) == 121
    left = contents(real_folder)
    assert len(left) == 121
    assert "pre-key-121.json" in left


def test_no_file_goes_when_the_write_fails(store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "set", fail)
    with pytest.raises(StoreUnavailable):
        import_folder(store, "1", real_folder, delete_source=True)
    assert len(contents(real_folder)) == 722


def test_a_file_that_a_bot_has_written_since_stays(
    store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.set
    session = real_folder / "session-79260000000.0.json"

    def write_meanwhile(company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        write(company_id, keys, creds)
        session.write_bytes(b'{"newer":1}')

    monkeypatch.setattr(store, "set", write_meanwhile)
    report = import_folder(store, "1", real_folder, delete_source=True)
    assert (report.keys, report.deleted_files) == (721, 721)
    assert contents(real_folder) == {session.name: b'{"newer":1}'}
    assert "changed since" in dict(report.skipped)[session.name]


def test_an_import_is_one_write(store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[tuple[int, bool]] = []
    write = store.set

    def count(company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        writes.append((sum(map(len, keys.values())), creds is not None))
        write(company_id, keys, creds)

    monkeypatch.setattr(store, "set", count)
    import_folder(store, "1", real_folder)
    assert writes == [(721, True)]


def test_a_dry_run_says_what_would_come_in_and_changes_nothing(store: Store, real_folder: Path) -> None:
    report = import_folder(store, "1", real_folder, dry_run=True, delete_source=True)
    assert (report.keys, report.verified, report.creds, report.deleted_files, report.dry_run) == (721, 0, True, 0, True)
    assert store.companies() == []
    assert len(contents(real_folder)) == 722


def test_a_company_that_has_moved_on_is_not_taken_back(store: Store, real_folder: Path) -> None:
    import_folder(store, "1", real_folder)
    store.set("1", {"session": {"79260000000.0": b'{"newer":1}'}})
    before = store.export_rows("1")
    for dry_run in (False, True):
        with pytest.raises(InvalidInput, match=r"1 already has 721 keys and creds in sqlite.*1 keys: .*--replace"):
            import_folder(store, "1", real_folder, dry_run=dry_run, delete_source=True)
    assert store.export_rows("1") == before
    assert len(contents(real_folder)) == 722


@pytest.mark.parametrize("change", ["other creds", "one more key"])
def test_whatever_the_company_has_besides_is_a_reason_to_refuse(store: Store, tmp_path: Path, change: str) -> None:
    store.set("1", {"pre-key": {"1": b"{}"}}, creds=b'{"me":1}')
    if change == "other creds":
        folder = write_folder(tmp_path / "auth", {"pre-key": {"1": b"{}"}}, b'{"me":2}')
    else:
        folder = write_folder(tmp_path / "auth", {"pre-key": {"2": b"{}"}}, b'{"me":1}')
    with pytest.raises(InvalidInput, match="already has 1 keys and creds"):
        import_folder(store, "1", folder)
    assert store.load("1") == AuthState(b'{"me":1}', {"pre-key": {"1": b"{}"}})


def test_an_import_that_was_stopped_before_deleting_can_be_repeated(
    store: Store, real_folder: Path, clock: Clock
) -> None:
    import_folder(store, "1", real_folder)
    (real_folder / "creds.json").unlink()
    (real_folder / "pre-key-121.json").unlink()
    before = store.export_rows("1")
    clock.advance(DAY)
    report = import_folder(store, "1", real_folder, delete_source=True)
    assert (report.verified, report.deleted_files, report.creds) == (720, 720, False)
    assert store.export_rows("1") == before


def test_replacing_leaves_the_company_with_what_the_folder_has(store: Store, tmp_path: Path) -> None:
    store.set(
        "1", {"session": {"a": b'"old"', "gone": b'"old"', "torn": b'"old"'}, "pre-key": {"1": b"1"}}, b'{"me":1}'
    )
    folder = write_folder(tmp_path / "auth", {"session": {"a": b'"new"', "torn": b'{"'}}, b'{"me":2}')
    report = import_folder(store, "1", folder, replace=True)
    assert (report.keys, report.verified, report.creds) == (1, 1, True)
    # What only a torn file could have replaced is not lost with it.
    assert store.load("1") == AuthState(b'{"me":2}', {"session": {"a": b'"new"', "torn": b'"old"'}})


def test_keys_without_creds_replace_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'"old"'}}, b'{"me":1}')
    folder = write_folder(tmp_path / "auth", {"session": {"a": b'"new"'}}, b'{"me"')
    with pytest.raises(InvalidInput, match="no readable creds"):
        import_folder(store, "1", folder, replace=True)
    assert store.load("1") == AuthState(b'{"me":1}', {"session": {"a": b'"old"'}})


def test_what_is_no_baileys_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="doesn't exist"):
        import_folder(store, "1", tmp_path / "nowhere")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no folder"):
        import_folder(store, "1", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no file of Baileys"):
        import_folder(store, "1", tmp_path / "empty")
    (tmp_path / "empty" / "package.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no file of Baileys"):
        import_folder(store, "1", tmp_path / "empty")
    with pytest.raises(InvalidInput, match="company_id"):
        import_folder(store, "no company", tmp_path / "empty")


# Folders out.


def test_the_real_state_goes_out_and_in_exactly(store: Store, tmp_path: Path, real_folder: Path) -> None:
    store.set("1", real_keys(), real_creds())
    report = export_folder(store, "1", tmp_path / "out")
    assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
    assert contents(tmp_path / "out") == contents(real_folder)
    import_folder(store, "2", tmp_path / "out")
    assert store.load("2") == store.load("1") == AuthState(real_creds(), real_keys())


def test_an_export_is_its_owner_s_alone(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}}, b'{"me":1}')
    umask = os.umask(0)
    try:
        export_folder(store, "1", tmp_path / "out")
        export_archive(store, "1", tmp_path / "out.jsonl")
    finally:
        os.umask(umask)
    paths = [tmp_path / "out", tmp_path / "out.jsonl", *(tmp_path / "out").iterdir()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o700, 0o600, 0o600, 0o600]


def test_buffers_go_out_as_base64_whatever_the_store_has(store: Store, tmp_path: Path) -> None:
    store.set("1", {"identity-key": {"a.0": b'{"type":"Buffer","data":[1,2,3]}'}})
    export_folder(store, "1", tmp_path / "out")
    assert contents(tmp_path / "out") == {"identity-key-a.0.json": b'{"type":"Buffer","data":"AQID"}'}


def test_what_a_folder_cannot_hold_is_listed(store: Store, tmp_path: Path) -> None:
    store.set(
        "1",
        {
            "lid": {"mapping-1": b'"hunter2"'},
            "mine": {"1": b'"hunter2"'},
            "session": {"a:1.0": b'"hunter2"', "a-1.0": b"{}", "raw": b"hunter2\xff", "n" * 250: b"{}"},
        },
    )
    report = export_folder(store, "1", tmp_path / "out")
    reasons = dict(report.skipped)
    assert "repair" in reasons["lid mapping-1"]
    assert "archive" in reasons["mine 1"]
    assert "archive" in reasons["session a:1.0"]
    assert "UTF-8" in reasons["session raw"]
    assert "too long" in reasons[f"session {'n' * 250}"]
    assert (report.keys, report.verified, len(reasons)) == (1, 1, 5)
    assert contents(tmp_path / "out") == {"session-a-1.0.json": b"{}"}
    assert "hunter2" not in repr(report)


def test_an_export_overwrites_nothing_unless_it_is_forced(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}}, b'{"me":1}')
    out = write_folder(tmp_path / "out", {"session": {"b": b'"former"'}}, b'{"me":0}')
    before = contents(out)
    with pytest.raises(InvalidInput, match="isn't empty"):
        export_folder(store, "1", out)
    (out / "thesis.odt").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"1 entries that aren't Baileys' \('thesis.odt'"):
        export_folder(store, "1", out, force=True)
    (out / "thesis.odt").unlink()
    assert contents(out) == before
    export_folder(store, "1", out, force=True)
    assert contents(out) == {"creds.json": b'{"me":1}', "session-a.json": b"{}"}
    assert hidden(tmp_path) == []


def test_an_empty_folder_may_be_the_target(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    (tmp_path / "out").mkdir()
    export_folder(store, "1", tmp_path / "out")
    assert contents(tmp_path / "out") == {"session-a.json": b"{}"}


def test_a_dry_export_writes_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    before = sorted(tmp_path.iterdir())
    assert export_folder(store, "1", tmp_path / "out", dry_run=True).keys == 1
    assert export_archive(store, "1", tmp_path / "out.jsonl", dry_run=True).keys == 1
    assert sorted(tmp_path.iterdir()) == before


def test_there_must_be_something_to_export_and_somewhere_to_put_it(store: Store, tmp_path: Path) -> None:
    for export in (export_folder, export_archive):
        with pytest.raises(InvalidInput, match="neither creds nor keys"):
            export(store, "1", tmp_path / "out")
        store.set("2", {"session": {"a": b"{}"}})
        with pytest.raises(InvalidInput, match="doesn't exist"):
            export(store, "2", tmp_path / "no" / "out")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no folder"):
        export_folder(store, "2", tmp_path / "file", force=True)
    with pytest.raises(InvalidInput, match="is a folder"):
        export_archive(store, "2", tmp_path, force=True)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_an_export_that_fails_leaves_what_was_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    store.set("1", {"session": {"a": b'{"a":1}', "b": b"{}"}}, b'{"me":1}')
    export, module = (export_folder, folders) if form == "folder" else (export_archive, archives)
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
            export(store, "1", target, force=True)
        assert hidden(tmp_path) == []
    assert (
        target.read_bytes() == b"former" if form == "archive" else contents(target) == {"session-b.json": b'"former"'}
    )


KILLED = """
import os, signal, sys
from keystore import open_store
from monitor.transfer.archive import export_archive
from monitor.transfer.folder import export_folder

def kill(done, total):
    if done == total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

form, url, target = sys.argv[1:]
with open_store(url) as store:
    {"folder": export_folder, "archive": export_archive}[form](store, "1", target, progress=kill)
"""


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_killed_export_leaves_no_half_and_the_next_one_clears_up(tmp_path: Path, form: str) -> None:
    url, out = f"sqlite:///{tmp_path}/k.db", tmp_path / "out"
    with open_store(url) as store:
        store.set("1", real_keys(), real_creds())
        command = [sys.executable, "-c", KILLED, form, url, str(out)]
        assert subprocess.run(command, cwd=PROJECT, check=False, timeout=60).returncode == -signal.SIGKILL
        assert not out.exists()
        assert len(hidden(tmp_path)) == 1
        if form == "folder":
            assert export_folder(store, "1", out).verified == 721
        else:
            assert export_archive(store, "1", out).verified == 721
    assert hidden(tmp_path) == []


def test_an_export_at_work_is_not_cleared_away_by_another(store: Store, tmp_path: Path) -> None:
    store.set("1", real_keys(), real_creds())
    seen: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if done == total // 2:
            thread = threading.Thread(target=export_folder, args=(store, "1", tmp_path / "out"))
            thread.start()
            thread.join()
            seen.append(len(contents(tmp_path / "out")))

    with pytest.raises(InvalidInput, match="can't be written"):
        export_folder(store, "1", tmp_path / "out", progress=meanwhile)
    assert seen == [722]
    assert len(contents(tmp_path / "out")) == 722
    assert hidden(tmp_path) == []


# Archives.


def varied(clock: Clock) -> list[KeyRow]:
    """Keys of every kind: JSON and not, expired, without expiry, never expiring, with odd names and times."""
    now = clock()
    values = [
        b"\x00\xff",
        b"plain",
        b'{"a": 1}',
        b'{"a":1e-7}',
        b'{"a":1,"a":2}',
        b"NaN",
        b'"\\ud83d"',
        b'"\xe2\x80\xa8"',
    ]
    rows = [KeyRow("any:type", f"{n}/x:é", value, now - DAY, now, now + DAY) for n, value in enumerate(values)]
    return [
        *rows,
        KeyRow("session", "1 past", b"1", now, now, now - DAY),
        KeyRow("session", "2 none", b"1", now, now, None),
        KeyRow("session", "3 never", b"1", now, now, None, never_expires=True),
        KeyRow("session", "4 big", b"\x01" * MAX_VALUE_BYTES, now, now, now + DAY),
    ]


def test_an_archive_keeps_every_byte_and_every_time(store: Store, tmp_path: Path, clock: Clock) -> None:
    store.restore_rows("1", varied(clock), b"\x00creds")
    rows = store.export_rows("1")
    report = export_archive(store, "1", tmp_path / "a.jsonl")
    assert (report.keys, report.verified, report.creds, report.expired, report.skipped) == (12, 12, True, 1, ())
    clock.advance(DAY / 2)
    report = import_archive(store, "2", tmp_path / "a.jsonl")
    assert (report.keys, report.verified, report.creds, report.expired, report.skipped) == (12, 12, True, 1, ())
    assert store.export_rows("2") == rows
    assert store.get_creds("2") == b"\x00creds"


def test_the_real_state_goes_through_an_archive_on_both_databases(
    tmp_path: Path, clock: Clock, migrated_postgres_url: str
) -> None:
    policy = Policy({**DIARY.by_type, "identity-key": NEVER})
    with (
        open_store(f"sqlite:///{tmp_path}/k.db", clock=clock, policy=policy) as here,
        open_store(migrated_postgres_url, clock=clock) as there,
    ):
        for key_type, by_id in real_keys().items():
            clock.advance(timedelta(minutes=7, microseconds=13))
            here.set("1", {key_type: by_id}, creds=real_creds())
        export_archive(here, "1", tmp_path / "a.jsonl")
        report = import_archive(there, None, tmp_path / "a.jsonl")
        assert (report.company, report.database, report.verified) == ("1", there.database, 721)
        assert there.export_rows("1") == here.export_rows("1")
        assert there.load("1") == here.load("1")
        export_folder(there, "1", tmp_path / "out")
        assert import_folder(there, "2", tmp_path / "out", delete_source=True).deleted_files == 722
        assert there.load("2") == here.load("1")
        export_archive(there, "1", tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes().splitlines()[1:] == (tmp_path / "b.jsonl").read_bytes().splitlines()[1:]


def test_json_values_can_be_read_in_an_archive(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'{"x":[1,"\xc3\xa9"]}'}}, b'{"me":1}')
    export_archive(store, "1", tmp_path / "a.jsonl")
    header, creds, key = map(json.loads, (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines())
    assert header["format"] == "signal-keystore-archive"
    assert (header["version"], header["company"], header["creds"], header["keys"]) == (1, "1", True, 1)
    assert creds == {"creds": {"me": 1}}
    assert (key["type"], key["id"], key["value"]) == ("session", "a", {"x": [1, "é"]})
    assert key["created_at"] == key["updated_at"] == START.isoformat()


def test_an_archive_with_broken_lines_gives_the_rest(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": dict.fromkeys("abcdefgh", b'"hunter2"')}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_archive(store, "1", path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:40] + b"\n"
    lines[3] = lines[3].replace(b'"value"', b'"value_base64"')
    lines[4] = lines[4].replace(b"T", b"hunter2")
    lines[5] = lines[5].replace(b'"id":"d"', b'"id":"\\n"')
    lines[6] = b"[]\n"
    lines[9] = lines[9][:-1]
    path.write_bytes(b"".join(lines))
    report = import_archive(store, "2", path)
    assert store.load("2") == AuthState(b'{"me":1}', {"session": {"f": b'"hunter2"', "g": b'"hunter2"'}})
    assert (report.keys, report.verified, report.creds) == (2, 2, True)
    assert [name for name, _ in report.skipped] == [f"line {n}" for n in (3, 4, 5, 6, 7, 10)] + ["archive"]
    assert "2 of its 8 keys" in dict(report.skipped)["archive"]
    assert "hunter2" not in repr(report)


def test_an_archive_cut_between_lines_is_noticed(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}", "b": b"{}"}}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_archive(store, "1", path)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    report = import_archive(store, "2", path)
    assert (report.keys, report.creds) == (0, False)
    assert [name for name, _ in report.skipped] == ["creds", "archive"]


def test_an_archive_takes_no_company_back_either(store: Store, tmp_path: Path, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"1", "b": b"1"}}, b'{"me":1}')
    rows = store.export_rows("1")
    path = tmp_path / "a.jsonl"
    export_archive(store, "1", path)
    clock.advance(DAY)
    assert import_archive(store, "1", path).verified == 2
    assert store.export_rows("1") == rows
    store.set("1", {"session": {"a": b"2", "c": b"2"}})
    before = store.export_rows("1")
    with pytest.raises(InvalidInput, match=r"already has 3 keys and creds.*2 keys: "):
        import_archive(store, "1", path)
    assert store.export_rows("1") == before
    report = import_archive(store, "1", path, dry_run=True, replace=True)
    assert (report.keys, store.export_rows("1") == before) == (2, True)
    import_archive(store, "1", path, replace=True)
    assert store.export_rows("1") == rows


def test_replacing_from_a_damaged_archive_removes_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"1", "b": b"1"}}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_archive(store, "1", path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    store.set("1", {"session": {"a": b"2", "b": b"2"}})
    import_archive(store, "1", path, replace=True)
    assert store.load("1").keys == {"session": {"a": b"1", "b": b"2"}}


def test_what_is_no_archive_is_refused_in_one_clear_line(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"", b"hunter2", b"{}", b"[1]", b'{"format":"hunter2"}', b"\xff" * 100, b"[" * 100_000):
        path.write_bytes(text)
        with pytest.raises(InvalidInput, match="neither an archive that `export` wrote nor") as refused:
            import_archive(store, "1", path)
        assert "hunter2" not in str(refused.value)
    path.write_text('{"format":"signal-keystore-archive","version":2}', encoding="utf-8")
    with pytest.raises(InvalidInput, match="another version"):
        import_archive(store, "1", path)
    path.write_text('{"format":"signal-keystore-archive","version":1}', encoding="utf-8")
    with pytest.raises(InvalidInput, match="broken first line"):
        import_archive(store, "1", path)
    with pytest.raises(InvalidInput, match="doesn't exist"):
        import_archive(store, "1", tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="Is a directory"):
        import_archive(store, "1", tmp_path)


def test_an_archive_overwrites_no_file_unless_it_is_forced(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    path = tmp_path / "a.jsonl"
    path.write_text("former", encoding="utf-8")
    with pytest.raises(InvalidInput, match="exists"):
        export_archive(store, "1", path)
    assert path.read_text(encoding="utf-8") == "former"
    export_archive(store, "1", path, force=True)
    assert import_archive(store, "2", path).verified == 1


def test_an_archive_is_of_one_moment_or_not_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("1", {"pre-key": {"1": b"{}"}}, b'{"next":2}')
    export_rows, writes = store.export_rows, iter(range(2, 100))

    def after_a_burst(company_id: str) -> list[KeyRow]:
        """The bot writes between the two reads, as often as `busy` says."""
        if next(writes) < busy:
            number = len(store.load("1").keys["pre-key"]) + 1
            store.set("1", {"pre-key": {str(number): b"{}"}}, b'{"next":%d}' % (number + 1))
        return export_rows(company_id)

    monkeypatch.setattr(store, "export_rows", after_a_burst)
    busy = 4
    export_archive(store, "1", tmp_path / "a.jsonl")
    import_archive(store, "2", tmp_path / "a.jsonl")
    assert store.load("2").creds == b'{"next":4}'
    assert len(store.load("2").keys["pre-key"]) == 3
    busy = 100
    with pytest.raises(StoreUnavailable, match="stop its bot"):
        export_archive(store, "1", tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


def test_restored_rows_that_read_back_with_other_times_are_not_verified(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("1", {"session": {"a": b"{}", "b": b"{}"}})
    export_archive(store, "1", tmp_path / "a.jsonl")
    export_rows = store.export_rows

    def later(company_id: str) -> list[KeyRow]:
        first, second = export_rows(company_id)
        return [replace(first, expires_at=None), second]

    monkeypatch.setattr(store, "export_rows", later)
    report = import_archive(store, "2", tmp_path / "a.jsonl")
    assert (report.keys, report.verified, [name for name, _ in report.skipped]) == (1, 1, ["session a"])
