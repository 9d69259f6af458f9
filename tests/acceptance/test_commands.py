"""The commands on the demo data set, as an operator types them, on both backends."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keystore import open_store
from keystore.schema import UPKEEP_MIGRATIONS, migration_ids
from rig.baileys_state import real_creds, real_keys
from rig.fixtures.postgres import PostgresSite
from rig.paths import PROJECT
from rig.program import RUN, environment
from tests.acceptance.in_process import run, run_json, run_refused

REPORTS = ("check", "types", "growth", "perf", "doctor")
COMMANDS = (*REPORTS, "serve", "migrate", "backfill", "sweep", "import", "export", "seed", "repair", "token", "company")
DEMO_TYPES = {"lid-mapping": (56, 56), "pre-key": (251, 0), "session": (120, 0), "lid": (172, 0)}


@pytest.fixture(params=["sqlite", "postgres"])
def seeded(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with the demo data set."""
    url = f"sqlite:///{tmp_path}/k.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    assert run_json("seed", url=url)["keys"] == 665
    address: str = url
    return address


def test_growth_prints_the_original_operator_s_arithmetic(seeded: str) -> None:
    document = run_json("growth", url=seeded)
    assert (document["total"], document["created_24h"], document["created_7d"]) == (665, 330, 425)
    assert (document["oldest_days"], document["per_day"]) == (17, 61)
    assert document["diary"] == {
        "7": {"keys": 427, "change": -238, "percent": -36},
        "14": {"keys": 854, "change": 189, "percent": 28},
    }
    text = run("growth", url=seeded).stdout
    for part in ("665", "330", "425", "61 a day", "427", "−36 %", "238", "854", "+28 %", "189"):
        assert part in text


def test_types_prints_the_original_operator_s_table(seeded: str) -> None:
    types = {row["key_type"]: row for row in run_json("types", url=seeded)["types"]}
    for key_type, (total, with_expiry) in DEMO_TYPES.items():
        row = types.pop(key_type)
        assert (row["total"], row["with_expiry"]) == (total, with_expiry)
        assert row["without_expiry"] == total - with_expiry
    assert sum(row["total"] for row in types.values()) == 66
    assert "609" in run("types", url=seeded).stdout


def test_check_counts_and_advises_the_operator(seeded: str) -> None:
    document = run_json("check", url=seeded)
    assert (document["total"], document["without_expiry"], document["companies"]) == (665, 609, 1)
    assert (document["active"], document["expired"], document["guarded"]) == (665, 0, 0)
    assert document["verdict"] == "warning"
    assert any("backfill" in advice for advice in document["advice"])
    assert seeded.rpartition("/")[2] in document["database"]
    lines = run("check", url=seeded).stdout.splitlines()
    assert "  total           665" in lines, "a line for each thing, without padding"


def test_backfill_gives_609_keys_an_expiry_and_enforces_it(
    seeded: str, database_rows: Callable[[str, str], list[tuple[Any, ...]]]
) -> None:
    would = run_json("backfill", "--dry-run", url=seeded)
    assert (would["updated"], run_json("check", url=seeded)["without_expiry"]) == (609, 609)
    done = run_json("backfill", "--enforce", url=seeded)
    assert (done["updated"], done["by_type"], done["enforced"]) == (609, would["by_type"], True)
    assert sum(done["by_type"].values()) == 609
    assert run_json("check", url=seeded)["without_expiry"] == 0
    assert run_json("backfill", "--enforce", url=seeded)["updated"] == 0
    if seeded.startswith("postgresql"):
        with (
            psycopg.connect(seeded) as conn,
            pytest.raises(psycopg.errors.CheckViolation, match="whatsapp_keys_expiry_required"),
        ):
            conn.execute("UPDATE whatsapp_keys SET expires_at = NULL")


def test_repair_gives_172_rows_their_type_back_once(seeded: str) -> None:
    with open_store(seeded) as store:
        lid = store.load("demo").keys["lid"]
    listed = run_json("repair", "--dry-run", url=seeded)
    assert (listed["moved"], len(listed["moves"])) == (172, 172)
    assert run_json("repair", url=seeded)["by_type"] == {"lid → lid-mapping": 172}
    with open_store(seeded) as store:
        rows = store.export_rows("demo")
        wanted = {key_id.removeprefix("mapping-"): value for key_id, value in lid.items()}
        assert store.get("demo", "lid-mapping", wanted) == wanted
    types = {row["key_type"]: row["total"] for row in run_json("types", url=seeded)["types"]}
    assert types["lid-mapping"] == 56 + 172
    assert "lid" not in types
    assert run_json("repair", url=seeded)["moved"] == 0
    with open_store(seeded) as store:
        assert [row.value for row in store.export_rows("demo")] == [row.value for row in rows]


