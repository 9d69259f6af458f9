"""The npm package: its own tests, its README's example and options, and its dependencies."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from keystore import open_store
from rig.npm import CLIENT, npm
from rig.relay import free_port
from tests.acceptance.in_process import run_json
from tests.clients.packages import LONG_NAMED
from tests.clients.restartable_service import RestartableService

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("client_package")]


def test_its_own_tests_pass(client: Path) -> None:
    npm(client, "test")


def examples(client: Path) -> list[str]:
    """The programs of the README."""
    programs = re.findall(r"```ts\n(.*?)```", (client / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 2
    return programs


def compiled(client: Path, folder: Path, programs: dict[str, str], *flags: str) -> Path:
    """Compile programs beside a bot's packages, and return their folder, which is this test worker's own."""
    place = folder / "node_modules" / f".example-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, program in programs.items():
        (place / name).write_text(program, encoding="utf-8")
    options = ["--strict", "--exactOptionalPropertyTypes", "--skipLibCheck", "--module", "nodenext", *flags]
    done = subprocess.run(
        [str(client / "node_modules" / ".bin" / "tsc"), *options, "--target", "es2022", "--types", "node", *programs],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return place


WRONG = "// @ts-expect-error The state has the types of Baileys.\nconst wrong: number = {}.creds.advSecretKey\n"

COMMON = f"""import {{ KeystoreError, useKeystoreAuthState }} from 'signal-keystore-baileys'
export async function main(): Promise<void> {{
  const {{ state }} = await useKeystoreAuthState({{ url: '', company: '', instance: undefined }})
  {WRONG.format("state")}
  throw new KeystoreError(String(wrong))
}}
"""


HANDED_IN = """import * as baileys from 'baileys'
import { useKeystoreAuthState } from 'signal-keystore-baileys'
await useKeystoreAuthState({ url: '', company: '', baileys })
"""


def test_the_types_are_those_of_each_baileys_as_a_module_and_as_commonjs(client: Path, each_baileys: Path) -> None:
    first, second = examples(client)
    programs = {
        "first.mts": first + WRONG.format("state"),
        "second.mts": second + WRONG.format("first.state"),
        "common.cts": COMMON,
        "handed.mts": HANDED_IN,
    }
    compiled(client, each_baileys, programs, "--noEmit")


def test_baileys_under_its_longer_name_and_one_that_is_handed_in_work(
    client: Path, long_named: Path, tmp_path: Path
) -> None:
    first = examples(client)[0].replace("from 'baileys'", "from '@whiskeysockets/baileys'")
    programs = {"first.mts": first + WRONG.format("state"), "common.cts": COMMON}
    compiled(client, long_named, programs, "--noEmit")
    assert not (long_named / "node_modules" / "baileys").exists()
    with RestartableService(f"sqlite:///{tmp_path}/k.db", tmp_path, free_port()) as service:
        service.admit("acme")
        options = json.dumps(service.keystore(token=service.token))
        done = subprocess.run(
            ["node", str(Path(__file__).with_name("common.cjs")), options, "@whiskeysockets/baileys"],
            cwd=long_named,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with open_store(service.database_url) as store:
            assert store.load("acme").keys == {"session": {"a": b'{"type":"Buffer","data":"AQ=="}'}}


COMPANIES = ("962302", "962303")


def test_the_readmes_examples_run(client: Path, baileys: Path, running_service: RestartableService) -> None:
    service = running_service
    first, second = examples(client)
    programs = {"first.mts": first + "console.log('ready')\n", "second.mts": second}
    place = compiled(client, baileys, programs, "--noCheck", "--noResolve")
    env = {"PATH": os.environ["PATH"], "NODE_OPTIONS": f"--import={Path(__file__).with_name('offline.mjs')}"}
    if service.straight:
        options = [part for company in COMPANIES for part in ("--company", company)]
        env["KEYSTORE_URL"] = run_json("role", "create", *options, url=service.database_url)["address"]
    else:
        made = run_json("token", "create", "--admin", url=service.database_url)
        env |= {"KEYSTORE_URL": service.address, "KEYSTORE_TOKEN": made["token"]}
    with open_store(service.database_url) as store:
        done = subprocess.run(
            ["node", "second.mjs"], cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        bot = subprocess.Popen(["node", "first.mjs"], cwd=place, env=env, stdout=subprocess.PIPE, text=True)
        with bot:
            try:
                assert bot.stdout is not None
                assert "ready\n" in iter(bot.stdout.readline, "")
                assert store.last_write("962302")[0] == 2, "each example has taken the lease"
                bot.send_signal(signal.SIGTERM)
                assert bot.wait(30) == 0
            finally:
                bot.kill()
        for company in COMPANIES:
            assert not any(summary.lease for summary in store.company_page(company).companies)


def test_the_readme_names_every_option(client: Path) -> None:
    sources = "".join(
        (client / "src" / f"{name}.ts").read_text(encoding="utf-8") for name in ("auth-state", "keystore")
    )
    interfaces = re.findall(
        r"export interface (?:Account|Keystore|Connect)Options(?: extends \w+)? \{\n(.*?)\n\}", sources, re.DOTALL
    )
    assert len(interfaces) == 3
    declared = set(re.findall(r"^  (\w+)\??:", "\n".join(interfaces), re.MULTILINE))
    readme = (client / "README.md").read_text(encoding="utf-8")
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", readme, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert documented == declared


def test_it_installs_nothing_beside_the_baileys_that_a_bot_has() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert set(package["peerDependencies"]) == {"baileys", "@whiskeysockets/baileys", "pg"}
    assert package["peerDependenciesMeta"] == {name: {"optional": True} for name in package["peerDependencies"]}


def test_no_committed_file_names_a_registry() -> None:
    for lock in [*CLIENT.rglob("package-lock.json"), *LONG_NAMED.glob("package-lock.json")]:
        if "node_modules" not in lock.parts:
            assert '"resolved"' not in lock.read_text(encoding="utf-8"), lock
