"""Imports of Baileys folders into a real store: verified, atomic, and never over newer keys."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import InvalidInput, Store, StoreUnavailable
from keystore.ids import MAX_VALUE_BYTES
from keystore.records import AuthState, Keys
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.transfer import import_state
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import START, Clock
from tests.monitor.transfer.folders import contents, write_folder

DAY = timedelta(days=1)


def test_every_real_key_is_imported_exactly_and_verified(store: Store, real_folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = import_state(
        store, "company_1", BaileysFolder(real_folder), progress=lambda done, total: steps.append((done, total))
    )
    assert store.load("1") == AuthState(real_creds(), real_keys())
    assert (report.company, report.database, report.source) == ("1", store.database, str(real_folder))
    assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
    assert report.by_type == {key_type: len(by_id) for key_type, by_id in sorted(real_keys().items())}
    assert (report.deleted_files, report.dry_run) == (0, False)
    assert steps[-1] == (722, 722)
    assert len(contents(real_folder)) == 722


def test_imported_keys_get_the_policys_expiry(store: Store, real_folder: Path) -> None:
    import_state(store, "1", BaileysFolder(real_folder))
    assert all(row.created_at == START and row.expires_at for row in store.export_rows("1"))


def test_buffers_written_without_the_replacer_become_base64(store: Store, tmp_path: Path) -> None:
    spoiled = b'{"private": {"type":"Buffer","data":[1,2,3]}, "public": {"buffer":true,"data":"BAU="}}'
    import_state(store, "1", BaileysFolder(write_folder(tmp_path / "auth", {"pre-key": {"1": spoiled}}, b'{"me":1}')))
    assert store.get("1", "pre-key", ["1"]) == {
        "1": b'{"private":{"type":"Buffer","data":"AQID"},"public":{"type":"Buffer","data":"BAU="}}'
    }


def test_unreadable_files_are_listed_and_the_rest_is_imported(store: Store, tmp_path: Path) -> None:
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
    report = import_state(store, "1", BaileysFolder(folder), delete_source=True)
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
def test_unreadable_creds_are_listed(store: Store, tmp_path: Path, creds: bytes) -> None:
    report = import_state(store, "1", BaileysFolder(write_folder(tmp_path / "auth", {"pre-key": {"1": b"{}"}}, creds)))
    assert (report.keys, report.creds, [name for name, _ in report.skipped]) == (1, False, ["creds.json"])
    assert store.load("1") == AuthState(None, {"pre-key": {"1": b"{}"}})


def test_source_files_are_deleted_once_they_are_verified(store: Store, real_folder: Path) -> None:
    report = import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
    assert report.deleted_files == 722
    assert contents(real_folder) == {}
    assert store.load("1") == AuthState(real_creds(), real_keys())


def test_a_file_that_does_not_read_back_is_not_deleted(
    store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.set

    def write_wrong(company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        pre_keys = {**keys["pre-key"], "121": b"{}"}
        write(company_id, {**keys, "pre-key": pre_keys, "session": {}}, creds)

    monkeypatch.setattr(store, "set", write_wrong)
    report = import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
    assert (report.keys, report.verified, report.deleted_files) == (600, 600, 601)
    assert len(report.skipped) == 121
    left = contents(real_folder)
    assert len(left) == 121
    assert "pre-key-121.json" in left


def test_no_file_is_deleted_if_the_write_fails(
    store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "set", fail)
    with pytest.raises(StoreUnavailable):
        import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
    assert len(contents(real_folder)) == 722


def test_a_file_that_changed_since_it_was_read_is_not_deleted(
    store: Store, real_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.set
    session = real_folder / "session-79260000000.0.json"

    def write_meanwhile(company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        write(company_id, keys, creds)
        session.write_bytes(b'{"newer":1}')

    monkeypatch.setattr(store, "set", write_meanwhile)
    report = import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
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
    import_state(store, "1", BaileysFolder(real_folder))
    assert writes == [(721, True)]


def test_a_dry_run_reports_the_import_and_changes_nothing(store: Store, real_folder: Path) -> None:
    report = import_state(store, "1", BaileysFolder(real_folder), dry_run=True, delete_source=True)
    assert (report.keys, report.verified, report.creds, report.deleted_files, report.dry_run) == (721, 0, True, 0, True)
    assert store.companies() == []
    assert len(contents(real_folder)) == 722


def test_a_company_that_has_moved_on_is_not_taken_back_in_time(store: Store, real_folder: Path) -> None:
    import_state(store, "1", BaileysFolder(real_folder))
    store.set("1", {"session": {"79260000000.0": b'{"newer":1}'}})
    before = store.export_rows("1")
    for dry_run in (False, True):
        with pytest.raises(InvalidInput, match=r"1 already has 721 keys and creds in sqlite.*1 keys: .*--replace"):
            import_state(store, "1", BaileysFolder(real_folder), dry_run=dry_run, delete_source=True)
    assert store.export_rows("1") == before
    assert len(contents(real_folder)) == 722


@pytest.mark.parametrize("change", ["other creds", "one more key"])
def test_an_import_over_other_creds_or_keys_is_refused(store: Store, tmp_path: Path, change: str) -> None:
    store.set("1", {"pre-key": {"1": b"{}"}}, creds=b'{"me":1}')
    if change == "other creds":
        folder = write_folder(tmp_path / "auth", {"pre-key": {"1": b"{}"}}, b'{"me":2}')
    else:
        folder = write_folder(tmp_path / "auth", {"pre-key": {"2": b"{}"}}, b'{"me":1}')
    with pytest.raises(InvalidInput, match="already has 1 keys and creds"):
        import_state(store, "1", BaileysFolder(folder))
    assert store.load("1") == AuthState(b'{"me":1}', {"pre-key": {"1": b"{}"}})


def test_an_import_stopped_before_deleting_can_be_repeated(store: Store, real_folder: Path, clock: Clock) -> None:
    import_state(store, "1", BaileysFolder(real_folder))
    (real_folder / "creds.json").unlink()
    (real_folder / "pre-key-121.json").unlink()
    before = store.export_rows("1")
    clock.advance(DAY)
    report = import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
    assert (report.verified, report.deleted_files, report.creds) == (720, 720, False)
    assert store.export_rows("1") == before


def test_replacing_leaves_the_company_with_the_folders_state(store: Store, tmp_path: Path) -> None:
    store.set(
        "1", {"session": {"a": b'"old"', "gone": b'"old"', "torn": b'"old"'}, "pre-key": {"1": b"1"}}, b'{"me":1}'
    )
    folder = write_folder(tmp_path / "auth", {"session": {"a": b'"new"', "torn": b'{"'}}, b'{"me":2}')
    report = import_state(store, "1", BaileysFolder(folder), replace=True)
    assert (report.keys, report.verified, report.creds) == (1, 1, True)
    # A torn file doesn't delete the key that it may have held.
    assert store.load("1") == AuthState(b'{"me":2}', {"session": {"a": b'"new"', "torn": b'"old"'}})


def test_keys_without_creds_replace_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'"old"'}}, b'{"me":1}')
    folder = write_folder(tmp_path / "auth", {"session": {"a": b'"new"'}}, b'{"me"')
    with pytest.raises(InvalidInput, match="no readable creds"):
        import_state(store, "1", BaileysFolder(folder), replace=True)
    assert store.load("1") == AuthState(b'{"me":1}', {"session": {"a": b'"old"'}})


def test_a_path_that_is_no_baileys_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="doesn't exist"):
        import_state(store, "1", BaileysFolder(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("text", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no folder"):
        import_state(store, "1", BaileysFolder(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no file of Baileys"):
        import_state(store, "1", BaileysFolder(tmp_path / "empty"))
    (tmp_path / "empty" / "package.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInput, match="no file of Baileys"):
        import_state(store, "1", BaileysFolder(tmp_path / "empty"))
    with pytest.raises(InvalidInput, match="company_id"):
        import_state(store, "no company", BaileysFolder(tmp_path / "empty"))