def test_perf_times_the_demo_company_and_rates_it(seeded: str) -> None:
    document = run_json("perf", url=seeded)
    assert (document["company"], document["keys"], document["budget_ms"]) == ("demo", 665, 750)
    assert document["rating"] == "excellent"
    assert min(document["load_ms"], document["get_ms"], document["burst_ms"]) > 0
    assert document["size_bytes"] > 100_000
    assert run_json("types", url=seeded)["total"] == 665
    assert run_json("perf", url=seeded, KEYSTORE_LOAD_BUDGET_MS="0.001")["within_budget"] is False


def test_sweep_reports_its_deletions_and_writes_the_daily_records(seeded: str) -> None:
    assert run_json("sweep", "--dry-run", url=seeded)["deleted"] == 0
    document = run_json("sweep", url=seeded)
    assert (document["deleted"], document["by_type"]) == (0, {})
    assert document["took_ms"] > 0
    assert run_json("check", url=seeded)["last_sweep"]["finished_at"]
    assert [count["total"] for count in run_json("growth", url=seeded)["history"]] == [665]


def test_a_baileys_folder_goes_in_and_out_and_the_archive_too(seeded: str, tmp_path: Path) -> None:
    with open_store(seeded) as store:
        store.set("bot", real_keys(), creds=real_creds())
    folder, archive = str(tmp_path / "auth"), str(tmp_path / "bot.jsonl")
    assert run_json("export", folder, "--company", "bot", url=seeded)["verified"] == 721
    assert run_json("export", archive, "--company", "bot", url=seeded)["verified"] == 721
    assert len(list(Path(folder).iterdir())) == 722
    done = run_json("import", folder, "--company", "again", "--delete-source", url=seeded)
    assert (done["verified"], done["creds"], done["deleted_files"], done["skipped"]) == (721, True, 722, [])
    assert run_json("import", archive, "--company", "third", url=seeded)["verified"] == 721
    with open_store(seeded) as store:
        original = store.load("bot")
        assert original.total == 721
        assert store.load("third") == original
        as_json = {key_type: {i: json.loads(v) for i, v in ids.items()} for key_type, ids in original.keys.items()}
        again = store.load("again")
        assert {t: {i: json.loads(v) for i, v in ids.items()} for t, ids in again.keys.items()} == as_json
    assert list(Path(folder).iterdir()) == []


def test_doctor_reports_each_check_and_fails_if_one_failed(seeded: str) -> None:
    document = run_json("doctor", url=seeded)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["database"]["status"] == "ok"
    assert (checks["ttl"]["status"], checks["expiry"]["status"]) == ("ok", "warning")
    diary = run_json("doctor", url=seeded, KEYSTORE_TTL="diary")
    short_lived = {check["name"]: check for check in diary["checks"]}["ttl"]
    assert short_lived["status"] == "warning"
    assert "Set KEYSTORE_TTL=careful" in short_lived["detail"]
    for settings, name in (
        ({"KEYSTORE_TLL": "7d"}, "settings"),
        ({"TELEGRAM_BOT_TOKEN": "S3CRET"}, "telegram"),
        ({"KEYSTORE_URL": "postgresql://bot:S3CRET@127.0.0.1:1/bots"}, "database"),
    ):
        done = run("doctor", "--json", url=seeded, settings=settings)
        assert done.returncode == 1
        failed = [check["name"] for check in json.loads(done.stdout)["checks"] if check["status"] == "failed"]
        assert failed == [name]
        assert "S3CRET" not in done.stdout + done.stderr


