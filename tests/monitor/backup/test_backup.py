"""A backup holds every company as of one moment, sealed with a secret key, and comes back whole on either database."""

import json
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keystore import Store, open_store
from keystore.backup.opening import archive_keys
from keystore.records import KeyRow
from monitor.backup.archive import checked_backup
from monitor.backup.export import export_backup
from monitor.backup.restore import import_backup
from monitor.backup.verify import differences, verify_backup
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.clock import Clock
from rig.fixtures.postgres import PostgresSite
from tests.acceptance.in_process import run, run_json, run_refused
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY, execute
from tests.monitor.backup.databases import contents, digest, token

DAY = timedelta(days=1)
OTHER_KIND = {"sqlite": "postgres", "postgres": "sqlite"}


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the database that is backed up."""
    return str(request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    """The address of the database that is backed up."""
    return str(request.getfixturevalue(f"migrated_{kind}_url"))


@pytest.fixture
def other_url(request: pytest.FixtureRequest, kind: str) -> str:
    """The address of an empty database of the other kind."""
    return str(request.getfixturevalue(f"migrated_{OTHER_KIND[kind]}_url"))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """The path of the archive."""
    return tmp_path / "backups" / "all.jsonl"


@pytest.fixture(autouse=True)
def _folder(backup: Path) -> None:
    backup.parent.mkdir()


@pytest.fixture(params=["", OLD_KEY], ids=["plain", "sealed"])
def secret_keys(request: pytest.FixtureRequest) -> str:
    """The secret keys of the database that is backed up."""
    return str(request.param)


def fill(store: Store, clock: Clock) -> None:
    """Write companies with the real state, with odd values and times, with keys alone, and with creds alone."""
    now = clock()
    store.set("real", real_keys(), creds=real_creds())
    values = [b"\x00\xff", b"plain", b'{"a": 1}', b"NaN", b'"\\ud83d"', b'"\xe2\x80\xa8"', b"\x01" * 100_000]
    rows = [
        KeyRow("any:type", f"{n}/x:é\u2028"[:-1], value, now - DAY, now, now + DAY) for n, value in enumerate(values)
    ]
    rows += [
        KeyRow("session", "1 past", b"1", now, now, now - DAY),
        KeyRow("session", "2 none", b"1", now, now, None),
        KeyRow("session", "3 never", b"1", now, now, None, never_expires=True),
    ]
    store.restore_rows("odd", rows, b"\x00creds")
    store.set("keys", {"lid-mapping": {"1": b'"2"'}})
    store.set("creds", {}, creds=b"{}")
    store.add_token(replace(token("aaaaaaaaaaaa", "real", store), further_companies=("second", "third")))
    store.add_token(token("bbbbbbbbbbbb", None, store))


def test_a_backup_comes_back_whole_on_the_other_database(
    url: str, other_url: str, secret_keys: str, backup: Path, clock: Clock
) -> None:
    keys = archive_keys(secret_keys)
    with open_store(url, clock=clock, secret_keys=secret_keys) as store:
        fill(store, clock)
        store.add_token(replace(token("cccccccccccc", "real", store), revoked_at=clock()))
        store.add_token(replace(token("dddddddddddd", "real", store), expires_at=clock()))
        report = export_backup(store, backup, keys)
        before = contents(store)
    assert (report.companies, report.keys, report.tokens, report.left_out) == (4, 732, 2, ())
    assert report.file_bytes == backup.stat().st_size
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [file.name for file in backup.parent.iterdir()] == ["all.jsonl"]
    clock.advance(DAY)
    with open_store(other_url, clock=clock, secret_keys=NEW_KEY) as store:
        imported = import_backup(store, checked_backup(backup, keys))
        assert (imported.companies, imported.keys, imported.tokens, imported.refused) == (4, 732, 2, ())
        tokens = [known for known in before["tokens"] if known.token_id[0] in "ab"]  # type: ignore[attr-defined]
        assert contents(store) == {**before, "tokens": tokens}
        again = import_backup(store, checked_backup(backup, keys))
        assert (again.companies, again.tokens, again.refused) == (4, 0, ())
    assert verify_backup(checked_backup(backup, keys), secret_keys, None).good


def test_a_sealed_backup_has_no_key_in_clear(url: str, backup: Path) -> None:
    with open_store(url) as store:  # Values that aren't sealed yet are sealed in the archive all the same.
        store.set("1", real_keys(), creds=real_creds())
        export_backup(store, backup, None)
    plain = backup.read_bytes()
    secrets = private_parts(json.loads(real_creds()))
    secrets += [part for by_id in real_keys().values() for value in by_id.values() for part in private_parts_of(value)]
    assert len(secrets) > 500
    assert all(secret in plain for secret in secrets), "the search finds what is there"
    with open_store(url, secret_keys=OLD_KEY) as store:
        export_backup(store, backup, archive_keys(OLD_KEY), force=True)
        assert store.unsealed_values("1") == 666, "the export changed nothing in the database"
    sealed = backup.read_bytes()
    assert not [secret for secret in secrets if secret in sealed]
    assert verify_backup(checked_backup(backup, archive_keys(OLD_KEY)), OLD_KEY, None).good


def private_parts_of(value: bytes) -> list[bytes]:
    """The long texts in a JSON value, base64 of keys among them."""
    return private_parts(json.loads(value))


def private_parts(document: Any) -> list[bytes]:
    """The texts of 40 characters or more within a document."""
    if isinstance(document, dict):
        return [part for value in document.values() for part in private_parts(value)]
    if isinstance(document, list):
        return [part for value in document for part in private_parts(value)]
    return (
        [json.dumps(document, ensure_ascii=False)[1:-1].encode()]
        if isinstance(document, str) and len(document) >= 40
        else []
    )


def test_a_sealed_backup_needs_its_key_before_anything_is_touched(url: str, tmp_path: Path, backup: Path) -> None:
    with open_store(url, secret_keys=OLD_KEY) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"{}")
        keys = archive_keys(OLD_KEY)
        assert keys is not None
        export_backup(store, backup, keys)
    new = f"sqlite:///{tmp_path}/new.db"
    for secret_keys in ("", NEW_KEY):
        for command in ("import", "verify"):
            error = run_refused(command, str(backup), url=new, KEYSTORE_SECRET_KEYS=secret_keys)
            assert f"sealed by the secret key with the id {keys.newest_id}" in error
    assert not (tmp_path / "new.db").exists()
    both = {"KEYSTORE_SECRET_KEYS": f"{NEW_KEY} {OLD_KEY}"}
    assert run_json("verify", str(backup), url=new, **both)["good"]
    assert run_json("import", str(backup), url=new, **both)["companies"] == 1
    with open_store(new, secret_keys=NEW_KEY) as store:
        assert store.load("1").keys == {"session": {"a": b"A"}}


def test_each_company_is_imported_whole_or_left_as_it_is(url: str, other_url: str, backup: Path) -> None:
    with open_store(url) as store:
        for company in ("free", "leased", "moved"):
            store.set(company, {"session": {"a": b"old", "b": b"old"}}, creds=b'{"me":1}')
        export_backup(store, backup, None)
    with open_store(other_url) as store:
        lease = store.lease_company("leased", "the bot", 60)
        store.set("leased", {"session": {"a": b"new"}}, creds=b'{"me":2}', epoch=lease.epoch)
        store.set("moved", {"session": {"a": b"new"}}, creds=b'{"me":2}')
        leased, moved = store.load("leased"), store.load("moved")
        done = run("import", str(backup), "--json", url=other_url)
        assert (done.returncode, json.loads(done.stdout)["companies"]) == (3, 1)
        refused = dict(json.loads(done.stdout)["refused"])
        assert "already has 1 keys and creds" in refused["company leased"]
        assert "already has 1 keys and creds" in refused["company moved"]
        assert (store.load("leased"), store.load("moved")) == (leased, moved)
        done = run("import", str(backup), "--replace", url=other_url)
        assert (done.returncode, "the bot has the lease" in done.stdout) == (3, True)
        assert (store.load("leased"), store.load("moved").keys["session"]["a"]) == (leased, b"old")
        assert store.deletions("moved")[0].reason == "import"
        store.release_company("leased", "the bot", lease.epoch)
        assert run("import", str(backup), "--replace", url=other_url).returncode == 0
        assert store.load("leased").keys["session"] == {"a": b"old", "b": b"old"}


def test_a_company_can_be_chosen_and_renamed(url: str, other_url: str, backup: Path) -> None:
    with open_store(url) as store:
        store.set("1", {"session": {"a": b"1"}}, creds=b"{}")
        store.set("2", {"session": {"a": b"2"}}, creds=b"{}")
        store.add_token(token("aaaaaaaaaaaa", "2", store))
    assert run_json("export", "--all", str(backup), url=url)["companies"] == 2
    report = run_json("import", str(backup), "--company", "company_2", url=other_url)
    assert (report["company"], report["keys"], report["verified"]) == ("2", 1, 1)
    assert run_json("import", str(backup), "--state", "1", "--company", "3", url=other_url)["company"] == "3"
    assert "no company 4; it has 2 others" in run_refused("import", str(backup), "--company", "4", url=other_url)
    assert "imported whole" in run_refused("import", str(backup), "--partial", url=other_url)
    with open_store(other_url) as store:
        assert store.companies() == ["2", "3"]
        assert store.load("3").keys == {"session": {"a": b"1"}}
        assert store.tokens() == [], "a single company comes without tokens"


def test_one_company_can_be_exported_sealed(url: str, other_url: str, backup: Path) -> None:
    with open_store(url) as store:
        store.set("1", {"session": {"a": b'"S3CRET"'}}, creds=b"{}")
        store.set("2", {"session": {"a": b"2"}}, creds=b"{}")
    assert "no secret key" in run_refused("export", "--company", "1", "--sealed", str(backup), url=url)
    sealed = {"KEYSTORE_SECRET_KEYS": OLD_KEY}
    report = run_json("export", "--company", "1", "--sealed", str(backup), url=url, **sealed)
    assert (report["companies"], report["sealed"]) == (1, True)
    assert b"S3CRET" not in backup.read_bytes()
    run_json("import", str(backup), "--company", "3", url=other_url, **sealed)
    done = run("export", "--company", "1", str(backup), "--force", url=url, settings=sealed)
    assert "values are in clear; --sealed" in done.stderr
    assert b"S3CRET" in backup.read_bytes(), "without --sealed an archive of one company is in clear, as ever"
    with open_store(other_url, secret_keys=OLD_KEY) as store:
        assert store.load("3").keys == {"session": {"a": b'"S3CRET"'}}


def test_a_revoked_token_stays_revoked(url: str, other_url: str, backup: Path) -> None:
    with open_store(url) as store, open_store(other_url) as other:
        store.set("1", {}, creds=b"{}")
        record = token("aaaaaaaaaaaa", "1", store)
        store.add_token(record)
        other.add_token(record)
        other.revoke_token(record.token_id)
        export_backup(store, backup, None)
        assert import_backup(other, checked_backup(backup, None)).tokens == 0
        assert other.tokens()[0].revoked_at is not None


def test_what_cannot_be_read_is_left_out_and_named(url: str, backup: Path) -> None:
    with open_store(url, secret_keys=OLD_KEY) as store:
        store.set("1", {"session": {"a": b"A", "b": b"B"}}, creds=b"{}")
        store.set("2", {"session": {"a": b"A"}}, creds=b"{}")
        store.set("3", {"session": {"a": b"A"}}, creds=b"{}")
        execute(
            store,
            "UPDATE whatsapp_keys SET value = (SELECT creds FROM whatsapp_auth WHERE company_id = '1') "
            "WHERE company_id = '1' AND key_id = 'b' RETURNING 1",
        )
        execute(
            store,
            "UPDATE keystore_data_keys SET sealed_key = (SELECT sealed_key FROM keystore_data_keys "
            "WHERE company_id = '1') WHERE company_id = '2' RETURNING 1",
        )
    sealed = {"KEYSTORE_SECRET_KEYS": OLD_KEY}
    done = run("export", "--all", str(backup), "--json", url=url, settings=sealed)
    report = json.loads(done.stdout)
    assert (done.returncode, report["companies"], report["keys"]) == (3, 2, 2)
    left_out = dict(report["left_out"])
    assert left_out["1 session b"] == "it can't be read"
    assert "its data key doesn't open" in left_out["2"]
    assert run_json("verify", str(backup), url=url, **sealed)["companies"] == 2


def test_a_backup_takes_the_name_only_when_it_may(url: str, backup: Path) -> None:
    assert "nothing to export" in run_refused("export", "--all", str(backup), url=url)
    assert list(backup.parent.iterdir()) == []
    with open_store(url) as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"{}")
    planned = run_json("export", "--all", str(backup), "--dry-run", url=url)
    assert (planned["companies"], planned["keys"], planned["dry_run"]) == (1, 1, True)
    assert list(backup.parent.iterdir()) == []
    backup.write_bytes(b"former")
    assert "exists" in run_refused("export", "--all", str(backup), url=url)
    assert backup.read_bytes() == b"former"
    text = run("export", "--all", str(backup), "--force", url=url).stdout
    assert "in clear" in text
    assert "leave out --company" in run_refused("export", "--all", "--company", "1", str(backup), url=url, code=2)
    before = digest(url)
    assert run_json("import", str(backup), "--dry-run", url=url)["companies"] == 1
    assert digest(url) == before


def test_writes_go_on_during_a_backup_and_none_is_in_it_by_half(url: str, backup: Path) -> None:
    stop = threading.Event()

    def write(first: int) -> None:
        with open_store(url) as own:
            generation = 1
            while not stop.is_set():
                generation += 1
                for company in range(first, 20, 2):
                    own.set(f"{company}", state(generation), creds=b"%d" % generation)

    def state(generation: int) -> dict[str, dict[str, bytes | None]]:
        value = b"%d" % generation
        return {key_type: {f"{n}": value for n in range(5)} for key_type in ("session", "pre-key", "sender-key")}

    with open_store(url) as store:
        for company in range(20):
            store.set(f"{company}", state(1), creds=b"1")
        threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        try:
            for number in range(3):
                export_backup(store, backup, None, force=number > 0)
                checked = checked_backup(backup, None)
                for first in (0, 1):
                    generations = {
                        int(entry.value)
                        for part in checked.companies
                        for entry in checked.state(part).entries.values()
                        if int(part.part or "") % 2 == first
                    }
                    assert max(generations) - min(generations) <= 1, "a writer's companies are as of one moment"
                for part in checked.companies:
                    values = [entry.value for entry in checked.state(part).entries.values()]
                    assert (len(values), len(set(values))) == (16, 1), "a set is in the backup whole"
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


def test_a_backup_holds_one_company_in_memory_at_a_time(url: str, other_url: str, backup: Path) -> None:
    companies, keys, value = 80, 5, b"x" * 10_000
    with open_store(url) as store, open_store(other_url) as other:
        for company in range(companies):
            store.set(f"{company}", {"session": {f"{n}": value for n in range(keys)}}, creds=b"{}")
        with peak_memory() as peak:
            export_backup(store, backup, None)
            exported = peak()
        with peak_memory() as peak:
            import_backup(other, checked_backup(backup, None))
            imported = peak()
    assert backup.stat().st_size > companies * keys * len(value)
    assert max(exported, imported) < 1_000_000, "of 4 MB in all, and 50 kB for each company"


def test_a_backup_whose_connection_breaks_begins_again(
    migrated_postgres_url: str, postgres_site: PostgresSite, backup: Path
) -> None:
    broken: list[tuple[bool]] = []

    def break_once(done: int, _total: int) -> None:
        if done == 2 and not broken:
            with closing(postgres_site.admin()) as admin:
                broken.extend(
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = %s AND state = 'idle in transaction'",
                        [migrated_postgres_url.rpartition("/")[2]],
                    ).fetchall()
                )

    with open_store(migrated_postgres_url) as store:
        for company in ("1", "2", "3"):
            store.set(company, {"session": {f"{n}": b"x" * 3_000 for n in range(20)}}, creds=b"{}")
        report = export_backup(store, backup, None, progress=break_once)
        assert broken == [(True,)]
        assert (report.companies, report.file_bytes) == (3, backup.stat().st_size)
        assert list(differences(store, checked_backup(backup, None))) == []


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the most bytes that the block has allocated at a time."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
