"""Imports of Baileys folders into a real store: verified, atomic, and never over newer keys."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import InvalidInput, Store, StoreUnavailable
from keystore.ids import MAX_VALUE_BYTES
from keystore.records import AuthState, Keys
from keystore.ttl import expires_at
from keystore.values.fitting import JSON_IN_A_STRING, OTHER_BUFFER
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.transfer import import_state
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import START, Clock
from tests.keystore.value_forms import encoded
from tests.monitor.transfer.folders import contents, other_creds, value, write_folder

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
    for row in store.export_rows("1"):
        assert (row.created_at, row.expires_at) == (START, expires_at(store.policy, row.key_type, START))


def test_buffers_written_without_the_replacer_become_base64(store: Store, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "auth", {"pre-key": {"1": encoded(value("pre-key"), "array")}}, real_creds())
    report = import_state(store, "1", BaileysFolder(folder))
    assert store.get("1", "pre-key", ["1"]) == {"1": value("pre-key")}
    assert report.unwrapped == {OTHER_BUFFER: 1}


@pytest.mark.parametrize("form", ["$binary", "$binary, old", "bare base64"])
@pytest.mark.parametrize("times", [0, 1])
def test_a_folder_made_from_another_adapters_state_is_unwrapped(
    store: Store, tmp_path: Path, form: str, times: int
) -> None:
    keys = {
        key_type: {key_id: encoded(content, form, times=times) for key_id, content in by_id.items()}
        for key_type, by_id in real_keys().items()
    }
    folder = write_folder(tmp_path / "auth", keys, encoded(real_creds(), form, times=2 * times))
    report = import_state(store, "1", BaileysFolder(folder), delete_source=True)
    assert (report.keys, report.verified, report.creds, report.skipped) == (721, 721, True, ())
    assert store.load("1") == AuthState(real_creds(), real_keys())
    assert report.unwrapped.get(JSON_IN_A_STRING, 0) == 722 * times
    assert report.deleted_files == 722


def test_a_value_of_another_shape_is_refused_in_words(store: Store, tmp_path: Path) -> None:
    keys = {"session": {"79.0": b'"hunter2"'}, "identity-key": {"79.0": value("identity-key")}}
    folder = write_folder(tmp_path / "auth", keys, real_creds())
    refusal = "session-79.0.json: expected an object with _sessions, or a Buffer; there is a text .7 characters"
    with pytest.raises(InvalidInput, match=refusal) as refused:
        import_state(store, "1", BaileysFolder(folder), delete_source=True)
    assert "hunter2" not in str(refused.value)
    assert store.companies() == []
    report = import_state(store, "1", BaileysFolder(folder), partial=True, delete_source=True)
    assert (report.keys, report.partial, report.deleted_files) == (1, True, 0)
    assert "not all" in report.source_stays


def test_unreadable_files_are_listed_and_only_a_partial_import_takes_the_rest(store: Store, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "auth", {"pre-key": {"1": value("pre-key")}}, real_creds())
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
    before = contents_of_files(folder)
    with pytest.raises(InvalidInput, match=r"isn't whole, so nothing was imported: pre-key-2.json: empty;.*--partial"):
        import_state(store, "1", BaileysFolder(folder), delete_source=True)
    assert (store.companies(), contents_of_files(folder)) == ([], before)
    assert import_state(store, "1", BaileysFolder(folder), dry_run=True).partial
    report = import_state(store, "1", BaileysFolder(folder), partial=True, delete_source=True)
    assert store.load("1") == AuthState(real_creds(), {"pre-key": {"1": value("pre-key")}})
    assert (report.keys, report.verified, report.creds, report.deleted_files) == (1, 1, True, 0)
    assert contents_of_files(folder) == before
    reasons = dict(report.skipped)
    assert reasons["pre-key-2.json"] == "empty"
    assert "cut off" in reasons["pre-key-3.json"]
    assert "UTF-8" in reasons["pre-key-4.json"]
    assert "16 MiB" in reasons["pre-key-5.json"]
    assert "printable" in reasons["pre-key-6\\n.json"]
    assert "regular" in reasons["pre-key-7.json"]
    assert "regular" in reasons["pre-key-8.json"]
    assert "regular" in reasons["session-1.0.json"]
    assert "printable" in reasons["session-\\udcff.json"]
    assert len(report.skipped) == 9
    ignored = dict(report.ignored)
    assert "null" in ignored["pre-key-9.json"]
    assert "name" in ignored["lid-123.json"]
    assert "name" in ignored["notes.txt"]
    assert len(report.ignored) == 3
    assert "hunter2" not in repr(report)


def contents_of_files(folder: Path) -> dict[str, bytes]:
    """The bytes of each regular file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.is_symlink()}


def test_copies_are_no_keys_and_are_named(store: Store, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "auth", {"pre-key": {"1": value("pre-key")}}, real_creds())
    copies = ["creds (1).json", "creds.json.bak", "pre-key-1 - Copy.json", "pre-key-1.json~", "pre-key-1.json.77.tmp"]
    copies += ["pre-key-1.sync-conflict-20260101-120000-ABCDEF7.json", "creds.conflict.json"]
    for name in copies:
        (folder / name).write_bytes(value("pre-key", 1))
    report = import_state(store, "1", BaileysFolder(folder))
    assert store.load("1") == AuthState(real_creds(), {"pre-key": {"1": value("pre-key")}})
    assert sorted(name for name, _ in report.ignored) == sorted(copies)
    assert all("a copy of a file that is there" in reason for _, reason in report.ignored)
    (folder / "pre-key-1.json").unlink()
    with pytest.raises(InvalidInput, match=r"isn't there; if it is the right one, rename it \(pre-key-1.json\)"):
        import_state(store, "2", BaileysFolder(folder))


