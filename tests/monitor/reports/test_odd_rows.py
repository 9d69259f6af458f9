"""Rows that were written past the store: with a time that Python can't have, or an id that no command can name.

An odd time takes no report and no sweep down. An archive has the nearest time in the range that an import takes.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from keystore import open_store
from keystore.opening import open_link
from tests.acceptance.in_process import run, run_json

ODD_ON_POSTGRES = ("0044-03-15 12:00 BC", "0001-01-01 00:00:00+14", "20000-01-01", "290000-12-31")
ODD_ON_SQLITE = (-(2**62), -62135596800000001, 253402300800000000, 2**62)


def spoil_postgres(url: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        for n, time in enumerate(ODD_ON_POSTGRES):
            conn.execute(
                "UPDATE whatsapp_keys SET created_at = %s, updated_at = %s, expires_at = %s WHERE key_id = %s",
                (time, time, time, str(n)),
            )
        conn.execute("UPDATE whatsapp_auth SET updated_at = '20000-01-01'")


def spoil_sqlite(url: str) -> None:
    with closing(open_link(url)) as link:
        for n, time in enumerate(ODD_ON_SQLITE):
            link.rows(
                "UPDATE whatsapp_keys SET created_at = :at, updated_at = :at, expires_at = :at WHERE key_id = :id",
                {"at": time, "id": str(n)},
            )
        link.rows("UPDATE whatsapp_auth SET updated_at = 9223372036854775000", {})


@pytest.mark.parametrize("spoil", [spoil_sqlite, spoil_postgres], ids=["sqlite", "postgres"])
def test_every_report_and_the_sweep_go_on(
    request: pytest.FixtureRequest, tmp_path: Path, spoil: Callable[[str], None]
) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    if spoil is spoil_postgres:
        url = request.getfixturevalue("migrated_postgres_url")
    with open_store(url) as store:
        store.set("1", {"session": {str(n): b"{}" for n in range(9)}, "lid-mapping": {"9": b'"1"'}}, creds=b"{}")
    spoil(url)
    for command in ("check", "types", "growth", "sweep", "backfill", "doctor"):
        done = run(command, url=url)
        assert (done.returncode, done.stderr.partition("error")[1]) == (0, ""), f"{command}: {done.stdout}{done.stderr}"
        run_json(*(command, "--dry-run") if command in ("sweep", "backfill") else (command,), url=url)
    assert run("export", f"{tmp_path}/1.jsonl", "--company", "1", url=url).returncode == 0
    done = run("import", f"{tmp_path}/1.jsonl", "--company", "2", url=url)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_names_companies_that_no_command_can_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with open_store(url) as store:
        for company in ("1", "2", "3"):
            store.set(company, {"session": {"a": b"{}"}})
    assert "can't be named" not in run("doctor", url=url).stdout
    with closing(open_link(url)) as link:
        link.rows("UPDATE whatsapp_keys SET company_id = 'shop.berlin' WHERE company_id = '1'", {})
        link.rows("UPDATE whatsapp_keys SET company_id = 'company_2' WHERE company_id = '2'", {})
    assert "2 companies can't be named by any command ('company_2' for one)" in run("doctor", url=url).stdout
