"""Sealing as an operator meets it: `rotate`, and what the reports say with and without the secret key."""

from pathlib import Path

import pytest

from keystore import open_store
from keystore.sealing.quarantine import NOTES
from rig.baileys_state import real_creds, real_keys
from tests.acceptance.in_process import run, run_json, run_refused
from tests.conformance.sealing.stored import NEW_KEY, OLD_KEY, execute, forms

SEALED = {"KEYSTORE_SECRET_KEYS": OLD_KEY}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with a plain company."""
    address: str = request.getfixturevalue(f"migrated_{request.param}_url")
    with open_store(address) as store:
        store.set("1", {"session": {"a": b'"A"', "b": b'"B"'}}, creds=b"{}")
        store.set("2", {"pre-key": {"1": b'"P"'}})
    return address


def test_rotate_seals_every_value_and_changes_keys(url: str) -> None:
    planned = run_json("rotate", "--dry-run", url=url, **SEALED)
    assert (planned["keys"], planned["companies"], planned["dry_run"]) == (4, 2, True)
    done = run_json("rotate", url=url, **SEALED)
    assert (done["keys"], done["rewrapped"], done["old_keys_needed"]) == (4, 0, False)
    both = {"KEYSTORE_SECRET_KEYS": f"{NEW_KEY},{OLD_KEY}"}
    text = run("rotate", url=url, settings=both).stdout
    assert "0 values of 2 companies sealed" in text
    assert "the data keys of 2 companies got the newest secret key" in text
    assert "no secret key but the newest is needed" in text
    with open_store(url, secret_keys=NEW_KEY) as store:
        assert store.load("1").keys == {"session": {"a": b'"A"', "b": b'"B"'}}
        assert {form[0] for form in forms(store).values()} == {1}


def test_rotate_needs_a_secret_key(url: str) -> None:
    assert "KEYSTORE_SECRET_KEYS" in run_refused("rotate", url=url)


def test_doctor_warns_about_private_keys_in_clear(url: str) -> None:
    def sealing(**settings: str) -> tuple[str, str]:
        checks = {check["name"]: check for check in run_json("doctor", url=url, **settings)["checks"]}
        return checks["sealing"]["status"], checks["sealing"]["detail"]

    status, detail = sealing()
    assert status == ("ok" if url.startswith("sqlite") else "warning")
    assert "KEYSTORE_SECRET_KEYS" in detail
    status, detail = sealing(**SEALED)
    assert status == "warning"
    assert detail.startswith("4 values not sealed yet; run `")
    run_json("rotate", url=url, **SEALED)
    assert sealing(**SEALED) == ("ok", "every value is sealed")
    assert "isn't here" in sealing()[1]


def test_without_the_key_reports_say_what_they_can_not_see(url: str, tmp_path: Path) -> None:
    run_json("rotate", url=url, **SEALED)
    report = run_json("check", url=url)
    assert (report["total"], report["sealing"], report["verdict"]) == (3, "locked", "warning")
    assert any("no value was looked at" in advice for advice in report["advice"])
    assert run_json("check", url=url, **SEALED)["sealing"] == "on"
    assert run_json("types", url=url)["total"] == 3
    for command in (("export", f"{tmp_path}/1.jsonl", "--company", "1"), ("perf",), ("repair",)):
        assert "KEYSTORE_SECRET_KEYS" in run_refused(*command, url=url)
    assert "KEYSTORE_SECRET_KEYS" in run_refused(
        "import", f"{tmp_path}/1.jsonl", "--company", "1", url=url, KEYSTORE_SECRET_KEYS=NEW_KEY
    )
    assert run_json("purge", "--company", "1", "--yes", url=url)["rows"]["keystore_data_keys"] == 1


def test_an_unreadable_value_is_named_by_check_and_export(url: str, tmp_path: Path) -> None:
    run_json("rotate", url=url, **SEALED)
    with open_store(url, secret_keys=OLD_KEY) as store:
        execute(
            store,
            "UPDATE whatsapp_keys SET value = (SELECT value FROM whatsapp_keys WHERE key_id = 'b') WHERE key_id = 'a'",
        )
        store.load("1")
    report = run_json("check", url=url, **SEALED)
    assert [(value["company_id"], value["key_type"], value["key_id"]) for value in report["unreadable"]] == [
        ("1", "session", "a")
    ]
    assert report["verdict"] == "critical"
    assert "1 session a" in run("check", url=url, settings=SEALED).stdout
    exported = run_json("export", f"{tmp_path}/1.jsonl", "--company", "1", url=url, **SEALED)
    assert (exported["keys"], exported["skipped"]) == (1, [["session a", "it can't be read"]])
    assert run_json("purge", "--company", "1", "--yes", url=url)["documents"] == 1
    with open_store(url, secret_keys=OLD_KEY) as store:
        assert store.notes(NOTES) == {}


def test_a_sealed_state_goes_out_and_comes_in(url: str, tmp_path: Path) -> None:
    with open_store(url, secret_keys=OLD_KEY) as store:
        store.set("3", real_keys(), creds=real_creds())
    archive = f"{tmp_path}/3.jsonl"
    assert run_json("export", archive, "--company", "3", url=url, **SEALED)["keys"] == 721
    run_json("company", "delete", "3", "--yes", url=url, **SEALED)
    assert run_json("import", archive, "--company", "3", url=url, **SEALED)["verified"] == 721
    run_json("company", "delete", "3", "--yes", url=url, **SEALED)
    assert run_json("restore", "--company", "3", url=url, **SEALED)["keys"] == 721
    with open_store(url, secret_keys=OLD_KEY) as store:
        assert store.load("3").keys == real_keys()


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("key", ["", NEW_KEY], ids=["missing", "wrong"])
def test_the_service_does_not_start_without_the_right_key(migrated_sqlite_url: str, key: str) -> None:
    with open_store(migrated_sqlite_url, secret_keys=OLD_KEY) as store:
        store.set("1", {"session": {"a": b"A"}})
    message = run_refused("serve", url=migrated_sqlite_url, KEYSTORE_SECRET_KEYS=key, KEYSTORE_HTTP="127.0.0.1:0")
    assert "KEYSTORE_SECRET_KEYS: values in this database are sealed" in message
    assert OLD_KEY not in message
