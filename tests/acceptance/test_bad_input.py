"""Each failure is one clear line and an exit code: no traceback, no secret, and no data lost."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from keystore import open_store
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.postgres import PASSWORD, OwnServer, PostgresSite
from rig.program import RUN, TIMEOUT_S, environment
from rig.relay import free_port
from tests.acceptance.in_process import run, run_refused
from tests.monitor.transfer.folders import write_folder

EVERY_COMMAND = [["serve"], ["check"], ["types"], ["growth"], ["perf"], ["backfill"], ["sweep"], ["migrate"], ["seed"]]


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """A file with a company in it."""
    path = tmp_path / "k.db"
    with open_store(f"sqlite:///{path}") as store:
        store.set("1", {"session": {"a": b"A"}}, creds=b"C")
    return path


def require_unchanged(path: Path) -> None:
    with open_store(f"sqlite:///{path}") as store:
        assert store.load("1").keys == {"session": {"a": b"A"}}


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://a:S3CRET@b/c",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=S3CRET",
        "postgresql://bot:S3CRET/with#odd@host:port/db",
        "postgresql://bot:S3CRET@127.0.0.1/db?nonsense=1",
        "postgresql://bot:S3CRET@[::1/db",
        "postgresql://bot:x@S3CRET@127.0.0.1:1/bots",
        "postgresql://bot:p@S3CRET/word@127.0.0.1:1/bots",
        "postgresql://bot:x@S3C,S3CRET@127.0.0.1:1/bots",
    ],
)
def test_an_address_that_cannot_be_read(url: str, tmp_path: Path) -> None:
    line = run_refused("check", url=url, cwd=tmp_path)
    assert "address" in line
    assert "S3CRET" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_an_unreachable_server(command: list[str]) -> None:
    port = free_port()
    line = run_refused(*command, url=f"postgresql://bot:S3CRET@127.0.0.1:{port}/bots")
    assert f"127.0.0.1:{port}/bots" in line
    assert "S3CRET" not in line


def test_a_server_that_has_no_such_database(postgres_site: PostgresSite) -> None:
    assert "no_such_database" in run_refused("check", url=postgres_site.url("no_such_database"))


def test_a_wrong_password(own_server: OwnServer) -> None:
    line = run_refused("check", url=own_server.site.url("bots", password="Wr0ng/pass word"))
    assert "login" in line
    assert "Wr0ng" not in line
    assert PASSWORD not in line


@pytest.mark.parametrize(("command", "problem"), [("check", "there is no such file"), ("seed", "folder doesn't exist")])
def test_a_missing_folder(command: str, problem: str, tmp_path: Path) -> None:
    assert problem in run_refused(command, url=f"sqlite:///{tmp_path}/no/such/k.db")
    assert not (tmp_path / "no").exists()


def test_a_file_that_cannot_be_written(sqlite_file: Path) -> None:
    before = sqlite_file.read_bytes()
    sqlite_file.chmod(0o400)
    # Root may write any file, unless it gives up that capability.
    without_override = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    for command in ("seed", "check", "serve"):
        done = subprocess.run(
            [*without_override, sys.executable, RUN, command],
            env=environment(f"sqlite:///{sqlite_file}", {}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "can't be written" in done.stderr
        assert str(sqlite_file) in done.stderr
    sqlite_file.chmod(0o600)
    assert sqlite_file.read_bytes() == before
    require_unchanged(sqlite_file)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    path.write_text("Dear diary, " * 1_000, encoding="utf-8")
    for command in EVERY_COMMAND:
        assert "not a SQLite database" in run_refused(*command, url=f"sqlite:///{path}")
    assert path.read_text(encoding="utf-8").startswith("Dear diary")


def test_a_damaged_database(sqlite_file: Path) -> None:
    with open_store(f"sqlite:///{sqlite_file}") as store:
        store.set("1", {"session": {f"{n}": b"A" * 500 for n in range(200)}})
    whole = sqlite_file.read_bytes()
    sqlite_file.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    line = run_refused("types", url=f"sqlite:///{sqlite_file}")
    assert "damaged" in line
    assert "recover" in line


def test_the_database_of_another_program_is_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "k.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE whatsapp_keys (something TEXT)")
    line = run_refused("types", url=f"sqlite:///{path}")
    assert "whatsapp_keys" in line or "migrate" in line or "column" in line
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT count(*) FROM pragma_table_info('whatsapp_keys')").fetchone() == (1,)


def test_an_outdated_schema_says_to_migrate(migrated_postgres_url: str) -> None:
    with psycopg.connect(migrated_postgres_url, autocommit=True) as conn:
        conn.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '%closed_tables'")
    for command in (["check"], ["serve"]):
        assert "run.py migrate" in run_refused(*command, url=migrated_postgres_url)
    assert run("migrate", url=migrated_postgres_url).returncode == 0
    assert run("check", url=migrated_postgres_url).returncode == 0


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_a_malformed_setting(command: list[str], sqlite_file: Path) -> None:
    url = f"sqlite:///{sqlite_file}"
    assert "KEYSTORE_TTL: " in run_refused(*command, url=url, KEYSTORE_TTL="pre-key=soon")
    assert "did you mean KEYSTORE_GUARD?" in run_refused(*command, url=url, KEYSTORE_GARD="off")
    require_unchanged(sqlite_file)


def test_an_import_that_cannot_be_read(sqlite_file: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{sqlite_file}"
    text, folder = tmp_path / "notes.txt", tmp_path / "empty"
    text.write_text("Dear diary\n", encoding="utf-8")
    folder.mkdir()
    assert "no dump that this program can read" in run_refused("import", str(text), url=url)
    assert "doesn't exist" in run_refused("import", str(tmp_path / "nothing"), url=url)
    assert "no file of Baileys" in run_refused("import", str(folder), "--company", "2", url=url)
    assert "--company" in run_refused("import", str(folder), url=url)
    assert "company_id" in run_refused("import", str(folder), "--company", "a b", url=url)
    require_unchanged(sqlite_file)
    assert text.exists()


def test_an_incomplete_folder_is_imported_only_on_request(sqlite_file: Path, tmp_path: Path) -> None:
    pre_key = real_keys()["pre-key"]["121"]
    folder = write_folder(tmp_path / "auth", {"pre-key": {"1": b'{"private": "S3CR', "2": pre_key}}, real_creds())
    arguments = ("import", str(folder), "--company", "2", "--delete-source")
    url = f"sqlite:///{sqlite_file}"
    line = run_refused(*arguments, url=url)
    assert "isn't whole, so nothing was imported: pre-key-1.json: not JSON" in line
    assert "--partial" in line
    require_unchanged(sqlite_file)
    dry = run(*arguments, "--dry-run", url=url)
    assert (dry.returncode, "pre-key-1.json  not JSON" in dry.stdout) == (3, True)
    require_unchanged(sqlite_file)
    done = run(*arguments, "--partial", url=url)
    assert done.returncode == 3
    assert "pre-key-1.json  not JSON" in done.stdout
    assert "no source file was deleted: not all of the source could be taken" in done.stdout
    assert "S3CR" not in line + dry.stdout + done.stdout + done.stderr
    assert len(list(folder.iterdir())) == 3


def test_an_import_over_a_live_company_is_refused(sqlite_file: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "auth", {}, real_creds())
    line = run_refused("import", str(folder), "--company", "1", url=f"sqlite:///{sqlite_file}")
    assert "--replace" in line
    require_unchanged(sqlite_file)


@pytest.mark.parametrize(
    "args", [["nonsense"], ["check", "--nonsense"], ["import"], ["perf", "--rounds", "many"]], ids=" ".join
)
def test_a_command_line_that_cannot_be_read(args: list[str], tmp_path: Path) -> None:
    assert "--help" in run_refused(*args, code=2, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ttl", ["pre-key", "pre-key=soon", "=7d", "pre-key=7d,pre-key=8d"])
def test_a_what_if_policy_that_cannot_be_read(sqlite_file: Path, ttl: str) -> None:
    assert "TTL policy" in run_refused("growth", "--ttl", ttl, url=f"sqlite:///{sqlite_file}")
    require_unchanged(sqlite_file)