def test_migrate_adopts_a_legacy_database_and_reports_its_steps(postgres_site: PostgresSite, postgres_url: str) -> None:
    _make_legacy_tables(postgres_site, postgres_url)
    assert "migrate --attach" in run_refused("check", url=postgres_url)
    pending = run_json("migrate", "--dry-run", url=postgres_url)["pending"]
    assert pending == migration_ids(is_server=True)
    upkeep_tables = list(UPKEEP_MIGRATIONS)
    assert run_json("migrate", "--attach", "--dry-run", url=postgres_url)["pending"] == upkeep_tables
    attached = run_json("migrate", "--attach", url=postgres_url)["applied"]
    assert attached == upkeep_tables
    assert run_json("check", url=postgres_url)["without_expiry"] == 1
    assert run_json("growth", url=postgres_url)["total"] == 1
    assert "not converted yet" in run_refused("perf", url=postgres_url)
    assert "not while a bot writes" in run_refused("backfill", "--enforce", url=postgres_url)
    assert run_json("check", url=postgres_url)["without_expiry"] == 1, "refused before anything was changed"
    assert run_json("sweep", url=postgres_url)["deleted"] == 0
    checks = {check["name"]: check for check in run_json("doctor", url=postgres_url)["checks"]}
    assert "only the watch" in checks["schema"]["detail"]
    applied = run_json("migrate", url=postgres_url)["applied"]
    assert attached + applied != pending
    assert sorted(attached + applied) == sorted(pending)
    assert run("migrate", url=postgres_url).stdout == "nothing to apply\n"
    with open_store(postgres_url) as store:
        assert json.loads(store.get("1", "mine", ["a"])["a"]) == {"a": 1}
    assert run_json("backfill", "--enforce", url=postgres_url)["enforced"]


def _make_legacy_tables(site: PostgresSite, url: str) -> None:
    migrations = PROJECT / "migrations" / "postgres"
    with closing(psycopg.connect(url, autocommit=True)) as conn:
        for name in ("20251007_create_whatsapp_auth_tables.sql", "20251008_optimize_whatsapp_keys.sql"):
            conn.execute((migrations / name).read_bytes())
        conn.execute(
            "INSERT INTO whatsapp_keys (company_id, key_type, key_id, value) VALUES ('1', 'mine', 'a', '{\"a\": 1}')"
        )


def test_a_terminal_that_cannot_show_a_character_is_no_error(seeded: str) -> None:
    for charset in ("ascii", "latin-1"):
        for command in (["growth"], ["repair", "--dry-run", "--json"]):
            done = run(*command, url=seeded, charset=charset)
            assert (done.returncode, done.stderr) == (0, "")


def test_errors_of_a_command_with_json_are_json(tmp_path: Path) -> None:
    for args, code, part in (
        (["check", "--json"], 1, "no such file"),
        (["check", "--json", "--nonsense"], 2, "--nonsense"),
    ):
        done = run(*args, url=f"sqlite:///{tmp_path}/k.db")
        assert (done.returncode, done.stdout) == (code, "")
        document = json.loads(done.stderr)
        assert document["exit_code"] == code
        assert part in document["error"]


@pytest.mark.slow
def test_a_full_disk_behind_standard_output_is_one_clear_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    assert run("seed", url=url).returncode == 0
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, RUN, "types"],
            env=environment(url, {}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output can't be written")
    assert done.stderr.count("\n") == 1


def test_the_demo_is_not_written_beside_other_companies_unasked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    with open_store(url) as store:
        store.set("962302", {"session": {"a": b"A"}})
    assert "1 company beside the demo" in run_refused("seed", url=url)
    assert run_json("seed", "--yes", url=url)["keys"] == 665
    assert run("seed", "--company", "second", url=url).returncode == 1


def test_reports_date_the_totals_of_the_last_30_days(seeded: str) -> None:
    run_json("sweep", url=seeded)
    for report in ("check", "types"):
        (at,) = run_json(report, url=seeded)["totals_30d_at"]
        assert datetime.fromisoformat(at).tzinfo is not None


def test_mis_split_rows_are_reported_with_the_command_that_corrects_them(seeded: str) -> None:
    for report in ("check", "types"):
        assert any("172 keys" in advice and "repair" in advice for advice in run_json(report, url=seeded)["advice"])
    checks = {check["name"]: check for check in run_json("doctor", url=seeded)["checks"]}
    assert "repair" in checks["types"]["detail"]
    run_json("repair", url=seeded)
    assert run_json("types", url=seeded)["advice"] == []


def test_a_dry_run_of_enforcing_says_what_the_database_would_refuse(seeded: str) -> None:
    text = run("backfill", "--enforce", "--dry-run", url=seeded).stdout
    assert "the database would then refuse every write of a key without expiry" in text
    assert "would then refuse" not in run("backfill", "--dry-run", url=seeded).stdout


def test_help_describes_every_command() -> None:
    text = run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in text
        done = run(command, "--help")
        assert done.returncode == 0
        assert "--help" in done.stdout
