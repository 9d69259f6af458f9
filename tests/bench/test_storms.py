"""Storms: their work is done and counted, failures are noticed, and the commands exit by their limits."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest

from bench.storms.__main__ import main
from bench.storms.reconnect import reconnect_storm
from bench.storms.restart import restart
from bench.storms.steady import Steady, steady
from keystore import open_store
from keystore.errors import KeystoreError
from rig.baileys_state import BURST_KEYS, STATE_KEYS
from rig.fixtures.postgres import PASSWORD, PostgresSite
from rig.paths import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("storms")]

LOCUSTFILE = PROJECT / "bench" / "storms" / "locustfile.py"
LOCUST_TIMEOUT_S = 60

LOSE_A_KEY = """
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER lose BEFORE INSERT ON whatsapp_keys FOR EACH ROW WHEN (NEW.key_id = '100007') EXECUTE FUNCTION lose();
"""

ONE_COMPANY_WAITS_IN_VAIN = """
CREATE FUNCTION wait_in_vain() RETURNS trigger LANGUAGE plpgsql
AS $$BEGIN RAISE 'canceling statement due to lock timeout' USING ERRCODE = 'lock_not_available'; END$$;
CREATE TRIGGER wait_in_vain BEFORE UPDATE ON whatsapp_keys
FOR EACH ROW WHEN (NEW.company_id = '79990000003') EXECUTE FUNCTION wait_in_vain();
"""

REFUSE_A_BURST = "ALTER TABLE whatsapp_keys ADD CHECK (company_id <> 'storm-3' OR key_id <> '100007')"


@pytest.fixture
def behind(migrated_postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection that the store doesn't know of."""
    with closing(psycopg.connect(migrated_postgres_url, autocommit=True)) as conn:
        yield conn


def keys_in(conn: psycopg.Connection) -> int:
    """The number of keys in the database."""
    row = conn.execute("SELECT count(*) FROM whatsapp_keys").fetchone()
    assert row
    return int(row[0])


def test_both_sides_of_a_reconnect_storm_do_the_same(migrated_postgres_url: str, behind: psycopg.Connection) -> None:
    storm = reconnect_storm(migrated_postgres_url, companies=8, threads=4, rounds=3)
    assert (storm.threads, storm.companies, storm.rounds) == (4, 8, 3)
    assert storm.ratio == pytest.approx(storm.store_per_s / storm.bare_per_s, rel=0.05)
    assert storm.target.met == (storm.ratio >= 0.6)
    assert 0 < storm.store_p50_ms <= storm.store_p95_ms
    assert 0 < storm.bare_p50_ms <= storm.bare_p95_ms
    assert keys_in(behind) == 8 * STATE_KEYS, "all rounds are alike"


def test_accounts_that_restart_read_and_write_all_keys(migrated_postgres_url: str) -> None:
    restarted = restart(migrated_postgres_url, accounts=6)
    assert (restarted.accounts, restarted.keys_read, restarted.keys_written) == (6, 6 * STATE_KEYS, 6 * BURST_KEYS)
    assert 0 < restarted.slowest_ms <= (restarted.took_s + 0.01) * 1000
    assert restarted.target.met == (restarted.took_s <= 5)


def test_a_key_lost_in_a_storm_is_noticed(migrated_postgres_url: str, behind: psycopg.Connection) -> None:
    behind.execute(LOSE_A_KEY)
    with pytest.raises(KeystoreError, match="3 of 6 states"):
        restart(migrated_postgres_url, accounts=3)
    behind.execute("TRUNCATE whatsapp_keys, whatsapp_auth")
    with pytest.raises(KeystoreError, match="498 keys were written of 500"):
        reconnect_storm(migrated_postgres_url, companies=2, threads=2, rounds=1)


def test_steady_companies_share_few_connections(migrated_postgres_url: str, behind: psycopg.Connection) -> None:
    traffic = steady(migrated_postgres_url, companies=60, seconds=1.5, every_s=0.5)
    assert (traffic.companies, traffic.messages, traffic.pool_timeouts) == (60, 180, 0)
    assert 1 < traffic.connections <= 16
    assert min(traffic.get_p95_ms, traffic.set_p95_ms, traffic.rush_s) > 0
    assert traffic.target.met
    used_up = sum((number + sent) % 50 == 0 for number in range(60) for sent in range(3))
    assert keys_in(behind) == 60 * STATE_KEYS - used_up


def test_a_caller_that_was_not_served_is_counted(migrated_postgres_url: str, behind: psycopg.Connection) -> None:
    behind.execute(ONE_COMPANY_WAITS_IN_VAIN)
    traffic = steady(migrated_postgres_url, companies=5, seconds=0.6, every_s=0.2)
    assert (traffic.messages, traffic.pool_timeouts) == (15, 3)
    assert not traffic.target.met


@pytest.mark.parametrize(("connections", "timeouts", "met"), [(16, 0, True), (17, 0, False), (8, 1, False)])
def test_steady_traffic_is_held_to_its_limits(connections: int, timeouts: int, met: bool) -> None:
    traffic = Steady(
        companies=1_000,
        messages=10_000,
        per_s=500.0,
        rush_s=1.0,
        get_p95_ms=5.0,
        set_p95_ms=5.0,
        connections=connections,
        pool_timeouts=timeouts,
    )
    assert traffic.target.met == met


