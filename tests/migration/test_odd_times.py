"""No row takes a report down by its times: an adopted table may hold the first and last that Postgres has."""

import psycopg
import pytest

from tests.acceptance.in_process import run

TIMES = (
    "294276-12-30",
    "-infinity",
    "infinity",
    "4713-01-01 BC",
    "9999-12-31 23:59:59.999999+00",
    "0001-01-01 00:00+14",
)
COLUMNS = ("created_at", "updated_at", "expires_at")

COMMANDS = (
    *("check", "types", "growth", "perf", "doctor", "repair", "trash"),
    *("backfill", "sweep --dry-run", "export state.jsonl --company demo", "sweep", "growth"),
)


@pytest.mark.slow
def test_every_command_works_beside_the_oddest_times(
    migrated_postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = migrated_postgres_url
    assert run("seed", url=url).returncode == 0
    with psycopg.connect(url, autocommit=True) as conn:
        rows = conn.execute("SELECT key_id FROM whatsapp_keys WHERE key_type = 'session' ORDER BY key_id").fetchall()
        for n, (column, time) in enumerate((column, time) for column in COLUMNS for time in TIMES):
            conn.execute(f"UPDATE whatsapp_keys SET {column} = %s WHERE key_id = %s", (time, rows[n][0]))
    for command in COMMANDS:
        done = run(*command.split(), url=url, cwd=tmp_path_factory.mktemp("odd"))
        assert done.returncode == 0, f"{command}: {done.stderr}"
