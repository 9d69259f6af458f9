"""Archives of a real store: every byte and time survives, and damaged ones give the rest."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keystore import InvalidInput, LeaseLost, Store, StoreUnavailable, open_store
from keystore.ids import MAX_VALUE_BYTES
from keystore.records import AuthState, KeyRow
from keystore.ttl import DIARY, NEVER, Policy
from monitor.transfer.archive_format import ArchiveFile
from monitor.transfer.folder_format import BaileysFolder
from monitor.transfer.transfer import export_state, import_state
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import START, Clock

DAY = timedelta(days=1)


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
    report = export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
    assert (report.keys, report.verified, report.creds, report.expired, report.skipped) == (12, 12, True, 1, ())
    clock.advance(DAY / 2)
    report = import_state(store, "2", ArchiveFile(tmp_path / "a.jsonl"))
    assert (report.keys, report.verified, report.creds, report.expired, report.skipped) == (12, 12, True, 1, ())
    assert store.export_rows("2") == rows
    assert store.get_creds("2") == b"\x00creds"


def test_an_archive_carries_the_real_state_between_databases(
    tmp_path: Path, clock: Clock, migrated_postgres_url: str
) -> None:
    policy = Policy({**DIARY.by_type, "identity-key": NEVER})
    with (
        open_store(f"sqlite:///{tmp_path}/k.db", clock=clock, policy=policy) as here,
        open_store(migrated_postgres_url, clock=clock) as elsewhere,
    ):
        for key_type, by_id in real_keys().items():
            clock.advance(timedelta(minutes=7, microseconds=13))
            here.set("1", {key_type: by_id}, creds=real_creds())
        export_state(here, "1", ArchiveFile(tmp_path / "a.jsonl"))
        report = import_state(elsewhere, None, ArchiveFile(tmp_path / "a.jsonl"))
        assert (report.company, report.database, report.verified) == ("1", elsewhere.database, 721)
        assert elsewhere.export_rows("1") == here.export_rows("1")
        assert elsewhere.load("1") == here.load("1")
        export_state(elsewhere, "1", BaileysFolder(tmp_path / "out"))
        assert import_state(elsewhere, "2", BaileysFolder(tmp_path / "out"), delete_source=True).deleted_files == 722
        assert elsewhere.load("2") == here.load("1")
        export_state(elsewhere, "1", ArchiveFile(tmp_path / "b.jsonl"))
    assert (tmp_path / "a.jsonl").read_bytes().splitlines()[1:] == (tmp_path / "b.jsonl").read_bytes().splitlines()[1:]


def test_json_values_are_readable_in_an_archive(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'{"x":[1,"\xc3\xa9"]}'}}, b'{"me":1}')
    export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
    header, creds, key = map(json.loads, (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines())
    assert header["format"] == "signal-keystore-archive"
    assert (header["version"], header["company"], header["creds"], header["keys"]) == (1, "1", True, 1)
    assert creds == {"creds": {"me": 1}}
    assert (key["type"], key["id"], key["value"]) == ("session", "a", {"x": [1, "é"]})
    assert key["created_at"] == key["updated_at"] == START.isoformat()


def test_broken_lines_are_listed_and_the_rest_is_imported(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": dict.fromkeys("abcdefgh", b'"hunter2"')}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:40] + b"\n"
    lines[3] = lines[3].replace(b'"value"', b'"value_base64"')
    lines[4] = lines[4].replace(b"T", b"hunter2")
    lines[5] = lines[5].replace(b'"id":"d"', b'"id":"\\n"')
    lines[6] = b"[]\n"
    lines[9] = lines[9][:-1]
    path.write_bytes(b"".join(lines))
    with pytest.raises(InvalidInput, match=r"isn't whole, so nothing was imported: line 3: .*; and 4 more"):
        import_state(store, "2", ArchiveFile(path))
    assert store.companies() == ["1"]
    report = import_state(store, "2", ArchiveFile(path), partial=True)
    assert store.load("2") == AuthState(b'{"me":1}', {"session": {"f": b'"hunter2"', "g": b'"hunter2"'}})
    assert (report.keys, report.verified, report.creds) == (2, 2, True)
    assert [name for name, _ in report.skipped] == [f"line {n}" for n in (3, 4, 5, 6, 7, 10)] + ["archive"]
    assert "2 of its 8 keys" in dict(report.skipped)["archive"]
    assert "hunter2" not in repr(report)


def test_an_archive_cut_between_lines_is_noticed(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}", "b": b"{}"}}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(InvalidInput, match="isn't whole"):
        import_state(store, "2", ArchiveFile(path))
    report = import_state(store, "2", ArchiveFile(path), partial=True)
    assert (report.keys, report.creds, report.partial) == (0, False, True)
    assert [name for name, _ in report.skipped] == ["creds", "archive"]


def test_an_archive_import_takes_no_company_back_in_time(store: Store, tmp_path: Path, clock: Clock) -> None:
    store.set("1", {"session": {"a": b"1", "b": b"1"}}, b'{"me":1}')
    rows = store.export_rows("1")
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    clock.advance(DAY)
    assert import_state(store, "1", ArchiveFile(path)).verified == 2
    assert store.export_rows("1") == rows
    store.set("1", {"session": {"a": b"2", "c": b"2"}})
    before = store.export_rows("1")
    with pytest.raises(InvalidInput, match=r"already has 3 keys and creds.*2 keys: "):
        import_state(store, "1", ArchiveFile(path))
    assert store.export_rows("1") == before
    report = import_state(store, "1", ArchiveFile(path), dry_run=True, replace=True)
    assert (report.keys, store.export_rows("1") == before) == (2, True)
    import_state(store, "1", ArchiveFile(path), replace=True)
    assert store.export_rows("1") == rows


def test_replacing_from_a_damaged_archive_removes_nothing(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"1", "b": b"1"}}, b'{"me":1}')
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    store.set("1", {"session": {"a": b"2", "b": b"2"}})
    with pytest.raises(InvalidInput, match="isn't whole"):
        import_state(store, "1", ArchiveFile(path), replace=True)
    assert store.load("1").keys == {"session": {"a": b"2", "b": b"2"}}
    import_state(store, "1", ArchiveFile(path), replace=True, partial=True)
    assert store.load("1").keys == {"session": {"a": b"1", "b": b"2"}}


def test_a_file_that_is_no_archive_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in (b"", b"hunter2", b"{}", b"[1]", b'{"format":"hunter2"}', b"\xff" * 100, b"[" * 100_000):
        path.write_bytes(text)
        with pytest.raises(InvalidInput, match="neither an archive that `export` wrote nor") as refused:
            import_state(store, "1", ArchiveFile(path))
        assert "hunter2" not in str(refused.value)
    path.write_text('{"format":"signal-keystore-archive","version":2}', encoding="utf-8")
    with pytest.raises(InvalidInput, match="another version"):
        import_state(store, "1", ArchiveFile(path))
    path.write_text('{"format":"signal-keystore-archive","version":1}', encoding="utf-8")
    with pytest.raises(InvalidInput, match="broken first line"):
        import_state(store, "1", ArchiveFile(path))
    with pytest.raises(InvalidInput, match="doesn't exist"):
        import_state(store, "1", ArchiveFile(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="Is a directory"):
        import_state(store, "1", ArchiveFile(tmp_path))


def test_an_archive_overwrites_a_file_only_when_forced(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b"{}"}})
    path = tmp_path / "a.jsonl"
    path.write_text("former", encoding="utf-8")
    with pytest.raises(InvalidInput, match="exists"):
        export_state(store, "1", ArchiveFile(path))
    assert path.read_text(encoding="utf-8") == "former"
    export_state(store, "1", ArchiveFile(path), force=True)
    assert import_state(store, "2", ArchiveFile(path)).verified == 1


def test_an_archive_is_of_one_moment_or_is_not_written(
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
    export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
    import_state(store, "2", ArchiveFile(tmp_path / "a.jsonl"))
    assert store.load("2").creds == b'{"next":4}'
    assert len(store.load("2").keys["pre-key"]) == 3
    busy = 100
    with pytest.raises(StoreUnavailable, match="stop its bot"):
        export_state(store, "1", ArchiveFile(tmp_path / "b.jsonl"))
    assert not (tmp_path / "b.jsonl").exists()


def test_rows_that_read_back_with_other_times_are_not_verified(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("1", {"session": {"a": b"{}", "b": b"{}"}})
    export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
    export_rows = store.export_rows

    def later(company_id: str) -> list[KeyRow]:
        first, second = export_rows(company_id)
        return [replace(first, expires_at=None), second]

    monkeypatch.setattr(store, "export_rows", later)
    report = import_state(store, "2", ArchiveFile(tmp_path / "a.jsonl"))
    assert (report.keys, report.verified, [name for name, _ in report.skipped]) == (1, 1, ["session a"])


def test_an_archive_over_a_running_bot_is_refused_as_a_whole(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'"old"'}}, creds=b'{"me":1}')
    export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
    lease = store.lease_company("1", "the bot", 60)
    store.set("1", {"session": {"a": b'"new"', "b": b'"new"'}}, creds=b'{"me":2}', epoch=lease.epoch)
    before = store.export_rows("1"), store.get_creds("1")
    with pytest.raises(LeaseLost, match="nothing was written, because the bot has the lease"):
        import_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"), replace=True)
    assert (store.export_rows("1"), store.get_creds("1")) == before
    store.release_company("1", "the bot", lease.epoch)
    report = import_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"), replace=True)
    assert (report.keys, report.verified) == (1, 1)
    assert store.load("1").keys == {"session": {"a": b'"old"'}}


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1999-12-31T00:00:00+00:00"]
)
@pytest.mark.parametrize("field", ["created_at", "updated_at", "expires_at"])
def test_a_time_out_of_range_comes_in_by_no_way(store: Store, tmp_path: Path, field: str, time: str) -> None:
    store.set("1", {"session": {"a": b"{}", "b": b"{}"}})
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), field: time})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=rf"{field} of 'session' 'a': the year {int(time[:4])} isn't in 2000 to"):
        import_state(store, "2", ArchiveFile(path))
    report = import_state(store, "2", ArchiveFile(path), partial=True)
    assert (report.keys, report.partial) == (1, True)
    times: dict[str, Any] = {field: datetime.fromisoformat(time)}
    with pytest.raises(InvalidInput, match="isn't in 2000 to"):
        store.restore_rows("3", [replace(store.export_rows("2")[0], **times)])
    assert store.companies() == ["1", "2"]


def test_an_expiry_at_the_end_of_the_longest_lifetime_comes_back(tmp_path: Path, clock: Clock) -> None:
    with open_store(f"sqlite:///{tmp_path}/k.db", clock=clock, policy=Policy(default_s=100 * 365 * 86_400)) as store:
        store.set("1", {"mine": {"a": b"{}"}})
        export_state(store, "1", ArchiveFile(tmp_path / "a.jsonl"))
        assert import_state(store, "2", ArchiveFile(tmp_path / "a.jsonl")).verified == 1


def test_values_that_no_baileys_reads_come_back_as_they_were_and_are_named(store: Store, tmp_path: Path) -> None:
    store.set("1", {"session": {"a": b'"hunter2"'}, "mine": {"a": b'"hunter2"'}}, b'"hunter2"')
    path = tmp_path / "a.jsonl"
    export_state(store, "1", ArchiveFile(path))
    report = import_state(store, "2", ArchiveFile(path))
    assert store.load("2") == store.load("1")
    assert [name for name, _ in report.odd] == ["creds", "session a"]
    assert (report.partial, report.unwrapped) == (False, {})
    assert "hunter2" not in repr(report)
