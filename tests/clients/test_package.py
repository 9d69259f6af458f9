"""The npm package: its own tests, its README's example and options, and its dependencies."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.packages import CLIENT, npm

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("client_package")]


def test_its_own_tests_pass(client: Path) -> None:
    npm(client, "test")


def test_the_readmes_examples_have_the_types_of_each_baileys(client: Path, each_baileys: Path) -> None:
    examples = re.findall(r"```ts\n(.*?)```", (client / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    folder = each_baileys / "node_modules" / ".example"
    folder.mkdir(exist_ok=True)
    for number, example in enumerate(examples):
        (folder / f"bot{number}.ts").write_text(example, encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--types", "node"]
    compiled = subprocess.run(
        [str(client / "node_modules" / ".bin" / "tsc"), *flags, *map(str, sorted(folder.glob("bot*.ts")))],
        cwd=each_baileys,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout


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


def test_it_depends_on_baileys_and_for_postgres_on_pg() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert set(package["peerDependencies"]) == {"baileys", "pg"}
    assert package["peerDependenciesMeta"] == {"pg": {"optional": True}}


def test_no_committed_file_names_a_registry() -> None:
    for lock in CLIENT.rglob("package-lock.json"):
        if "node_modules" not in lock.parts:
            assert '"resolved"' not in lock.read_text(encoding="utf-8"), lock
