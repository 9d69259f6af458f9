"""An export or an import that is killed in the middle leaves no half archive and no half company."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keystore import open_store
from rig.paths import PROJECT
from rig.program import RUN, environment
from rig.waiting import eventually
from tests.acceptance.in_process import run, run_json
from tests.conformance.sealing.stored import OLD_KEY
from tests.monitor.backup.databases import contents

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SEALED = {"KEYSTORE_SECRET_KEYS": OLD_KEY}
COMPANIES = 150


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """The address of a database whose export and import take a second or more."""
    address: str = request.getfixturevalue(f"migrated_{request.param}_url")
    keys = {"session": {f"{n}": b"%d" % n * 500 for n in range(60)}}
    with open_store(address, secret_keys=OLD_KEY) as store:
        for company in range(COMPANIES):
            store.set(f"{company}", keys, creds=b"%d" % company)
    return address


def kill_once(begun: Callable[[], bool], *command: str, url: str) -> None:
    """Start a command, and send it SIGKILL when it has begun. Fails if it ended by itself before that."""
    process = subprocess.Popen(
        [sys.executable, RUN, *command],
        env=environment(url, SEALED),
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: begun() or process.poll() is not None, "it begins")
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.kill()
        process.wait(10)


def test_a_killed_export_leaves_nothing_under_the_name(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    backup = folder / "all.jsonl"

    def begun() -> bool:
        return any(file.stat().st_size > 100_000 for file in folder.glob(".all.jsonl.partial-*/*"))

    kill_once(begun, "export", "--all", str(backup), url=url)
    assert not backup.exists()
    backup.write_bytes(b"former")
    kill_once(begun, "export", "--all", str(backup), "--force", url=url)
    assert backup.read_bytes() == b"former"
    assert len(list(folder.iterdir())) == 2
    assert run_json("export", "--all", str(backup), "--force", url=url, **SEALED)["companies"] == COMPANIES
    assert [file.name for file in folder.iterdir()] == ["all.jsonl"], "the next export removes what is left"
    assert run_json("verify", str(backup), url=url, **SEALED)["good"]


def test_a_killed_import_is_repeated_and_does_the_rest(url: str, tmp_path: Path) -> None:
    backup, restored = tmp_path / "all.jsonl", f"sqlite:///{tmp_path}/restored.db"
    run_json("export", "--all", str(backup), url=url, **SEALED)
    with open_store(restored, secret_keys=OLD_KEY) as target, open_store(url, secret_keys=OLD_KEY) as source:
        kill_once(lambda: len(target.companies()) >= 5, "import", str(backup), url=restored)
        present = target.companies()
        assert 5 <= len(present) < COMPANIES
        for company in present:
            assert target.load(company) == source.load(company), "a company is there whole or not at all"
        assert run("import", str(backup), url=restored, settings=SEALED).returncode == 0
        assert contents(target) == contents(source)
