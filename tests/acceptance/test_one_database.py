"""Which database a command opens: only four commands make one, and each says which one it speaks of."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keystore import open_store
from rig.program import RUN, TIMEOUT_S, environment
from tests.acceptance.in_process import run, run_json, run_refused

MAKES_NOTHING = [
    ["check"],
    ["types"],
    ["growth"],
    ["perf"],
    ["sweep"],
    ["backfill"],
    ["repair"],
    ["export", "out.jsonl", "--company", "demo"],
    ["token", "list"],
    ["token", "create", "--admin"],
    ["token", "revoke", "a"],
    ["company", "delete", "demo", "--yes"],
]
"""Every command but `serve`, `migrate`, `seed`, `import` and `doctor`, which reports a failure with exit code 1 too."""

DRY_RUNS = [["doctor"], ["migrate", "--dry-run"], ["import", "auth", "--company", "1", "--dry-run"]]

all_of_them = pytest.mark.parametrize("command", MAKES_NOTHING, ids=" ".join)


@pytest.fixture
def foreign_file(tmp_path: Path) -> Path:
    """Another program's SQLite file, with a rollback journal."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
    return path


@pytest.fixture
def foreign_postgres_url(postgres_url: str) -> str:
    """A Postgres database with another program's table."""
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (id int)")
    return postgres_url