def test_the_command_prints_all_three_and_leaves_no_database(
    postgres_site: PostgresSite, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.storms.measure.reconnect_storm", partial(reconnect_storm, companies=10))
    file = tmp_path / "storms.json"
    small = ["--rounds", "1", "--accounts", "4", "--companies", "10", "--seconds", "4"]
    code = main(["--url", postgres_site.admin_url, *small, "--json", str(file)])
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures["reconnect_storm"]["rounds"] == 1
    assert figures["restart"]["accounts"] == 4
    assert figures["steady"]["companies"] == 10
    text = capsys.readouterr().out
    assert text.count(" met") + text.count(" MISSED") == 3
    assert code == (1 if "MISSED" in text else 0)
    with closing(postgres_site.admin()) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench_storms%'").fetchall() == []


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "s3cret-of-nobody"
    assert main(["--url", f"postgresql://nobody:{secret}@127.0.0.1:1/x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert secret not in error
    for wrong in (["--url", "sqlite:///k.db"], ["--rounds", "0"], ["--seconds", "nan"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert "error: argument --" in capsys.readouterr().err


def locust(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A storm as the README starts it, with its report in `folder`."""
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(LOCUSTFILE),
        "--headless",
        "--csv",
        "storm",
        "--html",
        "storm.html",
    ]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=LOCUST_TIMEOUT_S,
        check=False,
    )


def table(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """The lines of a CSV report by the name of the call."""
    with (folder / f"storm_{name}.csv").open(encoding="utf-8", newline="") as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


@pytest.fixture
def address_file(migrated_postgres_url: str, tmp_path: Path) -> Path:
    """A file that holds the database's address."""
    file = tmp_path / "address"
    file.write_text(migrated_postgres_url + "\n", encoding="utf-8")
    return file


def test_a_locust_storm_reports_and_leaves_the_database_empty(
    address_file: Path, migrated_postgres_url: str, behind: psycopg.Connection, tmp_path: Path
) -> None:
    with open_store(migrated_postgres_url) as store:
        store.set("storm-9", {"session": {"left": b"behind"}})
    size = ["--companies", "50", "--reconnect-within", "1", "--steady-for", "3", "--budget-ms", "10000"]
    done = locust(tmp_path, "--keystore-url-file", str(address_file), *size)
    assert done.returncode == 0, done.stderr
    called = table(tmp_path, "stats")
    assert set(called) == {"reconnect", "get", "set", "consume", "Aggregated"}
    assert {row["Failure Count"] for row in called.values()} == {"0"}
    assert called["reconnect"]["Request Count"] == "50"
    assert float(called["reconnect"]["Average Content Size"]) > 100_000
    assert int(called["get"]["Request Count"]) >= 50
    assert "50 companies filled in postgresql://" in done.stderr
    reports = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("storm*"))
    assert "reconnect" in (tmp_path / "storm.html").read_text(encoding="utf-8")
    for secret in (PASSWORD, migrated_postgres_url):
        assert secret not in done.stdout + done.stderr + reports
    assert keys_in(behind) == 0


def test_a_locust_storm_over_http_starts_a_service(tmp_path: Path, address_file: Path) -> None:
    size = ["--companies", "4", "--reconnect-within", "1", "--steady-for", "3", "--budget-ms", "30000", "--http"]
    done = locust(tmp_path, "--keystore-url-file", str(address_file), *size)
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path, "stats")
    assert rows["reconnect"]["Type"] == "http"
    assert (rows["reconnect"]["Request Count"], rows["reconnect"]["Failure Count"]) == ("4", "0")
    assert int(rows["set"]["Request Count"]) > 0
    assert "kst_" not in done.stdout + done.stderr


def test_a_locust_storm_over_its_budget_fails(tmp_path: Path) -> None:
    size = ["--companies", "4", "--reconnect-within", "1", "--steady-for", "0.1", "--budget-ms", "0.001"]
    done = locust(tmp_path, *size)
    assert done.returncode == 1, done.stderr
    assert "p95 of reconnect is" in done.stderr
    assert table(tmp_path, "stats")["reconnect"]["Request Count"] == "4"
    assert table(tmp_path, "failures") == {}


def test_a_locust_storm_with_a_failed_request_fails(
    address_file: Path, behind: psycopg.Connection, tmp_path: Path
) -> None:
    behind.execute(REFUSE_A_BURST)
    size = ["--companies", "4", "--reconnect-within", "1", "--steady-for", "0.1", "--budget-ms", "10000"]
    done = locust(tmp_path, "--keystore-url-file", str(address_file), *size)
    assert done.returncode == 1, done.stderr
    assert "requests failed: 1" in done.stderr
    assert table(tmp_path, "failures")["reconnect"]["Occurrences"] == "1"
    assert keys_in(behind) == 0


def test_a_locust_storm_refuses_a_database_with_other_companies(
    address_file: Path, migrated_postgres_url: str, tmp_path: Path
) -> None:
    with open_store(migrated_postgres_url) as store:
        store.set("962302", {"session": {"a": b"1"}})
        done = locust(tmp_path, "--keystore-url-file", str(address_file), "--companies", "4")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: postgresql://")
        assert "it holds companies (1)" in done.stderr
        assert "Traceback" not in done.stderr
        assert store.companies() == ["962302"]


def test_a_locust_storm_refuses_wrong_options_in_one_line(tmp_path: Path) -> None:
    for options, code, error in (
        (["--companies", "0"], 2, "argument --companies: it is 1 or more"),
        (["--keystore-url-file", "none"], 1, "No such file or directory: 'none'"),
    ):
        done = locust(tmp_path, *options)
        assert done.returncode == code
        assert error in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
