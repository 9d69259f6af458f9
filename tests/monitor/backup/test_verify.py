"""`verify` restores a backup into a scratch database of its own, compares everything, and leaves nothing behind."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import Store, open_store
from keystore.records import KeyRow
from keystore.sql.store import SqlStore
from monitor.backup.archive import checked_backup
from monitor.backup.export import export_backup
from monitor.backup.verify import differences
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.postgres import PostgresSite
from tests.acceptance.in_process import run, run_json, run_refused
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY, execute
from tests.monitor.backup.databases import digest, token

SEALED = {"KEYSTORE_SECRET_KEYS": OLD_KEY}


@pytest.fixture
def backup(migrated_sqlite_url: str, tmp_path: Path) -> Path:
    """A sealed backup of the real state and of a small company."""
    path = tmp_path / "backup.jsonl"
    with open_store(migrated_sqlite_url, secret_keys=OLD_KEY) as store:
        store.set("real", real_keys(), creds=real_creds())
        store.set("small", {"session": {"a": b"A", "b": b"B"}}, creds=b"{}")
        store.add_token(token("aaaaaaaaaaaa", "small", store))
    assert run("export", "--all", str(path), url=migrated_sqlite_url, settings=SEALED).returncode == 0
    return path


def test_a_good_backup_is_restored_and_compared(
    backup: Path, migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch_folder = tmp_path / "scratch"
    scratch_folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_folder))
    before = digest(migrated_sqlite_url)
    report = run_json("verify", str(backup), url=migrated_sqlite_url, **SEALED)
    assert (report["good"], report["companies"], report["keys"], report["creds"]) == (True, 2, 723, 2)
    assert (report["tokens"], report["sealed"], report["differences"]) == (1, True, [])
    assert "the backup can be restored" in run("verify", str(backup), settings=SEALED).stdout
    assert digest(migrated_sqlite_url) == before
    assert list(scratch_folder.iterdir()) == [], "the scratch database is removed"


def test_a_backup_is_tried_on_a_scratch_database_of_the_other_kind(
    backup: Path, migrated_sqlite_url: str, postgres_site: PostgresSite
) -> None:
    with postgres_site.database() as name:
        scratch = postgres_site.url(name)
        report = run_json("verify", str(backup), "--scratch", scratch, url=migrated_sqlite_url, **SEALED)
        assert report["good"]
        assert name in report["scratch"]
        assert postgres_site.password not in json.dumps(report)
        with open_store(scratch, secret_keys=OLD_KEY) as store:
            assert store.companies() == ["real", "small"], "it stays for whoever wants to look at it"
        assert "isn't empty" in run_refused(
            "verify", str(backup), "--scratch", scratch, url=migrated_sqlite_url, KEYSTORE_SECRET_KEYS=OLD_KEY
        )
        assert "names the database of KEYSTORE_URL" in run_refused(
            "verify", str(backup), "--scratch", scratch, url=scratch, KEYSTORE_SECRET_KEYS=OLD_KEY
        )


def test_the_scratch_is_never_the_database_of_the_settings(
    backup: Path, migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = f"sqlite:///{tmp_path}/empty.db"
    for spelled in (empty, "sqlite:///empty.db", f"sqlite:///{tmp_path}/../{tmp_path.name}/empty.db"):
        error = run_refused(
            "verify", str(backup), "--scratch", spelled, url=empty, cwd=tmp_path, KEYSTORE_SECRET_KEYS=OLD_KEY
        )
        assert "names the database of KEYSTORE_URL" in error
    assert not (tmp_path / "empty.db").exists()
    before = digest(migrated_sqlite_url)
    error = run_refused(
        "verify", str(backup), "--scratch", migrated_sqlite_url, url=empty, KEYSTORE_SECRET_KEYS=OLD_KEY
    )
    assert "isn't empty" in error
    assert digest(migrated_sqlite_url) == before
    assert run_json("verify", str(backup), "--scratch", empty, url=migrated_sqlite_url, **SEALED)["good"]


CHANGES: dict[str, tuple[Callable[[Store], object], str]] = {
    "another value": (lambda store: store.set("small", {"session": {"a": b"X"}}), "small session a"),
    "a key less": (lambda store: store.set("small", {"session": {"b": None}}), "small session b"),
    "a key more": (lambda store: store.set("small", {"session": {"c": b"C"}}), "small session c"),
    "a new expiry": (
        lambda store: store.restore_rows(
            "small", [replace(row, expires_at=None, never_expires=True) for row in store.export_rows("small")][:1]
        ),
        "small session a",
    ),
    "an older write": (
        lambda store: store.restore_rows(
            "small",
            [replace(row, updated_at=row.updated_at - timedelta(seconds=1)) for row in store.export_rows("small")][1:],
        ),
        "small session b",
    ),
    "other creds": (lambda store: store.set_creds("small", b"[]"), "small creds"),
    "no creds": (
        lambda store: execute(store, "DELETE FROM whatsapp_auth WHERE company_id = 'small' RETURNING 1"),
        "small creds",
    ),
    "a company more": (lambda store: store.set("other", {}, creds=b"{}"), "company other"),
    "no token": (lambda store: execute(store, "DELETE FROM keystore_tokens RETURNING 1"), "the tokens"),
    "a revoked token": (lambda store: store.revoke_token("aaaaaaaaaaaa"), "the tokens"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_difference_is_named(change: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "backup.jsonl"
    store.set("small", {"session": {"a": b"A", "b": b"B"}}, creds=b"{}")
    store.add_token(token("aaaaaaaaaaaa", "small", store))
    export_backup(store, path, None)
    backup = checked_backup(path, None)
    assert list(differences(store, backup)) == []
    make, name = CHANGES[change]
    make(store)
    assert [different for different, _ in differences(store, backup)] == [name]


def test_a_scratch_database_that_reads_back_differently_is_no_success(
    backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_rows = SqlStore.export_rows

    def without_an_expiry(store: SqlStore, company: str) -> list[KeyRow]:
        first, *rows = export_rows(store, company)
        return [replace(first, expires_at=None), *rows]

    monkeypatch.setattr(SqlStore, "export_rows", without_an_expiry)
    done = run("verify", str(backup), "--json", settings=SEALED)
    report = json.loads(done.stdout)
    assert (done.returncode, report["good"], report["companies"]) == (1, False, 2)
    assert "small session a" in dict(report["differences"])
    assert "the backup doesn't restore as it is" in run("verify", str(backup), settings=SEALED).stdout


def test_a_backup_that_was_sealed_by_a_former_key_needs_it(backup: Path, tmp_path: Path) -> None:
    new = f"sqlite:///{tmp_path}/new.db"
    with open_store(new, secret_keys=NEW_KEY) as store:
        store.set("1", {}, creds=b"{}")
    assert "which isn't in KEYSTORE_SECRET_KEYS" in run_refused(
        "import", str(backup), url=new, KEYSTORE_SECRET_KEYS=NEW_KEY
    )
    done = run_json("import", str(backup), url=new, KEYSTORE_SECRET_KEYS=f"{NEW_KEY},{OLD_KEY}")
    assert done["companies"] == 2
    with open_store(new, secret_keys=NEW_KEY) as store:
        assert store.load("small").total == 2, "the values are sealed by the new key now"


def test_archives_without_checksums_are_not_tried(store: Store, tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text('{"format":"signal-keystore-archive","version":1,"company":"1","creds":false,"keys":0}\n')
    assert "isn't an archive with checksums" in run_refused("verify", str(old))