def tables_of(url: str) -> list[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [name for (name,) in rows]


@all_of_them
def test_a_missing_file_is_not_made(command: list[str], tmp_path: Path) -> None:
    line = run_refused(*command, cwd=tmp_path)
    assert str(tmp_path / "keystore.db") in line
    assert "no such file" in line
    assert "the default, a file in the working folder" in line
    assert list(tmp_path.iterdir()) == []


@all_of_them
def test_another_programs_file_stays_as_it_is(command: list[str], foreign_file: Path) -> None:
    before = foreign_file.read_bytes()
    line = run_refused(*command, cwd=foreign_file.parent, url=f"sqlite:///{foreign_file}")
    assert "1 of something else (for example whatsmeow_device)" in line
    assert "run.py migrate" in line
    assert foreign_file.read_bytes() == before, "its tables, and the journal mode in its header"
    assert [path.name for path in foreign_file.parent.iterdir()] == ["other.db"]


def test_no_command_makes_tables_in_another_programs_server(foreign_postgres_url: str) -> None:
    for command in MAKES_NOTHING:
        assert "(for example orders)" in run_refused(*command, url=foreign_postgres_url)
    assert run("doctor", url=foreign_postgres_url).returncode == 1
    assert run("migrate", "--dry-run", url=foreign_postgres_url).returncode == 0
    assert tables_of(foreign_postgres_url) == ["orders"]


def test_an_empty_server_is_refused_as_empty(postgres_url: str) -> None:
    assert "this database is empty" in run_refused("check", url=postgres_url)
    assert tables_of(postgres_url) == []


@pytest.mark.parametrize("command", DRY_RUNS, ids=" ".join)
def test_doctor_and_dry_runs_make_nothing_either(command: list[str], tmp_path: Path, foreign_file: Path) -> None:
    before = foreign_file.read_bytes()
    run(*command, cwd=tmp_path)
    run(*command, cwd=tmp_path, url=f"sqlite:///{foreign_file}")
    assert foreign_file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [foreign_file]


def test_an_older_file_is_migrated_by_migrate_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    open_store(url).close()
    with closing(sqlite3.connect(tmp_path / "k.db")) as conn:
        conn.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '%access'")
        conn.commit()
    for _ in range(2):
        assert "schema outdated, 1 to apply (20261125_02_access first); run `" in run_refused("check", url=url)
    assert run_json("migrate", url=url)["applied"] == ["20261125_02_access"]
    assert run("check", url=url).returncode == 0


@pytest.mark.parametrize("command", [["migrate"], ["seed"]], ids=" ".join)
def test_a_command_that_makes_a_database_says_so(command: list[str], tmp_path: Path) -> None:
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0
    assert str(tmp_path / "keystore.db") in done.stderr
    assert run("check", cwd=tmp_path).returncode == 0


def test_the_command_line_names_another_database(tmp_path: Path) -> None:
    file, url = tmp_path / "an odd name?#%.db", f"sqlite:///{tmp_path}/other.db"
    assert run("seed", "--database-file", str(file), cwd=tmp_path).returncode == 0
    assert "665" in run("--database-file", file.name, "check", cwd=tmp_path, url=url).stdout
    assert run_json("check", "--database-file", str(file), url=url)["database"] == f"sqlite:///{file}"
    assert "other.db" in run_refused("check", cwd=tmp_path, url=url), "it holds for one command"
    both = run_refused("check", "--database", url, "--database-file", "x.db", code=2)
    assert "--database and --database-file" in both


def test_an_error_says_that_database_url_was_taken(tmp_path: Path) -> None:
    line = run_refused("check", cwd=tmp_path, DATABASE_URL="postgresql://bot:S3CRET@127.0.0.1:1/bots")
    assert "the address comes from DATABASE_URL in the environment" in line
    assert "S3CRET" not in line


def test_the_working_folders_file_is_read_and_doctor_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEYSTORE_URL=sqlite:///bots.db\n", encoding="utf-8")
    assert run("seed", cwd=tmp_path).returncode == 0
    assert (tmp_path / "bots.db").is_file()
    checks = json.loads(run("doctor", "--json", cwd=tmp_path).stdout)["checks"]
    (detail,) = [check["detail"] for check in checks if check["name"] == "settings"]
    assert f"KEYSTORE_URL in {tmp_path / '.env'}" in detail


def test_an_error_within_a_command_names_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    open_store(url).close()
    assert str(tmp_path) in run_refused("token", "revoke", "nothing", url=url)


def test_the_exit_code_of_check_is_that_of_a_nagios_plugin(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    assert run("check", "--exit-code", url=url).returncode == 3
    assert run("check", "--exit-code", url=url, settings={"KEYSTORE_TTL": "soon"}).returncode == 3
    run("seed", url=url)
    assert run("check", "--exit-code", url=url).returncode == 1, "keys without expiry"
    assert run("check", url=url).returncode == 0
    run("backfill", url=url)
    assert run("check", "--exit-code", url=url).returncode == 1, "nothing was swept yet"
    run("sweep", url=url)
    run("repair", url=url)
    assert run("check", "--exit-code", url=url).returncode == 0


def test_a_company_is_deleted_with_its_keys(
    migrated_postgres_url: str, database_rows: Callable[[str, str], list[tuple[Any, ...]]]
) -> None:
    url = migrated_postgres_url
    run("seed", url=url)
    with open_store(url) as store:
        store.set("demo-2", {"session": {"a": b"A"}})
    would = run_json("company", "delete", "demo", "--dry-run", url=url)
    assert (would["deleted"], would["creds"], would["dry_run"]) == (665, True, True)
    assert "--yes" in run_refused("company", "delete", "demo", url=url, code=2)
    assert run_json("check", url=url)["total"] == 666
    done = run_json("company", "delete", "demo", "--yes", url=url)
    assert done == {**would, "dry_run": False}
    assert run_json("check", url=url)["total"] == 1
    assert "nothing is stored for it" in run_refused("company", "delete", "demo", "--yes", url=url)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 665), ("y\n", 0, 0)])
def test_a_person_is_asked_before_a_company_is_deleted(answer: str, code: int, left: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    run("seed", url=url)
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer.encode())
    done = subprocess.run(
        [sys.executable, RUN, "company", "delete", "demo"],
        env=environment(url, {}),
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    os.close(keyboard)
    os.close(terminal)
    assert done.returncode == code, done.stderr
    assert "creds and 665 keys of company demo" in done.stderr
    assert run_json("check", url=url)["total"] == left