@pytest.mark.parametrize("creds", [b"", b"{}", b"[]", b'{"noise', b"null"])
def test_unreadable_creds_are_listed(store: Store, tmp_path: Path, creds: bytes) -> None:
    folder = BaileysFolder(write_folder(tmp_path / "auth", {"pre-key": {"1": value("pre-key")}}, creds))
    with pytest.raises(InvalidInput, match=r"creds.json: .* No bot can connect without its creds"):
        import_state(store, "1", folder)
    report = import_state(store, "1", folder, partial=True)
    assert (report.keys, report.creds, [name for name, _ in report.skipped]) == (1, False, ["creds.json"])
    assert store.load("1") == AuthState(None, {"pre-key": {"1": value("pre-key")}})


def test_carrying_on_after_torn_creds_destroys_nothing(store: Store, real_folder: Path) -> None:
    """A bot died while it wrote creds.json; the whole file is still there as a copy."""
    (real_folder / "creds.json").rename(real_folder / "creds.json.bak")
    (real_folder / "creds.json").write_bytes(b"")
    folder = BaileysFolder(real_folder)
    with pytest.raises(
        InvalidInput, match=r"creds.json: empty\. .*: creds.json.bak may hold them, under the name creds"
    ):
        import_state(store, "1", folder, delete_source=True)
    assert import_state(store, "1", folder, partial=True, delete_source=True).deleted_files == 0
    assert len(contents(real_folder)) == 723
    creds = real_folder.with_name("creds")
    creds.mkdir()
    (real_folder / "creds.json.bak").rename(creds / "creds.json")
    with pytest.raises(
        InvalidInput, match=r"would delete the 721 keys .* without --replace they are added to the keys"
    ):
        import_state(store, "1", BaileysFolder(creds), replace=True)
    report = import_state(store, "1", BaileysFolder(creds))
    assert (report.keys, report.creds, report.removed) == (0, True, 0)
    assert store.load("1") == AuthState(real_creds(), real_keys())
    with pytest.raises(InvalidInput, match="creds and no keys: replacing would delete the 721 keys"):
        import_state(store, "1", BaileysFolder(creds), replace=True)


def test_keys_without_creds_anywhere_keep_their_files(store: Store, real_folder: Path) -> None:
    (real_folder / "creds.json").unlink()
    report = import_state(store, "1", BaileysFolder(real_folder), delete_source=True)
    assert (report.keys, report.deleted_files, report.creds_missing) == (721, 0, True)
    assert "has no creds" in report.source_stays
    assert len(contents(real_folder)) == 721


def test_keys_are_added_to_creds_that_came_alone(store: Store, real_folder: Path) -> None:
    store.set("1", {}, real_creds())
    (real_folder / "creds.json").unlink()
    report = import_state(store, "1", BaileysFolder(real_folder))
    assert (report.creds, report.creds_missing) == (False, False)
    assert store.load("1") == AuthState(real_creds(), real_keys())


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
    pre_key = value("pre-key")
    store.set("1", {"pre-key": {"1": pre_key}}, creds=real_creds())
    if change == "other creds":
        folder = write_folder(tmp_path / "auth", {"pre-key": {"1": pre_key}}, other_creds())
    else:
        folder = write_folder(tmp_path / "auth", {"pre-key": {"2": pre_key}}, real_creds())
    with pytest.raises(InvalidInput, match="already has 1 keys and creds"):
        import_state(store, "1", BaileysFolder(folder))
    assert store.load("1") == AuthState(real_creds(), {"pre-key": {"1": pre_key}})


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
    old, new = value("session"), value("session", 1)
    store.set("1", {"session": {"a": old, "gone": old, "torn": old}, "pre-key": {"1": b"1"}}, real_creds())
    folder = write_folder(tmp_path / "auth", {"session": {"a": new, "torn": b'{"'}}, other_creds())
    report = import_state(store, "1", BaileysFolder(folder), replace=True, partial=True, dry_run=True)
    assert (report.removed, store.load("1").total) == (2, 4)
    report = import_state(store, "1", BaileysFolder(folder), replace=True, partial=True)
    assert (report.keys, report.verified, report.creds, report.removed) == (1, 1, True, 2)
    # A torn file doesn't delete the key that it may have held.
    assert store.load("1") == AuthState(other_creds(), {"session": {"a": new, "torn": old}})


def test_keys_without_creds_replace_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": value("session")}}, real_creds())
    folder = write_folder(tmp_path / "auth", {"session": {"a": value("session", 1)}}, b'{"me"')
    with pytest.raises(InvalidInput, match="no readable creds"):
        import_state(store, "1", BaileysFolder(folder), replace=True, partial=True)
    assert store.load("1") == AuthState(real_creds(), {"session": {"a": value("session")}})


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
