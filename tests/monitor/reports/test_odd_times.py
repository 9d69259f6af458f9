"""A row with a time that Python can't have, written past the store, takes no report and no sweep down.

An archive has the nearest time in the range that an import takes.
"""

from collections.abc import Callable
from contextlib import closing

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
    request: pytest.FixtureRequest, tmp_path: object, spoil: Callable[[str], None]
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
